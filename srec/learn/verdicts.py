"""Verdicts from real labels: what a program asks of a candidate, answered by what the user did (the paper's Table 1).

Profile, summary and reasoning in the prompts are made by the program with the LM that is given; the judge itself is
not asked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, TokenLogprob, TopLogprob, Usage

from srec import bulk
from srec.data.candidates import stable_hash
from srec.data.cases import CaseSet
from srec.digest import digest
from srec.errors import InputError
from srec.evaluation.rankers import BASELINES, Baseline, Ranker
from srec.learn.distill import STORE_FOLDER, row_of
from srec.learn.hearing import CALL, Call, Ear, call_of, hearing, lost, write_pictures
from srec.learn.lesson import JUDGE, Allowed, knowing, state_of_program, taught
from srec.learn.rows import LABELS, Row, write_rows
from srec.lm.connect import identity, sees
from srec.lm.verbalizer import NO, YES
from srec.stages.calls import noting
from srec.store import Store

if TYPE_CHECKING:
    from srec.types import Case, Event, Item

VERDICTS_FILE = "verdicts.jsonl"
RATIO = re.compile(r"1:([1-9][0-9]{0,5})")
RATED = re.compile(r"rating:(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)")

UNIFORM, POPULARITY = "uniform", "popularity"

Sampling = str | Ranker | Baseline
"""`uniform`, `popularity`, the name of another baseline of `srec.evaluation.rankers`, or a ranker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReport:
    """What was written, and what became of the cases.

    `rows` is `liked` and `not_liked` together. `unlabelled` cases offer nothing liked; `failed` cases and calls are
    counted by class of error in `reasons`, with the first whole reason of each class in `examples`.
    """

    path: str
    rows: int
    liked: int
    not_liked: int
    images: int
    cases: int
    unlabelled: int
    failed: int
    reasons: Mapping[str, int]
    examples: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = f"{self.liked:,} liked, {self.not_liked:,} not"
        reasons = [f"  {count:,} x {kind}, the first: {self.examples[kind]}" for kind, count in self.reasons.items()]
        return "\n".join(
            [
                f"{self.rows:,} verdicts with {self.images:,} pictures in {self.path}: {rows}",
                f"{self.cases:,} cases: {self.unlabelled:,} with nothing liked, {self.failed:,} failed",
                *reasons,
            ]
        )


