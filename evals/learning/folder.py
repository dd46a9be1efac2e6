"""A dataset folder as a school: the student learns from what some users did, and is tested on others.

No teacher is at hand offline, so what the judge reads of a user is listed by rule and not written by an LM: the last
films in order, the genres that came most. The verdicts come from real labels (the paper's Table 1).
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from measured import measured, note, told_of, with_lm
from pace import Rows, fitting

import srec
from srec.data.cases import CaseSet, LeakWarning
from srec.data.folder import Dataset
from srec.data.part import before_last, part
from srec.evaluation.rankers import BASELINES
from srec.learn.rows import read_rows
from srec.stages.wording import described
from srec.types import History, ItemDescription, PreferenceSummary, UserProfile

NEGATIVES = 20
EVENTS = 12  # the last so many are told
GENRES = 4
DEV_USERS = 30
STEP_BACK = 2  # training cases of a user end so many events before each other
SHOWN = ("year", "genres")
BLENDED = ("markov", "item-knn", "recent-popularity", "content-knn")
CONFIG = srec.TrainConfig(
    epochs=1, learning_rate=5e-4, batch_rows=42, batch_positions=2560, ranking=1.0, checkpoint_every=25
)


def listed(history: History, descriptions: Mapping[str, ItemDescription]) -> list[PreferenceSummary]:
    """The last events as they are, oldest first, and the most frequent genres of all that is read."""
    genres = Counter(g for event in history.events for g in event.item.attributes.get("genres", "").split("|") if g)
    told = (
        f"{described(event.item, descriptions)}{'' if event.rating is None else f' rated {event.rating:g}'}"
        for event in history.events[-EVENTS:]
    )
    text = f"seen of late, oldest first: {'; '.join(told)}."
    return [
        PreferenceSummary(
            user_id=history.user_id,
            until=history.events[-1].at,
            events=len(history),
            text=text,
            stable=tuple(genre for genre, _ in genres.most_common(GENRES)),
        )
    ]


def named(summaries: Sequence[PreferenceSummary]) -> UserProfile:
    """Somebody of these genres."""
    last = summaries[-1]
    return UserProfile(user_id=last.user_id, until=last.until, text=f"a watcher of {', '.join(last.stable) or 'films'}")


def program() -> srec.MLLMSRec:
    """Titles, years and genres; the judge in the words of the paper."""
    return srec.MLLMSRec(
        fusion=srec.ItemFusion(questions=(), write="composed", attributes=SHOWN),
        preference=listed,
        profiling=named,
        scoring=srec.CoTScoring(reasoning="none"),
        recent=50,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Tune on some users' labels, test on others, beside all rankers on the same candidates."""
    data = srec.load(options.world)
    out = options.out / f"{data.name}-{options.seed}-{options.task.replace(':', '-')}"
    out.mkdir(parents=True, exist_ok=True)
    base = options.base or "smollm2-135m"
    order = drawn(data, options.seed)
    test, dev, training = order[: options.users], order[options.users :][:DEV_USERS], order[options.users + DEV_USERS :]
    chosen, student = program(), srec.connect(f"local:{base}")

    def rows_of(cases: Sequence[srec.Case], name: str, users: Sequence[str]) -> Rows:
        report = srec.verdict_rows(
            chosen, cases, lm=student, out=out / name, negatives="1:20", users=users, workers=options.workers
        )
        return list(read_rows(report.path)), out / name

    def lesson(count: int) -> Rows:
        return rows_of(_earlier(data, training, count, options=options), f"rows-{count}", training)

    pupils = options.pupils or fitting(lesson, base=base, config=CONFIG, minutes=options.budget, folder=out)
    rows, images = lesson(pupils)
    looked, _ = rows_of(_earlier(data, dev, DEV_USERS, options=options), "dev", dev)
    lora = srec.train(
        rows, base=f"local:{base}", out=out / f"lora-{pupils}", config=CONFIG, dev=looked, images=images, progress=note
    )
    tested = of_users(data, test, options=options)
    systems: dict[str, Any] = {name: name for name in BASELINES}
    systems["base"] = with_lm(chosen, student)
    systems["lora"] = with_lm(chosen, srec.connect(f"local:{base}#{lora.folder}"))
    parts = {name: name for name in BLENDED}
    systems["blend"] = srec.Blend.like(tested, parts)
    systems["blend+lora"] = srec.Blend.like(tested, {**parts, "lora": systems["lora"]})
    pairs = [("blend+lora", "blend"), ("blend+lora", "markov"), ("blend", "markov")]
    found = measured(tested, systems, served=chosen, lora=lora, base=base, options=options, folder=out, pairs=pairs)
    return {
        "world": f"{data.name}, task {options.task}, seed {options.seed}",
        "test": f"users without a training case, leave-last-out, uniform:{NEGATIVES}",
        **found,
        **told_of(rows, lora, pupils=pupils, base=base, options=options),
        "reasoning": "none",
    }


def drawn(data: Dataset, seed: int) -> list[str]:
    """All users in the order in which they are taken: for the test, for development, for training."""
    users: list[str] = np.random.default_rng(seed).permutation(data.users).tolist()
    return users


def of_users(data: Dataset, users: Sequence[str], *, options: argparse.Namespace) -> CaseSet:
    """One case of each user: the last one. Rankers are fitted on all other events, as everywhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        every = srec.cases(data, task=options.task, candidates=f"uniform:{NEGATIVES}", seed=options.seed)
    return every.without(set(data.users) - set(users))


def _earlier(data: Dataset, users: Sequence[str], count: int, *, options: argparse.Namespace) -> list[srec.Case]:
    """`count` cases of the users: the last of each, then those before some events, and so on."""
    found: list[srec.Case] = []
    back = 0
    while len(found) < count and back < STEP_BACK * count:
        shorter = part(data, users=users, events=before_last(data, back))
        found += of_users(shorter, users, options=options)
        back += STEP_BACK
    return found[:count]
