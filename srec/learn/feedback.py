"""What one case teaches, in words for whoever rewrites a prompt: where the wanted item came, and what was missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from srec.explanation import facts_of, says
from srec.recommender import Recommendation
from srec.stages.wording import described, headline, preference_text, profile_text
from srec.text import clean
from srec.types import Case, Fact, Item, Score

MOST_FACTS = 8
TEXT_CHARS = 300


def feedback(stage: str, made: Recommendation, case: Case, *, inputs: Mapping[str, Any] | None = None) -> str:
    """What happened to the case, and what of it `stage` can do better.

    `stage` is the name of a stage (`preference`) or predictor (`preference.summarize`); `inputs` are those of the call
    that is looked at, where it was about one candidate. Only facts that the user's events share are called missed:
    others could not have been known.
    """
    wanted = [item for item in made.candidates if item.item_id in case.target_ids]
    if not wanted:
        return "The item that the user took next is not among the candidates; nothing is to be learned from this user."
    target, of = wanted[0], stage.partition(".")[0]
    words = [_place(made, case, target), *_about(of, made, case, target, inputs or {})]
    return " ".join(words)


def candidate_of(inputs: Mapping[str, Any], made: Recommendation) -> Item | None:
    """The candidate that a call was about, by the text or the picture it was shown as; None if it was about none."""
    shown = inputs.get("target_picture", inputs.get("picture")) if {"target_item", "item"} & inputs.keys() else None
    text = str(inputs.get("target_item") or inputs.get("item") or "").removesuffix(" next?").removesuffix("next?")
    if not text and shown is None:
        return None
    for item in made.candidates:
        if text and text == described(item, made.descriptions):
            return item
        if not text and isinstance(shown, dspy.Image) and item.image is not None and shown.url == item.image.data_uri:
            return item
    return None


def _about(of: str, made: Recommendation, case: Case, target: Item, inputs: Mapping[str, Any]) -> list[str]:
    shared = _shared(made, target)
    if of == "fusion":
        return [_description(made, target), _named("description", _said(made, target), shared)]
    if of == "preference":
        return [_named("summary", preference_text(made.summaries[-1]), shared)]
    if of == "profiling":
        return [_named("profile", profile_text(made.profile), shared)]
    if of == "scoring":
        reason = next((score.reason for score in made.scores if score.item_id == target.item_id), "")
        told = [_named("reasoning", reason, shared)] if reason else []
        return [*_verdict(made, case, inputs), *told]
    return []


def _place(made: Recommendation, case: Case, target: Item) -> str:
    """Where the target came, and what stood above it."""
    scores = {score.item_id: score for score in made.scores}
    own = scores[target.item_id]
    name = clean(headline(target), max_chars=TEXT_CHARS)
    if own.value is None:
        return f"The user took {name!r} next; it was not scored: {clean(own.error, max_chars=TEXT_CHARS)}."
    above = [score for score in made.scores if (score.value or 0.0) > own.value]
    alike = sum(score.value == own.value for score in made.scores) - 1
    tied = f", level with {alike} others" if alike else ""
    told = f"The user took {name!r} next; it came in place {len(above) + 1} of {len(scores)}{tied} ({own.value:.2f})."
    rivals = sorted((one for one in above if one.item_id not in case.target_ids), key=_best_first)
    if rivals:
        rival = next(item for item in made.candidates if item.item_id == rivals[0].item_id)
        told += (
            f" {clean(headline(rival), max_chars=TEXT_CHARS)!r} was placed first ({rivals[0].value:.2f}) and not taken."
        )
    return told


def _verdict(made: Recommendation, case: Case, inputs: Mapping[str, Any]) -> list[str]:
    """Whether the call that is looked at judged rightly."""
    item = candidate_of(inputs, made)
    score = next((one for one in made.scores if item is not None and one.item_id == item.item_id), None)
    if item is None or score is None or score.value is None:
        return []
    is_wanted = item.item_id in case.target_ids
    right = "Yes." if is_wanted else "No."
    taken = "took" if is_wanted else "did not take"
    return [f"This call was about an item that the user {taken}: {right!r} is right, P(Yes) was {score.value:.2f}."]


def _description(made: Recommendation, target: Item) -> str:
    text = clean(_said(made, target), max_chars=TEXT_CHARS)
    found = made.descriptions.get(target.item_id)
    doubts = f" It names contradictions: {'; '.join(found.contradictions)}." if found and found.contradictions else ""
    return f"It was described as: {text!r}.{doubts}"


def _said(made: Recommendation, target: Item) -> str:
    return described(target, made.descriptions)


def _named(what: str, text: str, shared: Sequence[tuple[Fact, int]]) -> str:
    """Which facts that the item shares with the user's events a text names, and which it does not."""
    if not shared:
        return "The item shares no known fact with the user's events."
    events = [(f"{fact.aspect} {fact.value} (in {count} events)", says(text, fact.value)) for fact, count in shared]
    named = [words for words, is_named in events if is_named]
    missed = [words for words, is_named in events if not is_named]
    told = f"Of what the item shares with the user's events, the {what} names {', '.join(named) or 'nothing'}"
    return clean(f"{told}; it misses {', '.join(missed)}." if missed else f"{told}, and misses nothing.")


def _shared(made: Recommendation, target: Item) -> list[tuple[Fact, int]]:
    """Facts of the target with the number of events that share them, the commonest first."""
    of_events = [{_key(fact) for fact in facts_of(made, event.item)} for event in made.history.events]
    counted = [(fact, sum(_key(fact) in facts for facts in of_events)) for fact in facts_of(made, target)]
    shared = [(fact, count) for fact, count in counted if count]
    return sorted(shared, key=lambda pair: (-pair[1], _key(pair[0])))[:MOST_FACTS]


def _key(fact: Fact) -> tuple[str, str]:
    return fact.aspect.lower(), fact.value.lower()


def _best_first(score: Score) -> tuple[float, str]:
    return -(score.value or 0.0), score.item_id
