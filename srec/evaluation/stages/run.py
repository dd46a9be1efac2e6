"""All stages of a program beside the truth of a toy shop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dspy

from srec import bulk
from srec.data.shopwords import Wordings
from srec.data.toyshop import ToyShop, toyshop
from srec.evaluation.changes import blank, shuffled, with_items, without_text
from srec.evaluation.report import Report
from srec.evaluation.run import evaluate
from srec.evaluation.stages import fused, scored, taste, vqa
from srec.evaluation.stages.ceilings import CASES, ceilings, oracle, toy_cases
from srec.evaluation.stages.controls import World
from srec.evaluation.stages.controls import worlds as worlds_of
from srec.evaluation.stages.figure import Figure, Figures
from srec.evaluation.stages.report import StageReport
from srec.evaluation.stages.witness import Made, Witness
from srec.recommender import MLLMSRec
from srec.stages.kept import keep
from srec.store import Store
from srec.types import Case, ItemDescription

LIMITS: Mapping[str, str] = {
    "program": "oracle",
    "blank_image": "oracle without image",
    "no_text": "oracle",
    "shuffled_order": "oracle without order",
}
"""Rankers, each with the one that knows the truth of what it could know: its ceiling."""


def run(
    lm: Any,
    *,
    items: int = 300,
    users: int = 100,
    seed: int = 0,
    wordings: Wordings = "seen",
    program: MLLMSRec | None = None,
    store: Store | str | Path | None = None,
    ceiling_cases: int = CASES,
    workers: int = 16,
    progress: bool | None = None,
) -> StageReport:
    """Measure every stage in the toy shop of `seed`, and the same with something taken away; print the report.

    `program` is `reference()` unless given. Results are kept in `store`, so that a run that was killed goes on where it
    was; without one, in a folder that is gone at the end. What fails counts as wrong, and is counted.

    The LM is asked three questions about each item's picture, twice, and about a stranger's, some about blank pictures,
    what the fusion asks of each item, four times, and what the program asks for each user, four times.
    """
    shop = toyshop(items=items, users=users, seed=seed, wordings=wordings)
    with _keeping(store) as kept_in, dspy.context(lm=lm, disable_history=True, trace=None):
        work = _Work(
            lm=lm,
            program=program if program is not None else reference(workers=workers),
            store=kept_in,
            seed=seed,
            workers=workers,
            progress=progress,
        )
        return _report(shop, work, ceiling_cases=ceiling_cases)


def reference(*, recent: int = 20, workers: int = 16) -> MLLMSRec:
    """The program that is measured: closed questions about toys, all else as it is by default."""
    return MLLMSRec(fusion=fused.toy_fusion(), recent=recent, workers=workers)


def _report(shop: ToyShop, work: _Work, *, ceiling_cases: int) -> StageReport:
    toys, shoppers = shop.truth.toys, shop.truth.shoppers
    worlds = worlds_of(shop, seed=work.seed)
    answers = {name: work.answers(worlds[name], name) for name in ("plain", "blank_image", "other_image")}
    written = work.answers(worlds["plain"], "plain", form="open")
    fusion = {name: fused.measure(world.truth, work.descriptions(world, name)) for name, world in worlds.items()}
    ranked, made = work.rankings(shop)
    ranking = {name: scored.ranking(ranked, name, ceiling=limit) for name, limit in LIMITS.items()}
    current = {name: taste.current(cases, shoppers) for name, cases in made.items()}
    return StageReport(
        data=f"{shop.data.name}:{len(toys)}x{len(shoppers)}@{work.seed}",
        model=str(work.lm.model),
        seed=work.seed,
        n=len(toys),
        cases=ranked.n,
        vqa=vqa.measure(answers["plain"], toys),
        vqa_open=vqa.measure(written, toys),
        vqa_held_out=vqa.measure([one for one in answers["plain"] if toys[one.question.item_id].look.held_out], toys),
        fusion=fusion["plain"],
        preference=taste.preference(made["program"], shoppers),
        profile=taste.profile(made["program"], shoppers),
        scores={**ranking["program"], "calibration": scored.calibration(made["program"], seed=work.seed)},
        controls={
            "blank_image": {
                **vqa.measure(answers["blank_image"], toys),
                **_facts(fusion["blank_image"]),
                **current["blank_image"],
                **ranking["blank_image"],
            },
            "other_image": {
                **vqa.measure(answers["other_image"], worlds["other_image"].truth),
                **{f"own_{name}": figure for name, figure in vqa.measure(answers["other_image"], toys).items()},
                **_facts(fusion["other_image"]),
            },
            "no_text": {**_facts(fusion["no_text"]), **current["no_text"], **ranking["no_text"]},
            "shuffled_order": {**current["shuffled_order"], **ranking["shuffled_order"]},
        },
        ceilings=ceilings(
            items=len(toys), users=len(shoppers), seed=work.seed, count=ceiling_cases, progress=work.progress
        ),
        failed=work.failed,
        reasons=work.reasons,
    )


def _facts(fusion: Figures) -> dict[str, Figure]:
    """What of a description follows its picture, and what its text."""
    return {name: fusion[name] for name in ("image_only", "text_only")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Asks the model, many at a time, and counts by step what `failed`."""

    lm: Any
    program: MLLMSRec
    store: Store
    seed: int
    workers: int
    progress: bool | None
    failed: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def answers(self, world: World, name: str, *, form: vqa.Asked = "closed") -> list[vqa.Answer]:
        """The answers to questions about every picture."""
        step = f"{form} questions, {name}"
        found, summary = vqa.answers(
            vqa.questions(world.items()),
            form,
            lm=self.lm,
            store=self.store,
            label=step,
            workers=self.workers,
            progress=self.progress,
        )
        self._count(step, summary.failed, summary.examples)
        return found

    def descriptions(self, world: World, name: str) -> dict[str, ItemDescription]:
        """The description of every item, by item id; without those that failed."""
        step = f"descriptions, {name}"
        found = bulk.run(
            self.program.fusion,
            world.items(),
            workers=self.workers,
            label=step,
            total=len(world.truth),
            progress=self.progress,
        )
        described = {one.input.item_id: one.value for one in found if one.value is not None}
        self._count(step, found.summary.failed, found.summary.examples)
        return described

    def rankings(self, shop: ToyShop) -> tuple[Report, dict[str, list[Made]]]:
        """The program on every case, and on every case as a control makes it, beside the truth; and what it made."""
        changes: dict[str, Callable[[Case], Case]] = {
            "program": lambda case: case,
            "blank_image": partial(with_items, change=blank),
            "no_text": partial(with_items, change=without_text),
            "shuffled_order": partial(shuffled, seed=self.seed, read=self.program.read),
        }
        witnesses = {name: Witness(self.program, change=change) for name, change in changes.items()}
        oracles = {
            "oracle": oracle(shop.truth),
            "oracle without image": oracle(shop.truth, without="image"),
            "oracle without order": oracle(shop.truth, without="order"),
        }
        report = evaluate(
            toy_cases(shop.data, seed=self.seed),
            {**witnesses, **oracles},
            seed=self.seed,
            workers=self.workers,
            store=self.store,
            progress=self.progress,
        )
        for name in witnesses:
            self._count(f"candidates, {name}", report.rankers[name].unscored, report.rankers[name].examples)
        return report, {name: witness.made for name, witness in witnesses.items()}

    def _count(self, step: str, failed: int, examples: Mapping[str, str]) -> None:
        if failed:
            self.failed[step] = failed
            self.reasons[step] = next(iter(examples.values()))


@contextmanager
def _keeping(store: Store | str | Path | None) -> Iterator[Store]:
    """Results of stages are kept in `store`, or until the block ends."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="srec-")) if store is None else store
        yield stack.enter_context(keep(folder))
