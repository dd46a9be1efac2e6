"""Any rankers on the same cases, into one report."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dspy

from srec import bulk
from srec.data.candidates import popularity_weights
from srec.data.cases import CaseSet
from srec.data.statistics import Statistics
from srec.errors import InputError
from srec.evaluation.facts import facts_of
from srec.evaluation.fitting import check_asks, concurrent, fitted, members, programs
from srec.evaluation.keeping import RunWriter, keeping
from srec.evaluation.metrics import rank_of
from srec.evaluation.named import Rankers, named
from srec.evaluation.rankers import Baseline, Ranker
from srec.evaluation.report import RankerReport, Report
from srec.evaluation.tally import Tally
from srec.evaluation.trec import RunFile, check_run, write_run
from srec.lm.usage import at_stage, count_usage
from srec.recommender import MLLMSRec, Recommendation
from srec.stages.fusion import ItemFusion
from srec.stages.kept import check_lm, is_keeping, keep
from srec.types import Case, Score

if TYPE_CHECKING:
    from srec.data.folder import Dataset
    from srec.store import Store

Answered = bulk.Outcome[Case, Sequence[Score] | Recommendation]

KS = (5, 10, 20)
INTAKE = ("rows_read", "rows_kept", "items_without_image", "items_without_text", "images_taken_in", "truncated_texts")


def evaluate(
    cases: CaseSet,
    rankers: Rankers,
    *,
    seed: int = 0,
    ks: Sequence[int] = KS,
    metric: str | None = None,
    workers: int = 16,
    lm: dspy.LM | None = None,
    store: Store | str | Path | None = None,
    runs_folder: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
) -> Report:
    """Rank all cases with every ranker and measure; `print` the report, or write its `to_json()`.

    `rankers` are names (those of `BASELINES`, `program` for the reference program with its results in `store`,
    `ablated:no-text` and the like for that program with one thing changed, `run:PATH` for a TREC run file,
    `blend:markov+item-knn` for a `Blend` of others), callables from a case to one score per candidate, or a mapping
    from names of your own to any of these. What has a `fit` is fitted on the training events of each fold and runs in
    one thread; all others run in `workers` threads, with `lm` as DSPy's LM.

    A case on which srec or an LM fails has no scores: it ranks as all tied, and is counted with its reason. A
    LeakageError is no such failure, it ends the evaluation. Scores that do not fit the candidates are a bug of the
    ranker and raise InputError, as does a program without an LM to ask. Scores of a callable that all lie in [0, 1] are
    held to be probabilities, whose calibration is told; those of a run file are not, since most systems' are none. A
    run file that was written for other candidates would give the targets away and raises CandidateError.

    Metrics are measured at the ranks `ks`. `metric` is what pairs, slices and the page go by, and its rank that of the
    table: `auc`, or `ndcg`, `recall` or `mrr` at a rank, by default NDCG at 10 or the last of `ks`.

    `seed` is for the random ranker and the intervals. With `runs_folder`, the rankings are written there as
    `<name>.run` and the targets as `qrels.txt`, for any TREC tool. With `out`, the run is kept in that folder, with
    what programs made of each user, for `srec.report`; a run there of other cases, another model or of rankers that are
    not asked again is refused, since it would be lost. `progress` shows a bar per ranker, on a terminal by default.

    >>> evaluate(cases, ["random", "popularity", program], lm=lm)  # doctest: +SKIP
    >>> evaluate(cases, {"of a month": RecentPopularity(days=30), "theirs": "run:their.run"})  # doctest: +SKIP
    """
    started = time.perf_counter()
    if seed < 0:
        raise InputError(f"seed={seed} is below 0; give 0 or more")
    _check_cases(cases)
    cuts = _cuts(ks, metric)
    ranked_by = named(rankers, cases=cases)
    _check_lms(ranked_by, lm=lm)
    _check_runs(ranked_by, cases)
    if runs_folder is not None:
        cases.write_trec_qrels(Path(runs_folder) / "qrels.txt")
    rows: dict[str, RankerReport] = {}
    with _kept_run(out, cases, ranked_by, lm=lm) as kept:
        for name, ranker in ranked_by.items():
            tally = Tally(ks=cuts, code=cases.pool.code, judges=not isinstance(ranker, Baseline | RunFile))
            with _asking(lm), _keeping(store, ranker), count_usage() as usage:
                ranked = _ranked(
                    ranker, cases, tally, name=name, seed=seed, workers=workers, kept=kept, progress=progress
                )
                if runs_folder is None:
                    deque(ranked, maxlen=0)
                else:
                    write_run(Path(runs_folder) / f"{quote(name, safe=' ')}.run", ranked, name=name)
            rows[name] = tally.report(usage, seed=seed)
        seconds = time.perf_counter() - started
        report = _report(cases, rows, tally, model=lm, seed=seed, ks=cuts, metric=metric or "", seconds=seconds)
        if kept is not None:
            kept.finish(report)
    return report


def _check_cases(cases: CaseSet) -> None:
    if not isinstance(cases, CaseSet):
        raise InputError(
            f"cases are given as {type(cases).__name__}; give what srec.cases returned, whose users= asks for fewer"
        )
    if not len(cases):
        raise InputError("there is no case to evaluate; the case set's `skipped` says why")


def _check_lms(rankers: Mapping[str, Ranker | Baseline], *, lm: dspy.LM | None) -> None:
    """Raise InputError for what is no LM, and for a program that has none."""
    if lm is not None:
        check_lm(lm)
    with _asking(lm):
        for name, ranker in rankers.items():
            check_asks(ranker, name=name)


def _check_runs(rankers: Mapping[str, Ranker | Baseline], cases: CaseSet) -> None:
    """Raise CandidateError for a run file of other candidates, alone or in a blend, before anybody ranks."""
    for ranker in rankers.values():
        for one in members(ranker):
            if isinstance(one, RunFile):
                check_run(one, cases.asked())


def _report(
    cases: CaseSet,
    rows: Mapping[str, RankerReport],
    tally: Tally,
    *,
    model: dspy.LM | None,
    seed: int,
    ks: tuple[int, ...],
    metric: str,
    seconds: float,
) -> Report:
    """The report of rankers that have ranked; `tally` is that of any of them."""
    return Report(
        **_asked(cases),
        users=len({spec.user_id for fold in cases.folds for spec in fold.specs}),
        model=_model(model),
        seed=seed,
        ks=ks,
        metric=metric,
        rankers=rows,
        chance=tally.chance(),
        tied=cases.tied,
        skipped=dict(cases.skipped),
        intake=_intake(cases.data),
        seconds=seconds,
        retrieved=tally.found(seed=seed) if cases.candidates.startswith("retriever:") else None,
        statistics=Statistics.of(cases.data.interactions),
        cases=tuple(facts_of(cases)),
    )


def _asked(cases: CaseSet) -> dict[str, Any]:
    """What a report says of its cases before anybody ranks."""
    return {
        "data": cases.data.name,
        "n": len(cases),
        "protocol": cases.protocol,
        "task": cases.task,
        "candidates": cases.candidates,
        "cases_seed": cases.seed,
    }


def _model(lm: dspy.LM | None) -> str:
    return str(getattr(lm, "model", ""))


@contextmanager
def _kept_run(
    out: str | Path | None, cases: CaseSet, rankers: Mapping[str, Ranker | Baseline], *, lm: dspy.LM | None
) -> Iterator[RunWriter | None]:
    """Where the run is kept, if it is to be."""
    if out is None:
        yield None
        return
    programs = {name: ranker for name, ranker in rankers.items() if isinstance(ranker, MLLMSRec)}
    asked = _asked(cases) | {"model": _model(lm)}
    with keeping(out, catalogue=cases.items, programs=programs, asked=asked, rankers=rankers.keys()) as kept:
        yield kept


@contextmanager
def _asking(lm: dspy.LM | None) -> Iterator[None]:
    """DSPy's context for many calls: with `lm`, and without its record of prompts, which would grow without bound."""
    given = {"lm": lm} if lm is not None else {}
    with dspy.context(disable_history=True, trace=None, **given):
        yield


