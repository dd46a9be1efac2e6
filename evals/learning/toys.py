"""The toy shop as a school: training users and items for the student, held-out users *and* items for the test.

The oracle teaches: it answers every stage's prompt from the world's truth, so the best that can be reached is known.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measured import changed, measured, note, told_of, with_lm
from pace import REMINDERS, Rows, fitting

import srec
from srec.data import candidate_file
from srec.data.candidate_file import Header, Line
from srec.data.candidates import stable_hash
from srec.data.cases import CaseSet, LeakWarning
from srec.data.part import part
from srec.data.toyshop import ToyShop
from srec.evaluation.changes import blank, shuffled, with_items
from srec.learn.rows import Row, read_rows
from srec.testing import oracle

NEGATIVES = 20
DEV_USERS = 30
MOST_REMINDERS = 240
AGAIN = 60
KEEP = 0.5  # cases in which even the oracle ranks the target among the lower half are gifts
CONFIG = srec.TrainConfig(
    epochs=1,
    learning_rate=1e-3,
    batch_rows=42,
    batch_positions=2560,
    ranking=1.0,
    checkpoint_every=25,
)
SIGHT = replace(CONFIG, learning_rate=5e-4, batch_rows=16)
FURTHER = replace(CONFIG, learning_rate=5e-4)
DISTRACTING = ("brand",)  # nobody buys by brand; a description has less to read without it


@dataclass(frozen=True, slots=True, kw_only=True)
class School:
    """A shop with its cases; no user is in two of them, and no item that is offered in `test` is in `training`."""

    shop: ToyShop
    training: CaseSet
    dev: CaseSet
    test: CaseSet


def school(*, seed: int, items: int, pupils: int, dev: int, test: int, folder: Path) -> School:
    """A shop large enough for so many cases of each kind; a larger `pupils` only adds to the training cases."""
    shop = srec.toyshop(items=items, users=max(2 * test * 5, (pupils + dev) * 5 // 4 + 10), seed=seed)
    lately, early = shop.training_users[:dev], shop.training_users[dev : dev + pupils]
    items_seen = shop.training_items
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)  # nothing is fitted on the other users' events
        return School(
            shop=shop,
            training=srec.cases(
                part(shop.data, users=early, items=items_seen), candidates=f"uniform:{NEGATIVES}", seed=seed
            ),
            dev=srec.cases(
                part(shop.data, users=lately, items=items_seen), candidates=f"uniform:{NEGATIVES}", seed=seed
            ),
            test=_test(shop, users=test, seed=seed, folder=folder),
        )


def program(reasoning: str) -> srec.MLLMSRec:
    """The four stages as a small model can read them: facts alone, and one window of twenty events."""
    asked = [question for question in srec.toy_questions() if question.aspect not in DISTRACTING]
    return srec.MLLMSRec(
        fusion=srec.ItemFusion(questions=asked, write="facts", doubt=1.0),
        preference=srec.TemporalPreference(window=20, step=20),
        scoring=srec.CoTScoring(reasoning=reasoning),
        recent=20,
    )


def _test(shop: ToyShop, *, users: int, seed: int, folder: Path) -> CaseSet:
    """Held-out users, each at the last time they took a held-out item, which stands among other held-out items."""
    held_out = frozenset(shop.truth.held_out_items)
    log = shop.data.interactions
    is_held_out = np.array([item_id in held_out for item_id in log.item_ids])[log.item]
    last = {int(user): row for row, user in enumerate(log.user) if is_held_out[row]}
    upto = np.array([row <= last.get(int(user), -1) for row, user in enumerate(log.user)])
    data = part(shop.data, users=shop.held_out_users, events=upto)
    every = srec.cases(data, users=users, seed=seed)
    lines = [line for case in every if (line := _line(shop, case, held_out, seed=seed))]
    path = folder / "test.jsonl"
    header = Header(task="next", protocol="leave-last-out", candidates=f"held-out:{NEGATIVES}", seed=seed, users=users)
    candidate_file.write_jsonl(path, lines, header=header)
    return srec.cases(data, candidates=f"file:{path}", users=users, seed=seed)


def _line(shop: ToyShop, case: srec.Case, held_out: frozenset[str], *, seed: int) -> Line:
    """A case with `NEGATIVES` held-out items that its user never took."""
    taken = {event.item.item_id for event in shop.data.history(case.user_id).events}
    free = sorted(held_out - taken, key=lambda item_id: stable_hash("held out", seed, case.case_id, item_id))
    return Line(
        case_id=case.case_id,
        user_id=case.user_id,
        at=case.at,
        targets=tuple(case.target_ids),
        candidates=tuple(sorted((*case.target_ids, *free[:NEGATIVES]))),
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Teach a student in one shop, and hold it beside its teacher, its base, and itself with something taken away."""
    out = options.out / f"toyshop-{options.seed}-{options.reasoning}"
    out.mkdir(parents=True, exist_ok=True)
    base, chosen = options.base or "srec-tiny", program(options.reasoning)

    def place(pupils: int) -> School:
        return school(seed=options.seed, items=300, pupils=pupils, dev=DEV_USERS, test=options.users, folder=out)

    def lesson(pupils: int) -> Rows:
        at = place(pupils)
        return _distilled(at, at.training, chosen, out / f"rows-{pupils}", keep=KEEP, workers=options.workers)

    def given(pupils: int) -> dict[str, Any]:
        at = place(pupils)
        dev, _ = _distilled(at, at.dev, chosen, out / "dev", keep=None, workers=options.workers)
        return {"base": f"local:{base}", "dev": [row for row in dev if row.label is not None], "progress": note}

    pupils = options.pupils or fitting(lesson, base=base, config=CONFIG, minutes=options.budget, folder=out)
    at, (rows, images) = place(pupils + options.more), lesson(pupils)
    first = srec.train(texts(rows), out=out / f"lora-{pupils}", config=CONFIG, images=images, **given(pupils))
    second = out / f"sight-{pupils}"
    lora = srec.train(pictures(rows), out=second, config=SIGHT, images=images, start=first.folder, **given(pupils))
    lessons = [first, lora]
    if options.more:
        pupils += options.more
        taught, (rows, images) = rows, lesson(pupils)
        into = out / f"more-{pupils}"
        lora = srec.train(
            further(rows, taught), out=into, config=FURTHER, images=images, start=lora.folder, **given(pupils)
        )
        lessons.append(lora)
    asked = at if options.test_seed is None else _elsewhere(options, out)
    taught = with_lm(chosen, srec.connect(f"local:{base}#{lora.folder}"))
    systems = {
        "oracle": with_lm(chosen, oracle(asked.shop)),
        "base": with_lm(chosen, srec.connect(f"local:{base}")),
        "lora": taught,
        "lora_blank_image": changed(taught, partial(with_items, change=blank)),
        "lora_shuffled": changed(taught, partial(shuffled, seed=options.seed, read=taught.read)),
    }
    found = measured(asked.test, systems, served=chosen, lora=lora, base=base, options=options, folder=out)
    value = {name: figure["value"] for name, figure in found["auc"].items()}
    both = {"oracle", "base"} <= value.keys()
    gap = {"gap_closed": (value["lora"] - value["base"]) / (value["oracle"] - value["base"])} if both else {}
    shop = f"toy shop of {len(at.shop.data.items)} toys, seed {options.seed}"
    return {
        "world": shop if options.test_seed is None else f"{shop}, tested in the shop of seed {options.test_seed}",
        "test": "held-out users, who choose among held-out items only",
        **found,
        **gap,
        **told_of(texts(rows), *lessons, pupils=pupils, base=base, options=options),
    }


