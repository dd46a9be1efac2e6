"""Change one thing at a time, and see what it does to the metric and to the scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import dspy
import numpy as np

from srec.errors import InputError
from srec.evaluation.fitting import check_asks
from srec.evaluation.metrics import bootstrap_table, rank_of
from srec.evaluation.paired import Difference, difference
from srec.evaluation.probe_report import PLAIN, ProbeReport, ProbeRow
from srec.evaluation.probes import Probe, chosen
from srec.evaluation.rankers import Baseline
from srec.evaluation.run import evaluate
from srec.evaluation.scene import Scene
from srec.evaluation.shift import Floats, Shift, values_of
from srec.recommender import MLLMSRec
from srec.stages.kept import keep

if TYPE_CHECKING:
    from srec.data.cases import CaseSet
    from srec.evaluation.rankers import Ranker
    from srec.evaluation.report import Report
    from srec.store import Store
    from srec.types import Case, Score

Shifts = dict[str, Shift]


def probe(
    cases: CaseSet,
    program: MLLMSRec | Ranker,
    *,
    lm: dspy.LM | None = None,
    probes: Iterable[str | Probe] | None = None,
    metric: str = "auc",
    seed: int = 0,
    workers: int = 16,
    store: Store | str | Path | None = None,
    progress: bool | None = None,
) -> ProbeReport:
    """Rank all cases as they are and under every probe; `print` the report, or write its `to_json()`.

    `program` is an `MLLMSRec`, or any callable from a case to one score per candidate; only the former can have its
    stages changed. `probes` are names of `srec.evaluation.probes.PROBES` or of its `GROUPS`, and probes of your own; by
    default all. What does not apply is told with its reason. `metric` is `auc`, or `ndcg`, `recall` or `mrr` at a rank.
    `seed` decides what is exchanged for what, and the intervals.

    Results of stages are kept in `store`, so that a probe asks only what the plain run, or an earlier one, did not ask.
    Raises InputError for an unknown probe or metric.

    >>> probe(cases, program, lm=lm, probes=["blank-image", "shuffled-order"])  # doctest: +SKIP
    """
    started = time.perf_counter()
    wanted = chosen(probes)
    rank_of(metric)
    _check(program)
    with _keeping(store), dspy.context(**({"lm": lm} if lm is not None else {})):
        check_asks(program, name=PLAIN)
        scene = Scene.of(cases, program, items=cases.items, seed=seed)
        reasons = {one.name: one.why_not(scene) for one in wanted}
        applied = [one for one in wanted if not reasons[one.name]]
        plain: dict[str, Floats] = {}
        shifts: dict[str, Shifts] = {one.name: {} for one in applied}
        rankers = {PLAIN: _noted(_scores_of(program), plain)}
        rankers |= {one.name: _probed(one, scene, plain=plain, shifts=shifts[one.name]) for one in applied}
        report = evaluate(cases, rankers, seed=seed, metric=metric, workers=workers, lm=lm, progress=progress)
    return ProbeReport(
        data=report.data,
        n=report.n,
        users=report.users,
        protocol=report.protocol,
        task=report.task,
        candidates=report.candidates,
        model=report.model,
        metric=metric,
        seed=seed,
        cases_seed=report.cases_seed,
        chance=report.chance[metric],
        plain=report.rankers[PLAIN].metrics[metric],
        plain_unscored=report.rankers[PLAIN].unscored,
        probes=_rows(applied, report, shifts, metric=metric, seed=seed),
        not_applicable={name: why for name, why in reasons.items() if why},
        seconds=time.perf_counter() - started,
    )


def _check(program: MLLMSRec | Ranker) -> None:
    if isinstance(program, Baseline):
        raise InputError("a ranker with a `fit` cannot be probed; fit it, and give what `fit` returns")
    if not callable(program):
        raise InputError(f"{program!r} is no program; give an srec.MLLMSRec, or a callable from a case to scores")


@contextmanager
def _keeping(store: Store | str | Path | None) -> Iterator[None]:
    """Results are kept in `store`, or until all probes are done."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="srec-")) if store is None else store
        stack.enter_context(keep(folder))
        yield


def _scores_of(program: MLLMSRec | Ranker) -> Ranker:
    return (lambda case: program(case).scores) if isinstance(program, MLLMSRec) else program


def _noted(rank: Ranker, plain: dict[str, Floats]) -> Ranker:
    """The ranker as it is; its scores are noted in `plain` by case id."""

    def ask(case: Case) -> Sequence[Score]:
        scores = rank(case)
        plain[case.case_id] = values_of(scores)
        return scores

    return ask


def _probed(one: Probe, scene: Scene, *, plain: Mapping[str, Floats], shifts: Shifts) -> Ranker:
    """The ranker under a probe; how its scores differ from those in `plain` is noted in `shifts` by case id."""
    rank = _scores_of(one.program(scene) if one.program is not None else scene.program)

    def ask(case: Case) -> Sequence[Score]:
        scores = rank(one.shown(case, scene))
        before, after = plain.get(case.case_id), values_of(scores)
        if before is not None and before.shape == after.shape:  # else the evaluation says what is wrong
            shifts[case.case_id] = Shift.of(before, after, subject=_place(one, case, scene))
        return scores

    return ask


def _place(one: Probe, case: Case, scene: Scene) -> int | None:
    """Where the candidate stands that the probe is about."""
    subject = one.subject(case, scene) if one.subject is not None else ""
    return next((place for place, item in enumerate(case.candidates) if item.item_id == subject), None)


def _rows(
    applied: Sequence[Probe], report: Report, shifts: Mapping[str, Shifts], *, metric: str, seed: int
) -> dict[str, ProbeRow]:
    moved = report.comparisons(metric, pairs=[(one.name, PLAIN) for one in applied]).pairs
    return {
        one.name: _row(one, report, gain, shifts[one.name], metric=metric, seed=seed)
        for one, gain in zip(applied, moved, strict=True)
    }


def _row(one: Probe, report: Report, gain: Difference, shifts: Shifts, *, metric: str, seed: int) -> ProbeRow:
    users, ranked = [case.user_id for case in report.cases], report.rankers[one.name]
    unknown = Shift.of(np.array([]), np.array([]))
    ordered = [shifts.get(case.case_id, unknown) for case in report.cases]
    columns = {"change": [shift.change for shift in ordered], "tau": [shift.tau for shift in ordered]}
    means = bootstrap_table(columns, groups=users, seed=seed)
    of_subject = partial(_of_subject, one, ordered, users=users, seed=seed)
    return ProbeRow(
        what=one.what,
        value=ranked.metrics[metric],
        difference=gain,
        score_change=means["change"],
        tau=means["tau"],
        subject_score=of_subject("score", lambda shift: shift.scores),
        subject_rank=of_subject("rank", lambda shift: shift.ranks),
        unscored=ranked.unscored,
        reasons=ranked.reasons,
        examples=ranked.examples,
        lm_calls=ranked.lm_calls,
        cache_hits=ranked.cache_hits,
        seconds=ranked.seconds,
    )


def _of_subject(
    one: Probe,
    ordered: Sequence[Shift],
    metric: str,
    pair: Callable[[Shift], tuple[float, float]],
    *,
    users: Sequence[str],
    seed: int,
) -> Difference | None:
    """What became of the candidates that the probe is about, paired; None where it is about none."""
    if one.subject is None:
        return None
    before, after = np.array([pair(shift) for shift in ordered], dtype=np.float64).T
    return difference((one.name, after), (PLAIN, before), metric=metric, users=users, seed=seed)