@contextmanager
def _keeping(store: Store | str | Path | None, ranker: Ranker | Baseline) -> Iterator[None]:
    """Results of stages are kept in `store`, else where the caller keeps them, else until a program has ranked."""
    with ExitStack() as stack:
        if store is not None:
            stack.enter_context(keep(store))
        elif programs(ranker) and not is_keeping():
            stack.enter_context(keep(stack.enter_context(TemporaryDirectory(prefix="srec-"))))
        yield


def _cuts(ks: Sequence[int], metric: str | None) -> tuple[int, ...]:
    """The ranks to measure at, that of `metric` among them."""
    asked = rank_of(metric) if metric is not None else None
    cuts = tuple(sorted({*ks, *([asked] if asked else [])}))
    if not cuts or cuts[0] < 1:
        raise InputError(f"ks is {tuple(ks)}; give the ranks to measure at, each at least 1")
    return cuts


def _ranked(
    ranker: Ranker | Baseline,
    cases: CaseSet,
    tally: Tally,
    *,
    name: str,
    seed: int,
    workers: int,
    kept: RunWriter | None,
    progress: bool | None,
) -> Iterator[tuple[str, Sequence[Score]]]:
    """The scores of every case, by case id, once `tally` has counted them."""
    threads = workers if concurrent(ranker) else 1
    if isinstance(ranker, MLLMSRec):
        with tally.running():
            _describe(ranker, cases, workers=workers, progress=progress)
    for fold in cases.folds:
        popularity = popularity_weights(fold.train)
        rank: Callable[[Case], Sequence[Score] | Recommendation]
        if isinstance(ranker, MLLMSRec):
            rank = ranker  # asked for all that it makes
        else:
            with tally.fitting():
                own = fitted(ranker, fold.train, items=cases.items, seed=seed)
            tally.fitted(own)
            rank = own
        outcomes = bulk.run(
            partial(tally.ask, rank),
            cases.of(fold),
            workers=threads,
            label=name,
            total=len(fold),
            progress=progress,
        )
        with closing(outcomes):
            for outcome in outcomes:
                case, scores = outcome.input, _fitting(outcome, name=name)
                ranked = tally.count(case, scores, popularity=popularity)
                if kept is not None:
                    kept.add(name, case, ranked, _made(outcome))
                yield case.case_id, scores


