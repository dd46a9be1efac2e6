"""A dataset folder as a school: the student learns from what some users did, and is tested on others.

No teacher is at hand offline, so what the judge reads of a user is listed by rule and not written by an LM: the last
items in order, the genres or types that came most. The verdicts come from real labels (the paper's Table 1). Under
global time, what is taught lies before the first cut-off.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measured import changed, measured, note, told_of, with_lm
from pace import Rows, fitting

import srec
from srec.data.cases import CaseSet, LeakWarning
from srec.data.folder import Dataset
from srec.data.part import before_last, part
from srec.data.splits import cutoffs_of
from srec.evaluation.changes import grey_for_none, shuffled, with_items, without_picture, without_text
from srec.evaluation.rankers import BASELINES
from srec.evaluation.trec import read_run
from srec.learn.rows import read_rows
from srec.stages.scoring import View
from srec.stages.wording import described
from srec.types import History, Item, ItemDescription, PreferenceSummary, UserProfile

NEGATIVES = 20
EVENTS = 12  # the last so many are told
KINDS = 4
DEV_USERS = 30
STEP_BACK = 2  # training cases of a user end so many events before each other
BLENDED = ("markov", "item-knn", "recent-popularity", "content-knn")
NO_TEXT = {"no_text": partial(with_items, change=without_text)}
OF_PICTURES = {
    "no_image": partial(with_items, change=without_picture),
    "grey_for_none": partial(with_items, change=grey_for_none),
}
CONFIG = srec.TrainConfig(
    epochs=1, learning_rate=5e-4, batch_rows=42, batch_positions=2560, ranking=1.0, checkpoint_every=25
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How a dataset is told: the attributes that are shown, and the one whose values say what a user likes."""

    shown: tuple[str, ...]
    kind: str
    kinds: str  # of an item without one
    seen: str
    who: str

    def listed(self, history: History, descriptions: Mapping[str, ItemDescription]) -> list[PreferenceSummary]:
        """The last events as they are, oldest first, and the most frequent kinds of all that is read."""
        kinds = Counter(kind for event in history.events for kind in self._kinds(event.item))
        told = (
            f"{described(event.item, descriptions)}{'' if event.rating is None else f' rated {event.rating:g}'}"
            for event in history.events[-EVENTS:]
        )
        return [
            PreferenceSummary(
                user_id=history.user_id,
                until=history.events[-1].at,
                events=len(history),
                text=f"{self.seen} of late, oldest first: {'; '.join(told)}.",
                stable=tuple(kind for kind, _ in kinds.most_common(KINDS)),
            )
        ]

    def named(self, summaries: Sequence[PreferenceSummary]) -> UserProfile:
        """Somebody of these kinds."""
        last = summaries[-1]
        text = f"{self.who} {', '.join(last.stable) or self.kinds}"
        return UserProfile(user_id=last.user_id, until=last.until, text=text)

    def _kinds(self, item: Item) -> list[str]:
        return [kind for kind in item.attributes.get(self.kind, "").split("|") if kind]


FILMS = Words(shown=("year", "genres"), kind="genres", kinds="films", seen="seen", who="a watcher of")
WINES = Words(shown=("type", "body", "country"), kind="type", kinds="wines", seen="drunk", who="a drinker of")
WORDS = {"xwines-slim": WINES}


