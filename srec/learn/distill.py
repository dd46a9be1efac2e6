"""Distil: a teacher runs the program over training cases, and each of its calls becomes a row to learn from.

OUT/rows.jsonl    the rows, in the order of the cases (`srec.learn.rows`)
OUT/images/       their pictures, each once
OUT/store/        all that was asked and answered, so that a run that was killed goes on where it was
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from operator import length_hint
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from srec import bulk
from srec.data.cases import CaseSet
from srec.digest import digest
from srec.errors import InputError
from srec.evaluation.metrics import Interval, Placement, bootstrap, measure
from srec.learn.hearing import CALL, Call, Ear, call_of, hearing, in_order, lost, write_pictures
from srec.learn.lesson import SCORING, Allowed, knowing, state_of_program, taught
from srec.learn.rows import ROWS_FILE, Row, write_rows
from srec.lm.connect import identity
from srec.stages.calls import noting
from srec.store import Store

if TYPE_CHECKING:
    import dspy

    from srec.types import Case

STORE_FOLDER = "store"
METRIC = re.compile(r"auc|(?:ndcg|recall|mrr)@([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillReport:
    """What became of the cases, and what was written.

    Attributes:
        path: The file of rows.
        rows: How many rows it has; `stages` has them by stage.
        images: How many pictures they show.
        cases: How many cases were asked; `cases_kept` reached `keep`, `cases_below` did not, the rest failed.
        case_reasons: Cases that failed, by class of error.
        calls_failed: Calls whose row is lost; a call that failed again in another case counts again.
        call_reasons: Calls that failed, by class of error.
        examples: The first whole reason of each class.
        outcome: The metric over the cases that did not fail, kept or not, with its interval.
        teacher: Identity of the LM that answered.
    """

    path: str
    teacher: str
    rows: int
    stages: Mapping[str, int]
    images: int
    cases: int
    cases_kept: int
    cases_below: int
    cases_failed: int
    case_reasons: Mapping[str, int]
    calls_failed: int
    call_reasons: Mapping[str, int]
    examples: Mapping[str, str]
    metric: str
    outcome: Interval
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; what is no number is None."""
        plain = asdict(self)
        plain["outcome"] = {k: None if v != v else v for k, v in plain["outcome"].items()}  # noqa: PLR0124 (NaN)
        return plain

    def __str__(self) -> str:
        by_stage = ", ".join(f"{stage} {count:,}" for stage, count in self.stages.items())
        counts = f"{self.cases_kept:,} kept, {self.cases_below:,} below the threshold, {self.cases_failed:,} failed"
        interval = f"{self.outcome.value:.3f} [{self.outcome.low:.3f}, {self.outcome.high:.3f}]"
        reasons = [
            f"  {count:,} x {reason}, the first: {self.examples[reason]}"
            for reason, count in {**self.case_reasons, **self.call_reasons}.items()
        ]
        return "\n".join(
            [
                f"{self.rows:,} rows with {self.images:,} pictures in {self.path}: {by_stage or 'none'}",
                f"{self.cases:,} cases: {counts}; {self.calls_failed:,} calls failed",
                f"teacher {self.teacher}: {self.metric} {interval} over {self.outcome.n:,} cases; {self.seconds:.1f} s",
                *reasons,
            ]
        )