def _describe(program: MLLMSRec, cases: CaseSet, *, workers: int, progress: bool | None) -> None:
    """Fuse the items of all cases, each once and many at a time; what fails is tried again where it is needed."""
    if isinstance(program.fusion, ItemFusion):
        items = {
            item.item_id: None
            for case in cases
            for item in (*(event.item for event in program.read(case.history).events), *case.candidates)
        }
        wanted = (cases.items[item_id] for item_id in items)
        with at_stage("fusion", alone=True) as block:
            made = bulk.run(
                program.fusion, wanted, workers=workers, label="describe items", total=len(items), progress=progress
            ).finish()
            block.units = made.done - made.cached


def _made(outcome: Answered) -> Recommendation | None:
    return outcome.value if isinstance(outcome.value, Recommendation) else None


def _fitting(outcome: Answered, *, name: str) -> Sequence[Score]:
    """The scores of a case, one per candidate; none of them has a value where the ranker failed."""
    made, case = _made(outcome), outcome.input
    scores = outcome.value if made is None else made.scores
    if outcome.error:
        return [Score(item_id=item.item_id, value=None, error=outcome.error) for item in case.candidates]
    if not isinstance(scores, Sequence) or not all(isinstance(score, Score) for score in scores):
        raise InputError(
            f"ranker {name!r} gave {type(scores).__name__} for case {case.case_id}, not a list of srec.Score"
        )
    if [score.item_id for score in scores] != [item.item_id for item in case.candidates]:
        raise InputError(
            f"ranker {name!r} gave {len(scores)} scores for case {case.case_id} that do not fit its "
            f"{len(case.candidates)} candidates; return one score per candidate, in the order of the candidates"
        )
    return scores


def _intake(data: Dataset) -> dict[str, int]:
    """What was read of the dataset so far, and what was rejected, by class."""
    report = data.report
    counts = {name: getattr(report, name) for name in INTAKE}
    return counts | {f"{kind}: {cause}": times for (kind, cause), times in report.counts.items()}