def verdict_rows(
    program: Any,
    cases: CaseSet | Iterable[Case],
    *,
    lm: dspy.LM,
    out: str | Path,
    negatives: str = "1:1",
    sampling: Sampling = "uniform",
    label: str = "interaction",
    users: Iterable[str] | None = None,
    items: Iterable[str] | None = None,
    show_answer: bool = False,
    file: str = VERDICTS_FILE,
    workers: int = 16,
    seed: int = 0,
    progress: bool | None = None,
) -> VerdictReport:
    """Write a row `scoring.judge` for targets and negatives of each case, answered `Yes.` or `No.` by what is true.

    The form of the prompt is that of the program's scoring (`CoTScoring(reasoning="none")` for the paper's Table 1). It
    may share `out` with `srec.distill`: pictures and results lie in the same places, and the reasoning alone is asked
    for anew. Rows of a case stand together, in
    the order of the candidates; two of them never differ in the label alone.

    Args:
        program: A program with a predictor `scoring.judge`, such as `srec.MLLMSRec`; it is copied.
        cases: Training cases; negatives are taken from their candidates.
        lm: Makes descriptions, summaries, profile and reasoning: the student, or a teacher.
        out: The folder to write into.
        negatives: "1:1", "1:4" and so on for how many to each that is liked, at most; "all".
        sampling: How negatives are drawn: "uniform", "popularity" (by training events of the fold), or hard ones: the
            highest scores of a ranker, or of a baseline of `srec.evaluation.rankers` (itself or its name, such as
            "item-knn"), which is fitted on the fold. To draw from what a retriever finds, make the cases with
            `candidates="retriever:item-knn:50"`.
        label: "interaction": the targets are liked, all other candidates are not. "rating:4.0": of what the user rated
            from the case's second on, that rated 4.0 or higher is liked, the rest is not, and nothing else is asked.
        users: The training users; None where all are.
        items: The training items; None where all are.
        show_answer: As for `srec.distill`: the reasoning in the prompts was told the target.
        file: Name of the file of rows in `out`.
        workers: Cases at once.
        seed: Decides which negatives are drawn, for each case by itself.
        progress: Whether to show a bar; by default on a terminal only.

    Raises:
        LeakageError: a case has a user or shows an item that is held out.
        InputError: an option is unknown, or asks for a log that the cases do not have.
    """
    choice = _Choice.of(negatives, sampling, label, cases=cases, seed=seed)
    total, folder = length_hint(cases) or None, Path(out)
    allowed = Allowed.of(users, items)
    chosen = choice.made(allowed.only(cases))
    with Store(folder / STORE_FOLDER) as store:
        asking = _Asking(taught(program, lm), lm, store, show_answer=show_answer)
        tally = _Tally()
        run = bulk.run(
            asking.hear,
            allowed.only(tally.labelled(chosen)),
            key=asking.key,
            returns=_Heard,
            store=store,
            workers=workers,
            label="verdicts",
            total=total,
            progress=progress,
        )
        with closing(run):
            rows = _rows(run, tally, store, folder=folder, saw_answer=show_answer)
            count = write_rows(folder / file, rows)
    return VerdictReport(
        path=str(folder / file),
        rows=count,
        liked=tally.liked,
        not_liked=count - tally.liked,
        images=len(tally.images),
        cases=tally.cases,
        unlabelled=tally.unlabelled,
        failed=tally.failed,
        reasons=dict(tally.reasons.most_common()),
        examples=dict(tally.examples),
    )


def check_choice(negatives: str, sampling: Sampling, label: str) -> None:
    """Raise InputError for what no verdicts can be chosen by, before anything is asked."""
    if RATIO.fullmatch(negatives) is None and negatives != "all":
        raise InputError(f"negatives={negatives!r} is not known; give '1:1', '1:4' with your number, or 'all'")
    if RATED.fullmatch(label) is None and label != "interaction":
        raise InputError(f"label={label!r} is not known; give 'interaction', or 'rating:4.0' with your rating")
    if not (sampling in (UNIFORM, *BASELINES) if isinstance(sampling, str) else _is_ranker(sampling)):
        raise InputError(
            f"sampling={sampling!r} is not known; give '{UNIFORM}', '{POPULARITY}', another of "
            f"{', '.join(BASELINES)}, or a ranker"
        )


