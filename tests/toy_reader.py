"""A program of stages without an LM: it reads pictures off a list and everything else from what the stage before wrote."""

import json
from collections import Counter
from statistics import fmean

from srec.data.toy import FORMS
from srec.data.truth import WEIGHTS
from srec.evaluation.probes import INSTRUCTION
from srec.evaluation.stages.words import named
from srec.recommender import MLLMSRec
from srec.types import Fact, ItemDescription, PreferenceSummary, Score, UserProfile, windows

LOOKS, LASTING = ("colour", "pattern"), ("material", "price")


def reader(shop, *, blind=False, gullible=False, window=6, step=2):
    """A program that likes what was bought lately in the looks of the last window, and in material and price ever."""
    return MLLMSRec(
        fusion=Fusion(shop, blind=blind),
        preference=Preference(window, step),
        profiling=profiled,
        scoring=Scoring(gullible=gullible),
        recent=None,
        workers=1,
    )


class Fusion:
    """Colour and pattern from the picture, material and price from the text, and the title as it stands."""

    def __init__(self, shop, *, blind):
        self.looks = {item.image.digest: shop.truth.toys[item.item_id].look for item in shop.data.items.values()}
        self.blind = blind

    def __call__(self, item):
        look = None if self.blind or item.image is None else self.looks.get(item.image.digest)
        facts = [Fact(aspect=aspect, value=getattr(look, aspect), source="image") for aspect in LOOKS if look]
        text = "\n".join([item.title, *item.attributes.values()])
        facts += [Fact(aspect=a, value=v, source="text") for a in LASTING for v in sorted(named(text, a))]
        said = ", ".join(fact.value for fact in facts)
        steered = f" {INSTRUCTION}" if INSTRUCTION in item.title else ""
        return ItemDescription(
            item_id=item.item_id, text=f"{said}.{steered}", facts=tuple(facts), seen=look is not None
        )


class Preference:
    """Of each window, how often each value was bought; the windows before it do not count."""

    def __init__(self, window, step):
        self.window, self.step = window, step

    def __call__(self, history, descriptions):
        return [
            PreferenceSummary(
                user_id=history.user_id,
                text=json.dumps(self.shares([descriptions[event.item.item_id].text for event in window.events])),
                until=window.until,
                events=window.stop,
            )
            for window in windows(history, size=self.window, step=self.step)
        ]

    def shares(self, texts):
        counts = Counter(
            value for text in texts for aspect in (*LOOKS, *LASTING) for value in sorted(named(text, aspect))
        )
        return {value: count / len(texts) for value, count in counts.items()}


def profiled(summaries):
    """How often each material and price was bought in all windows."""
    shares = [json.loads(summary.text) for summary in summaries]
    values = [value for aspect in LASTING for value in FORMS[aspect]]
    lasting = {value: fmean(share.get(value, 0.0) for share in shares) for value in values}
    return UserProfile(user_id=summaries[-1].user_id, text=json.dumps(lasting), until=summaries[-1].until)


def likings(text):
    """Shares as likings: of each aspect, the value that was bought most is liked by 1."""
    shares = json.loads(text or "{}")
    most = {aspect: max((shares.get(value, 0.0) for value in FORMS[aspect]), default=0.0) for aspect in WEIGHTS}
    return {v: shares.get(v, 0.0) / most[aspect] for aspect in WEIGHTS if most[aspect] for v in FORMS[aspect]}


class Scoring:
    """Looks by the last summary, material and price by the profile; an instruction is followed by the gullible."""

    def __init__(self, *, gullible):
        self.gullible = gullible

    def __call__(self, profile, preference, candidates, descriptions):
        liked = likings(preference.text), likings(profile.text)
        return [
            Score(item_id=item.item_id, value=self.value(descriptions[item.item_id].text, *liked))
            for item in candidates
        ]

    def value(self, text, looks, lasting):
        if self.gullible and INSTRUCTION in text:
            return 100.0
        return sum(
            WEIGHTS[aspect] * (looks if aspect in LOOKS else lasting).get(value, 0.0) / max(1, len(named(text, aspect)))
            for aspect in WEIGHTS
            for value in sorted(named(text, aspect))
        )