def texts(rows: Sequence[Row]) -> list[Row]:
    """The first lesson: what the teacher said of users, and a few of its answers about pictures."""
    of_items = [row for row in rows if row.stage.startswith(REMINDERS)]
    reminders = set(map(id, of_items[:: max(1, len(of_items) // MOST_REMINDERS)]))
    return [row for row in rows if not row.stage.startswith(REMINDERS) or id(row) in reminders]


def pictures(rows: Sequence[Row]) -> list[Row]:
    """The second lesson: all answers about pictures, which the first one makes it forget, and some users again."""
    of_items = [row for row in rows if row.stage.startswith(REMINDERS)]
    of_users = [row for row in rows if not row.stage.startswith(REMINDERS)]
    again = set(list(dict.fromkeys(row.user_id for row in of_users))[:AGAIN])
    return of_items + [row for row in of_users if row.user_id in again]


def further(every: Sequence[Row], taught: Sequence[Row]) -> list[Row]:
    """The third lesson: users who were in none so far, and all answers about pictures among them."""
    known = {row.user_id for row in taught if not row.stage.startswith(REMINDERS)}
    return [row for row in every if row.stage.startswith(REMINDERS) or row.user_id not in known]


def _elsewhere(options: argparse.Namespace, out: Path) -> School:
    """Another shop, of other toys and other people, for the test alone."""
    return school(seed=options.test_seed, items=300, pupils=12, dev=DEV_USERS, test=options.users, folder=out)


def _distilled(
    at: School, cases: CaseSet, chosen: srec.MLLMSRec, folder: Path, *, keep: float | None, workers: int
) -> Rows:
    """What the oracle says in cases of training users."""
    users, items = at.shop.training_users, at.shop.training_items
    teacher = oracle(at.shop)
    report = srec.distill(chosen, cases, lm=teacher, out=folder, keep=keep, users=users, items=items, workers=workers)
    return list(read_rows(report.path)), folder