def _is_ranker(sampling: Any) -> bool:
    return callable(sampling) or isinstance(sampling, Baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Which candidates of a case are asked about: `ratio` negatives to each that is liked, None for all."""

    ratio: int | None
    rank: Mapping[str, Ranker]  # by case id of a `CaseSet`, else under ""; empty for a uniform draw
    weighted: bool  # whether scores of the ranker are weights of a draw
    threshold: float | None
    cases: CaseSet | None
    seed: int

    @classmethod
    def of(
        cls, negatives: str, sampling: Sampling, label: str, *, cases: CaseSet | Iterable[Case], seed: int
    ) -> _Choice:
        check_choice(negatives, sampling, label)
        ratio, rated = RATIO.fullmatch(negatives), RATED.fullmatch(label)
        of_log = cases if isinstance(cases, CaseSet) else None
        if rated is not None and of_log is None:
            raise InputError(f"label={label!r} needs the ratings of a data set; give the cases as srec.cases made them")
        return cls(
            ratio=int(ratio[1]) if ratio else None,
            rank=_rankers(sampling, of_log, seed=seed),
            weighted=sampling == POPULARITY,
            threshold=float(rated[1]) if rated else None,
            cases=of_log,
            seed=seed,
        )

    def made(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Each case with those candidates alone that are asked about; without a target where nothing is liked."""
        for case in cases:
            labelled = case if self.threshold is None else self._rated(case)
            yield self._drawn(labelled) if labelled is not None else replace(case, candidates=())

    def _rated(self, case: Case) -> Case | None:
        """The case with what the user rated from then on as its candidates; None where nothing of it is liked."""
        assert self.cases is not None
        assert self.threshold is not None
        seen = {event.item.item_id for event in case.history.events}
        later = [e for e in self.cases.data.history(case.user_id).events if e.at >= case.at]
        rated: dict[str, Event] = {
            e.item.item_id: e for e in later if e.rating is not None and e.item.item_id not in seen
        }
        liked = tuple(i for i in sorted(rated) if (rated[i].rating or 0.0) >= self.threshold)
        if not liked:
            return None
        return replace(case, candidates=tuple(rated[i].item for i in sorted(rated)), target_ids=liked)

    def _drawn(self, case: Case) -> Case:
        targets = [item for item in case.candidates if item.item_id in case.target_ids]
        others = [item for item in case.candidates if item.item_id not in case.target_ids]
        if self.ratio is None or not targets:
            return case if targets else replace(case, candidates=())
        order = self._preferred(case, others)
        taken = {item.item_id for item in order[: self.ratio * len(targets)]} | set(case.target_ids)
        return replace(case, candidates=tuple(item for item in case.candidates if item.item_id in taken))

    def _preferred(self, case: Case, others: Sequence[Item]) -> list[Item]:
        """Negatives, those first that are to be taken first."""
        finish = {item.item_id: _exponential(self.seed, case, item) for item in others}
        ranker = self.rank.get(case.case_id) or self.rank.get("")
        if ranker is not None:
            values = {score.item_id: score.value for score in ranker(case)}
            known = {item_id: -math.inf if value is None else value for item_id, value in values.items()}
            if not self.weighted:
                return sorted(others, key=lambda item: (-known[item.item_id], finish[item.item_id]))
            # An exponential race at the speed of its weight (Efraimidis & Spirakis 2006); what has none comes last.
            finish = {i: late / known[i] if known[i] > 0.0 else math.inf for i, late in finish.items()}
        return sorted(others, key=lambda item: (finish[item.item_id], item.item_id))


def _exponential(seed: int, case: Case, item: Item) -> float:
    """A draw from the exponential distribution that depends on seed, case and item alone."""
    bits = int.from_bytes(stable_hash("verdicts", seed, case.case_id, item.item_id)[:8])
    return -math.log(((bits >> 11) + 1) / 2**53)


def _rankers(sampling: Sampling, cases: CaseSet | None, *, seed: int) -> dict[str, Ranker]:
    """The ranker of each case that a draw needs."""
    if sampling == UNIFORM:
        return {}
    baseline = BASELINES[sampling] if isinstance(sampling, str) else sampling
    if isinstance(baseline, Baseline):
        if cases is None:
            raise InputError(f"sampling={sampling!r} needs training events; give the cases as srec.cases made them")
        return {
            spec.case_id: ranker
            for fold in cases.folds
            for ranker in [baseline.fit(fold.train, items=cases.items, seed=seed)]
            for spec in fold.specs
        }
    return {"": baseline}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What became of one case: names of the judge's calls, and reasons of calls that failed."""

    calls: tuple[str, ...]
    lost: tuple[tuple[str, int], ...] = ()


class _Asking:
    """Has the program write the judge's prompts, from any thread; the judge is not asked."""

    def __init__(self, program: Any, lm: dspy.LM, store: Store, *, show_answer: bool) -> None:
        predictors = dict(program.named_predictors())
        if JUDGE not in predictors:
            raise InputError(f"the program has no predictor {JUDGE!r}; give one with srec.CoTScoring as its scoring")
        predictors[JUDGE].lm = _nobody(lm)
        self._program, self._store, self._show_answer = program, store, show_answer
        self._lms = {name: predictor.lm for name, predictor in predictors.items()}
        self._state = digest("verdicts", state_of_program(program), show_answer)

    def key(self, case: Case) -> str:
        """The key under which a finished case is kept."""
        return digest("verdicts of a case", self._state, case)

    def hear(self, case: Case) -> _Heard:
        """The judge's calls of one case."""
        program, plain = knowing(self._program, case, lms=self._lms) if self._show_answer else (self._program, None)
        names = {id(predictor): name for name, predictor in program.named_predictors()}
        ear = Ear(names, self._store, instructions=plain)
        with hearing(ear, self._store), noting() as notes:
            program(case)
        ear.check()
        calls = sorted({name for name in notes if name.startswith(CALL)})
        judged = tuple(name for name in calls if call_of(self._store, name).stage == JUDGE)
        return _Heard(calls=judged, lost=tuple(sorted(lost(notes).items())))


@dataclass(slots=True, kw_only=True)
class _Tally:
    """The counts behind a report."""

    cases: int = 0
    unlabelled: int = 0
    failed: int = 0
    liked: int = 0
    images: set[str] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def labelled(self, cases: Iterable[Case]) -> Iterator[Case]:
        """The cases that have something to ask about; all are counted."""
        for case in cases:
            self.cases += 1
            self.unlabelled += not case.candidates
            if case.candidates:
                yield case

    def lost(self, reason: str, times: int = 1) -> None:
        """Count a failure by its class."""
        kind = reason.partition(":")[0]
        self.reasons[kind] += times
        self.examples.setdefault(kind, reason)

    def row(self, row: Row) -> Row:
        """Count a row."""
        self.liked += bool(row.label)
        self.images.update(row.images)
        return row


def _rows(run: bulk.Run[Case, _Heard], tally: _Tally, store: Store, *, folder: Path, saw_answer: bool) -> Iterator[Row]:
    """One row for each call, with the case's own answer; their pictures are written before them."""
    for outcome in run:
        case, heard = outcome.input, outcome.value
        if heard is None:
            tally.failed += 1
            tally.lost(outcome.error)
            continue
        for reason, times in heard.lost:
            tally.lost(reason, times)
        for call in _once(case, [call_of(store, name) for name in heard.calls]):
            write_pictures(call.images, store, folder)
            yield tally.row(_labelled(call, case, saw_answer=saw_answer))


def _once(case: Case, calls: Iterable[Call]) -> list[Call]:
    """Calls in the order of the candidates; of candidates that look alike in the prompt one, a target before others."""
    place = {item.item_id: number for number, item in enumerate(case.candidates)}
    by_question: dict[str, Call] = {}
    for call in sorted(calls, key=lambda call: (call.item_id not in case.target_ids, place[call.item_id])):
        by_question.setdefault(digest(call.messages[:-1], call.images), call)
    return sorted(by_question.values(), key=lambda call: place[call.item_id])


def _labelled(call: Call, case: Case, *, saw_answer: bool) -> Row:
    answer = YES if call.item_id in case.target_ids else NO
    told = replace(call, messages=(*call.messages[:-1], {"role": "assistant", "content": answer}))
    return row_of(told, case, score=None, teacher=LABELS, saw_answer=saw_answer)


class _Nobody:
    """Stands where the judge's LM would: cannot decide, and sees what that LM sees."""

    supports_response_schema = True
    supported_params = frozenset({"max_tokens", "temperature", "logprobs", "top_logprobs", "response_format"})

    def __init__(self, lm: dspy.LM) -> None:
        self.identity = f"nobody in the place of {identity(lm)}"
        self.sees_images = sees(lm)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Nobody:
        """The engine itself."""
        return self

    def complete(self, request: Request) -> Response:
        """Yes and No alike."""
        top = tuple(TopLogprob(token, math.log(0.5)) for token in ("Yes", "No"))
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart("Yes")]),
            finish_reason="stop",
            usage=Usage(input_tokens=0, output_tokens=0),
            logprobs=(TokenLogprob("Yes", math.log(0.5), top=top),),
        )


def _nobody(lm: dspy.LM) -> dspy.LM:
    engine = _Nobody(lm)
    return dspy.LM(engine.identity, engine=engine, cache=False, max_tokens=1, temperature=0.0, num_retries=0)


__all__ = ["VerdictReport", "verdict_rows"]