def program(words: Words = FILMS, *, view: View = "description") -> srec.MLLMSRec:
    """Titles and a few attributes; the judge in the words of the paper."""
    return srec.MLLMSRec(
        fusion=srec.ItemFusion(questions=(), write="composed", attributes=words.shown),
        preference=words.listed,
        profiling=words.named,
        scoring=srec.CoTScoring(reasoning="none", view=view),
        recent=50,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Tune on some users' labels, test on others, beside all rankers on the same candidates."""
    theirs = {named_of(path): read_run(path) for path in options.rivals or ()}  # what is wrong is said before training
    blends = [BLENDED, *([(*BLENDED, best(options.rivals))] if options.rivals else [])]
    data = srec.load(options.world)
    out = options.out / "-".join((data.name, str(options.seed), *map(plain, asked_for(options))))
    out.mkdir(parents=True, exist_ok=True)
    base = options.base or "smollm2-135m"
    order = drawn(data, options.seed)
    test, dev, training = order[: options.users], order[options.users :][:DEV_USERS], order[options.users + DEV_USERS :]
    words = WORDS.get(data.name, FILMS)
    chosen, student = program(words, view=options.view), srec.connect(f"local:{base}")

    def rows_of(cases: Sequence[srec.Case], name: str, users: Sequence[str]) -> Rows:
        place = {"out": out / "rows", "file": f"{name}.jsonl"}  # all in one folder, which has their pictures
        report = srec.verdict_rows(
            chosen, cases, lm=student, negatives="1:20", users=users, workers=options.workers, **place
        )
        return list(read_rows(report.path)), out / "rows"

    def lesson(count: int) -> Rows:
        return rows_of(_earlier(data, training, count, options=options), f"taught-{count}", training)

    pupils = options.pupils or fitting(lesson, base=base, config=CONFIG, minutes=options.budget, folder=out)
    rows, images = lesson(pupils)
    looked, _ = rows_of(_earlier(data, dev, DEV_USERS, options=options), "dev", dev)
    lora = srec.train(
        rows, base=f"local:{base}", out=out / f"lora-{pupils}", config=CONFIG, dev=looked, images=images, progress=note
    )
    tested = of_users(data, test[: options.only], options=options)
    taught = with_lm(chosen, srec.connect(f"local:{base}#{lora.folder}"))
    systems: dict[str, Any] = {name: name for name in BASELINES} | theirs
    systems |= {"base": with_lm(chosen, student), "lora": taught}
    ablations = {**NO_TEXT, **(OF_PICTURES if options.view != "description" else {})}
    ablations["shuffled"] = partial(shuffled, seed=options.seed, read=taught.read)
    systems |= {f"lora_{name}": changed(taught, change) for name, change in ablations.items()}
    pairs = []
    for names, parts in ((names, {name: systems[name] for name in names}) for names in blends):
        without = "+".join(("blend", *names[len(BLENDED) :]))
        systems[without] = srec.Blend.like(tested, parts, users=options.blend_users)
        systems[f"{without}+lora"] = srec.Blend.like(tested, {**parts, "lora": taught}, users=options.blend_users)
        pairs += [(f"{without}+lora", other) for other in (without, "markov", *theirs)] + [(without, "markov")]
    found = measured(tested, systems, served=chosen, lora=lora, base=base, options=options, folder=out, pairs=pairs)
    return {
        "world": f"{data.name}, task {options.task}, seed {options.seed}",
        "test": f"users without a training case, {tested.protocol}, {tested.candidates}",
        **found,
        **told_of(rows, lora, pupils=pupils, base=base, options=options),
        "reasoning": "none",
    }


def asked_for(options: argparse.Namespace) -> list[str]:
    """What is asked, as far as it is told in the name of a folder."""
    return [options.task, *([options.protocol] if options.protocol != "leave-last-out" else [])]


def plain(spelling: str) -> str:
    """A task as part of a folder's name."""
    return spelling.replace(":", "-")


def named_of(run: Path) -> str:
    """The name of the system whose run lies at `NAME-RULE.run`."""
    return run.stem.rpartition("-")[0] or run.stem


def best(runs: Sequence[Path]) -> str:
    """The system that was best on validation, as the `.json` beside its run says."""

    def reached(run: Path) -> float:
        if not (beside := run.with_suffix(".json")).is_file():
            raise SystemExit(f"--rivals {run}: {beside.name} is not beside it; give runs that evals/baselines wrote")
        return float(json.loads(beside.read_text("utf-8"))["folds"][-1]["validation_ndcg@10"])

    return named_of(max(runs, key=reached))


def drawn(data: Dataset, seed: int) -> list[str]:
    """All users in the order in which they are taken: for the test, for development, for training."""
    users: list[str] = np.random.default_rng(seed).permutation(data.users).tolist()
    return users


def of_users(data: Dataset, users: Sequence[str], *, options: argparse.Namespace) -> CaseSet:
    """The cases of these users. Rankers are fitted on all other events, as everywhere."""
    return _cases(data, users, task=options.task, protocol=options.protocol, rule=options.candidates, seed=options.seed)


def _cases(data: Dataset, users: Sequence[str], *, task: str, protocol: str, rule: str, seed: int) -> CaseSet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        every = srec.cases(data, task=task, protocol=protocol, candidates=rule, seed=seed)
    return every.without(set(data.users) - set(users))


def _earlier(data: Dataset, users: Sequence[str], count: int, *, options: argparse.Namespace) -> list[srec.Case]:
    """`count` cases of the users: the last of each, then those before some events, and so on."""
    log = data.interactions
    taught = np.ones(len(log.at), dtype=np.bool_)
    if options.protocol == "global-time":
        taught = log.at < cutoffs_of(data, None)[0]
    known = part(data, events=taught)
    found: list[srec.Case] = []
    back = 0
    while len(found) < count and back < STEP_BACK * count:
        shorter = part(known, users=users, events=before_last(known, back))
        rule = {"protocol": "leave-last-out", "rule": f"uniform:{NEGATIVES}"}
        found += _cases(shorter, users, task=options.task, seed=options.seed, **rule)
        back += STEP_BACK
    return found[:count]