def distill(
    program: Any,
    cases: CaseSet | Iterable[Case],
    *,
    lm: dspy.LM,
    out: str | Path,
    keep: float | None,
    metric: str = "auc",
    users: Iterable[str] | None = None,
    items: Iterable[str] | None = None,
    show_answer: bool = False,
    workers: int = 16,
    seed: int = 0,
    progress: bool | None = None,
) -> DistillReport:
    """Run `program` with `lm` as the teacher over training cases, and write one row for each call, by its stage.

    A row has the chat as it was sent, before it was cleaned of the special tokens of the teacher, and the answer in the
    form in which `srec.lm.adapters` writes it. A call that several cases have in common, such as the description of an
    item, is one row, of the first of these that is kept. Rows of a case are ordered by stage, item and text.

    Results are kept in `out/store` and nowhere else, whatever store is open around the call: a run that was killed, or
    is repeated with another `keep`, does not ask a finished case again. A call that fails loses its row and a case that
    fails loses all of its rows; both are counted by reason, and tried again only where the case failed.

    Args:
        program: A program such as `srec.MLLMSRec`; it is copied, and every predictor of the copy asks `lm`.
        cases: Training cases. Their targets decide `keep` and the `label` of verdicts, and are not in any prompt.
        lm: The teacher.
        out: The folder to write into.
        keep: The least outcome in [0, 1] of a case whose rows are wanted; None for all that did not fail.
        metric: What is the outcome of a case: `auc`, `ndcg@10`, `recall@5`, `mrr@20`, with any number.
        users: The training users, such as `ToyShop.training_users`; None where all are.
        items: The training items; None where all are.
        show_answer: Tell the teacher's reasoning what the user took. Its rows and those that rest on it are marked
            `saw_answer` and must not be in dev rows; the outcome then says nothing of the teacher.
        workers: Cases at once.
        seed: For the interval of the outcome. Nothing else is drawn: the same cases and answers give the same bytes.
        progress: Whether to show a bar; by default on a terminal only.

    Raises:
        LeakageError: a case has a user or shows an item that is held out; nothing was asked, unless `cases` can be
            read only once.
        InputError: the metric is unknown, or the program has nothing to learn from.

    Example:
        >>> report = distill(program, train_cases, lm=teacher, out="runs/rows", keep=0.5)  # doctest: +SKIP
    """
    started = time.perf_counter()
    found = METRIC.fullmatch(metric)
    if found is None:
        raise InputError(f"metric {metric!r} is not known; give auc, ndcg@10, recall@10 or mrr@10 with any number")
    if keep is not None and not 0.0 <= keep <= 1.0:
        raise InputError(f"keep is {keep}; give a least outcome from 0 to 1, or None to keep all")
    total, folder = length_hint(cases) or None, Path(out)
    chosen = Allowed.of(users, items).only(cases)
    with Store(folder / STORE_FOLDER) as store:
        lesson = _Lesson(taught(program, lm), store, metric=metric, k=int(found[1] or 1), show_answer=show_answer)
        run = bulk.run(
            lesson.learn,
            chosen,
            key=lesson.key,
            returns=_Heard,
            store=store,
            workers=workers,
            label="distill",
            total=total,
            progress=progress,
        )
        tally = _Tally(keep=keep)
        with closing(run):
            rows = _rows(run, lesson, tally, folder=folder, teacher=identity(lm))
            count = write_rows(folder / ROWS_FILE, rows)
    return DistillReport(
        path=str(folder / ROWS_FILE),
        teacher=identity(lm),
        rows=count,
        stages={stage: tally.stages[stage] for stage in lesson.stages if tally.stages[stage]},
        images=len(tally.images),
        cases=tally.cases,
        cases_kept=tally.cases - tally.below - tally.case_reasons.total(),
        cases_below=tally.below,
        cases_failed=tally.case_reasons.total(),
        case_reasons=dict(tally.case_reasons.most_common()),
        calls_failed=tally.call_reasons.total(),
        call_reasons=dict(tally.call_reasons.most_common()),
        examples=dict(tally.examples),
        metric=metric,
        outcome=tally.interval(seed=seed),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What became of one case: its metric if it has one, names of calls, and the reasons of those that failed."""

    outcome: float | None
    calls: tuple[str, ...]
    lost: tuple[tuple[str, int], ...] = ()


class _Lesson:
    """Asks the program about cases, from any thread, and hears its calls."""

    def __init__(self, program: Any, store: Store, *, metric: str, k: int, show_answer: bool) -> None:
        self.show_answer = show_answer
        self._program, self._store, self._metric, self._k = program, store, metric, k
        self._lms = {name: predictor.lm for name, predictor in program.named_predictors()}
        self._state = digest("distill", state_of_program(program), metric, show_answer)
        self._lost_of_failed: dict[str, Counter[str]] = {}
        self._lock = Lock()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the predictors, in the order of the program."""
        return tuple(self._lms)

    def key(self, case: Case) -> str:
        """The key under which a finished case is kept."""
        return digest("case", self._state, case)

    def learn(self, case: Case) -> _Heard:
        """Ask about one case."""
        program, plain = knowing(self._program, case, lms=self._lms) if self.show_answer else (self._program, None)
        names = {id(predictor): name for name, predictor in program.named_predictors()}
        ear = Ear(names, self._store, instructions=plain)
        with hearing(ear, self._store), noting() as notes:
            try:
                made = program(case)
            except Exception:
                with self._lock:
                    self._lost_of_failed[case.case_id] = lost(notes)
                raise
            finally:
                ear.check()
        placement = Placement.of(getattr(made, "scores", made), case.target_ids)
        outcome = measure(placement, ks=[self._k])[self._metric]
        return _Heard(
            outcome=None if math.isnan(outcome) else outcome,
            calls=tuple(sorted({name for name in notes if name.startswith(CALL)})),
            lost=tuple(sorted(lost(notes).items())),
        )

    def lost_of(self, case: Case) -> Counter[str]:
        """Calls that failed in a case that failed, by reason."""
        with self._lock:
            return self._lost_of_failed.pop(case.case_id, Counter())

    def calls(self, heard: _Heard, *, known: set[str]) -> list[Call]:
        """The calls of a case that are not `known`, in order; they are known from then on."""
        new = [name for name in heard.calls if name not in known]
        known.update(new)
        return in_order([call_of(self._store, name) for name in new], stages=self.stages)

    def write_pictures(self, call: Call, folder: Path) -> None:
        """Write the pictures of a call."""
        write_pictures(call.images, self._store, folder)


@dataclass(slots=True, kw_only=True)
class _Tally:
    """The counts behind a report; one line is kept per class of error."""

    keep: float | None
    cases: int = 0
    below: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    images: set[str] = field(default_factory=set)
    case_reasons: Counter[str] = field(default_factory=Counter)
    call_reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    outcomes: list[tuple[str, float]] = field(default_factory=list)

    def failed(self, reason: str) -> None:
        """Count a case that failed."""
        self._count(self.case_reasons, reason, 1)

    def lost(self, reasons: Mapping[str, int]) -> None:
        """Count calls that failed."""
        for reason, times in reasons.items():
            self._count(self.call_reasons, reason, times)

    def wanted(self, case: Case, outcome: float | None) -> bool:
        """Count the outcome of a case; whether it reaches the threshold."""
        if outcome is not None:
            self.outcomes.append((case.user_id, outcome))
        wanted = self.keep is None or (outcome is not None and outcome >= self.keep)
        self.below += not wanted
        return wanted

    def interval(self, *, seed: int) -> Interval:
        """The mean outcome; users are drawn."""
        if not self.outcomes:
            return Interval(value=math.nan, low=math.nan, high=math.nan, n=0)
        users, values = zip(*self.outcomes, strict=True)
        return bootstrap(values, groups=users, seed=seed)

    def _count(self, counts: Counter[str], reason: str, times: int) -> None:
        kind = reason.partition(":")[0]
        counts[kind] += times
        self.examples.setdefault(kind, reason)


def _rows(run: bulk.Run[Case, _Heard], lesson: _Lesson, tally: _Tally, *, folder: Path, teacher: str) -> Iterator[Row]:
    """The rows of the cases that are wanted, each call once; their pictures are written before them."""
    known: set[str] = set()
    for outcome in run:
        case, heard = outcome.input, outcome.value
        tally.cases += 1
        if heard is None:
            tally.failed(outcome.error)
            tally.lost(lesson.lost_of(case))
            continue
        tally.lost(dict(heard.lost))
        if not tally.wanted(case, heard.outcome):
            continue
        for call in lesson.calls(heard, known=known):
            lesson.write_pictures(call, folder)
            tally.stages[call.stage] += 1
            tally.images.update(call.images)
            yield row_of(call, case, score=heard.outcome, teacher=teacher, saw_answer=lesson.show_answer)


def row_of(call: Call, case: Case, *, score: float | None, teacher: str, saw_answer: bool) -> Row:
    """A call as a row of a case; a verdict on a candidate has its label."""
    judged = call.verdict and call.stage.startswith(SCORING)
    return Row(
        stage=call.stage,
        messages=call.messages,
        images=call.images,
        case_id=case.case_id,
        user_id=case.user_id,
        item_id=call.item_id,
        at=case.at,
        label=call.item_id in case.target_ids if judged else None,
        score=score,
        teacher=teacher,
        saw_answer=saw_answer and call.stage.startswith(SCORING),
    )
