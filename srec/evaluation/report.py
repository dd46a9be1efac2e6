"""The table at the end: metrics with intervals, what chance gets, what failed, what it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from srec.errors import InputError
from srec.evaluation import calibration as calibrated
from srec.evaluation.beyond import Beyond
from srec.evaluation.calibration import Calibration
from srec.evaluation.costs import Projection, costs_table, projected
from srec.evaluation.metrics import rank_of
from srec.evaluation.paired import FLIPS, Comparisons, Difference, compared, difference
from srec.evaluation.slices import Slices, Slicing, named_slicings, sliced
from srec.evaluation.tables import Shown, cell, head, number, plain, table

if TYPE_CHECKING:
    from srec.data.statistics import Statistics
    from srec.evaluation.facts import CaseFacts
    from srec.evaluation.metrics import Interval
    from srec.evaluation.ranked import Ranked
    from srec.lm.usage import StageUsage

SHOWN_K = 10
LM_HEADS = ("LM calls", "from store", "tokens in", "tokens out")
PER_CASE = "cases"  # what is long in the JSON of a report


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """What it took to fit a ranker, as a blend that asks a program for its validation cases."""

    lm_calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    failures: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerReport:
    """What one ranker reached and what it took.

    `metrics_untied` leaves out the cases whose target is tied in time; it is empty where none is, or all are.
    `unscored` counts candidates, `unscored_cases` the cases they are in, `reasons` why, each with an example in
    `examples`. `failures` counts what failed on the way (a description, a score), each time anew. `seconds` is the wall
    time in which the ranker was fitted or asked, not that of building cases; `fitting` is the part of all these before
    the first case is asked. `stages` has the counts and seconds of
    each stage of a program, those of several users at once added up.

    `beyond` has an entry for each of the report's `ks`, `calibration` is there where scores are probabilities,
    `weights` are those of a blend, by ranker, for each fold, `weighed_on` the cases that they were fitted on. `cases`
    are in the order of the report's.
    """

    metrics: Mapping[str, Interval]
    metrics_untied: Mapping[str, Interval]
    unscored: int
    unscored_cases: int
    reasons: Mapping[str, int]
    examples: Mapping[str, str]
    lm_calls: int
    cache_hits: int
    prompt_tokens: int
    output_tokens: int
    truncated: int
    unseen_images: int
    failures: int
    seconds: float
    beyond: tuple[Beyond, ...] = ()
    calibration: Calibration | None = None
    fitting: Fitting = Fitting()
    weights: tuple[Mapping[str, float], ...] = ()
    weighed_on: tuple[str, ...] = ()
    stages: Mapping[str, StageUsage] = field(default_factory=dict)
    cases: tuple[Ranked, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """Rankers on the same `n` cases of `users` users.

    `chance` is what a random ranking of the same candidates gets on average. `tied` counts cases whose target shares
    its second with another event, `skipped` users without a case, `intake` what was read of the dataset. `retrieved` is
    the share of targets that a retriever found, its recall, where one chose the candidates. `statistics` counts the
    dataset anew. `cases` tells what is known of each case; `rankers[name].cases` has its ranks, scores and candidates.
    Prints as text, also at the prompt; a rich console shows the same tables in its own width.
    """

    data: str
    n: int
    users: int
    protocol: str
    task: str
    candidates: str
    model: str
    seed: int
    cases_seed: int
    ks: tuple[int, ...]
    rankers: Mapping[str, RankerReport]
    chance: Mapping[str, float]
    tied: int
    skipped: Mapping[str, int]
    intake: Mapping[str, int]
    seconds: float
    retrieved: Interval | None = None
    statistics: Statistics | None = None
    cases: tuple[CaseFacts, ...] = ()
    metric: str = ""

    @property
    def shown_k(self) -> int:
        """The rank that the table cuts at: that of `metric`, else 10 if it was measured, or the last that was."""
        asked = rank_of(self.metric) if self.metric else None
        return asked or (SHOWN_K if SHOWN_K in self.ks else self.ks[-1])

    @property
    def compared_by(self) -> str:
        """What pairs and slices are of where no metric is named: `metric`, or NDCG at the table's rank."""
        return self.metric or f"ndcg@{self.shown_k}"

    def compare(
        self, a: str, b: str, metric: str | None = None, *, seed: int | None = None, flips: int = FLIPS
    ) -> Difference:
        """How much better ranker `a` is than `b` on the same cases, with interval and p.

        `metric` and `seed` are by default that of `compared_by` and of the report. Raises InputError for what was not
        measured, and for `pooled_auc`, which has no value per case.
        """
        metric = metric or self.compared_by
        _check_flips(flips)
        first, second = ((name, self._column(name, metric)) for name in (a, b))
        return difference(first, second, metric=metric, users=self._users(), seed=self._seed(seed), flips=flips)

    def comparisons(
        self,
        metric: str | None = None,
        *,
        pairs: Iterable[tuple[str, str]] | None = None,
        seed: int | None = None,
        flips: int = FLIPS,
    ) -> Comparisons:
        """`compare` for the planned `pairs`, by default for every two rankers, with p corrected for their number.

        >>> report.comparisons(pairs=[("mine", "item-knn"), ("mine", "markov")])  # doctest: +SKIP
        """
        metric = metric or self.compared_by
        _check_flips(flips)
        planned = None if pairs is None else list(pairs)
        names = self.rankers if planned is None else dict.fromkeys(chain.from_iterable(planned))
        columns = {name: self._column(name, metric) for name in names}
        return compared(columns, planned, metric=metric, users=self._users(), seed=self._seed(seed), flips=flips)

    def slices(self, by: Mapping[str, Slicing] | Iterable[str] | None = None, *, metric: str | None = None) -> Slices:
        """A metric of every ranker on slices of the cases: by `item`, `history`, `image`, `tie` and `gap`.

        `by` are some of these names, or functions of your own from `CaseFacts` to the name of a slice, by the name of
        what they tell apart.

        >>> report.slices({"year": lambda case: str(1970 + case.at // 31_556_952)})  # doctest: +SKIP
        """
        metric = metric or self.compared_by
        for name in self.rankers:
            self._column(name, metric)
        ranked = {name: row.cases for name, row in self.rankers.items()}
        return sliced(self.cases, ranked, by=named_slicings(by), metric=metric, seed=self.seed)

    def ranked(self, ranker: str, case_id: str) -> Ranked:
        """What a ranker made of one case: ranks of the targets, scores and candidates."""
        self._known(ranker)
        for row in self.rankers[ranker].cases:
            if row.case_id == case_id:
                return row
        raise InputError(f"case {case_id!r} is not in this report; `cases` has those that are")

    @property
    def beyond(self) -> Shown:
        """What is recommended in the first `shown_k`: coverage, evenness and popularity of every ranker."""
        shown = table("ranker", "coverage", "Gini", "events of an item", title=f"The first {self.shown_k}")
        for name, row in self.rankers.items():
            for one in row.beyond:
                if one.k == self.shown_k:
                    events = one.popularity
                    text = f"{events.value:,.1f} [{events.low:,.1f} {events.high:,.1f}]"
                    shown.add_row(Text(name), number(one.coverage), number(one.gini), text)
        return Shown(shown)

    @property
    def calibration(self) -> Shown:
        """Reliability bins of every ranker that is no baseline and whose scores all lie in [0, 1]."""
        rows = {name: row.calibration for name, row in self.rankers.items() if row.calibration}
        if not rows:
            return Shown(Text("No ranker here gives probabilities, so there is no calibration."))
        return Shown(Group(*(calibrated.shown(name, row) for name, row in rows.items())))

    @property
    def costs(self) -> Shown:
        """LM calls, tokens, seconds and failures of every stage of the programs, and of one recommendation."""
        if not any(row.stages for row in self.rankers.values()):
            return Shown(Text("No ranker here has stages, so there are no costs of stages to tell."))
        return Shown(costs_table(self.rankers, n=self.n))

    def projected(
        self,
        ranker: str,
        *,
        items: int,
        users: int,
        candidates: int | None = None,
        price: tuple[float, float] | None = None,
    ) -> Projection:
        """What a program would take for a catalogue and a user base of this size, from what its stages took here.

        Each item is described once; each user gets summaries, a profile and `candidates` scores, by default as many as
        a case has here on average. `price` is that of a million tokens, in and out.

        Raises:
            InputError: a ranker without stages, a size below 0, or a stage whose results all came from the store.
        """
        self._known(ranker)
        row = self.rankers[ranker]
        if candidates is None:
            candidates = round(sum(case.candidates for case in row.cases) / self.n)
        return projected(ranker, row, items=items, users=users, candidates=candidates, price=price)

    def to_dict(self, *, per_case: bool = True) -> dict[str, Any]:
        """The report as plain values, comparisons and slices included; what is no number is None.

        Without `per_case`, the ranking of each case is left out.
        """
        found: dict[str, Any] = jsonable(self)
        found["comparisons"] = [jsonable(pair) for pair in self.comparisons().pairs] if self.cases else []
        found["slices"] = jsonable(self.slices()) if self.cases else {}
        if not per_case:
            for part in (found, *found["rankers"].values()):
                del part[PER_CASE]
        return found

    def to_json(self, *, per_case: bool = True) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict(per_case=per_case), indent=2, ensure_ascii=False)

    def notes(self) -> list[str]:
        """What must be known to read the numbers."""
        return list(_notes(self))

    def __rich__(self) -> Group:
        notes = (Text(f"- {note}") for note in self.notes())
        return Group(_title(self), _metrics_table(self), _costs_table(self), *notes)

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)

    def _column(self, ranker: str, metric: str) -> NDArray[np.float64]:
        """The metric of each case, float64[cases]."""
        self._known(ranker)
        rows = self.rankers[ranker].cases
        if not rows:
            raise InputError("this report was made without its cases; evaluate again")
        if metric not in rows[0].metrics:
            raise InputError(f"metric {metric!r} has no value per case; give one of {', '.join(rows[0].metrics)}")
        return np.array([row.metrics[metric] for row in rows], dtype=np.float64)

    def _users(self) -> list[str]:
        return [case.user_id for case in self.cases]

    def _seed(self, given: int | None) -> int:
        if given is not None and given < 0:
            raise InputError(f"seed={given} is below 0; give 0 or more")
        return self.seed if given is None else given

    def _known(self, ranker: str) -> None:
        if ranker not in self.rankers:
            raise InputError(f"ranker {ranker!r} is not in this report; it has {', '.join(self.rankers)}")


def _check_flips(flips: int) -> None:
    if flips < 1:
        raise InputError(f"flips={flips} tests nothing; give at least 1")


def _metrics_table(report: Report) -> Table:
    k = report.shown_k
    metrics = [f"ndcg@{k}", f"recall@{k}", f"mrr@{k}", "auc", "pooled_auc"]
    shown = table("ranker", *map(head, metrics))
    for name, row in report.rankers.items():
        shown.add_row(Text(name), *(cell(row.metrics[metric]) for metric in metrics))
    shown.add_row("chance", *(number(report.chance[metric]) for metric in metrics))
    return shown


def _costs_table(report: Report) -> Table:
    """Seconds and what had no score; LM columns where any ranker asked one, or found its answers in the store."""
    asks_lm = any(row.lm_calls or row.cache_hits for row in report.rankers.values())
    shown = table("ranker", "unscored", "seconds", *(LM_HEADS if asks_lm else ()))
    for name, row in report.rankers.items():
        counts = (row.lm_calls, row.cache_hits, row.prompt_tokens, row.output_tokens) if asks_lm else ()
        shown.add_row(Text(name), f"{row.unscored:,}", f"{row.seconds:,.1f}", *(f"{count:,}" for count in counts))
    return shown


def _title(report: Report) -> Text:
    users = "" if report.users == report.n else f" of {report.users:,} users"
    asked = f"{report.data}: {report.task}, {report.protocol}, candidates {report.candidates}"
    return Text(f"{asked}, n = {report.n:,} cases{users}" + (f", {report.model}" if report.model else ""))


def _notes(report: Report) -> Iterator[str]:
    yield (
        "Mean over cases [95 % bootstrap interval over users]. Equal scores are averaged over all their orders; "
        "what was not scored ranks last as one tie."
    )
    yield from _notes_on_protocol(report)
    yield from _notes_on_rankers(report.rankers)
    if report.statistics is not None:
        yield f"Dataset: {report.statistics}."
    if any(report.skipped.values()):
        each = ", once for each cut-off" if report.protocol == "global-time" else ""
        yield f"Users without a case{each}: {_listed(report.skipped)}."


def _notes_on_protocol(report: Report) -> Iterator[str]:
    if report.protocol == "leave-last-out":
        yield "Leave-last-out: rankers may be fitted on events of other users that are later than the case."
    kind = report.candidates.partition(":")[0]
    if kind in ("uniform", "popularity"):
        yield (
            "Sampled candidates: the order of two rankers here need not be their order on the full catalogue "
            "(Krichene & Rendle 2020); print it beside candidates 'full', not instead."
        )
    if kind == "retriever":
        yield "A target that the retriever missed is in the metrics as ranked behind everything." + _recall(report)
    if report.tied:
        yield f"{report.tied:,} of {report.n:,} cases have a target that is tied in time" + _untied(report)


def _recall(report: Report) -> str:
    """How many of the targets the retriever found."""
    if report.retrieved is None:
        return ""
    found = report.retrieved
    return f" It found {number(found.value)} [{number(found.low)} {number(found.high)}] of the targets."


def _untied(report: Report) -> str:
    """How the rankers do on the other cases, by the table's first metric."""
    metric = f"ndcg@{report.shown_k}"
    rows = [(name, row.metrics_untied) for name, row in report.rankers.items() if row.metrics_untied]
    others = [f"{name} {number(metrics[metric].value)}" for name, metrics in rows]
    return f"; {head(metric)} on the others: {', '.join(others)}." if others else "."


def _notes_on_rankers(rankers: Mapping[str, RankerReport]) -> Iterator[str]:
    for name, row in rankers.items():
        if row.unscored:
            yield f"{name}: {row.unscored:,} candidates in {row.unscored_cases:,} cases were not scored: {_told(row)}"
        if row.unseen_images:
            yield f"{name}: the model could not see {row.unseen_images:,} images; it was given their text only."
        if row.failures:
            yield (
                f"{name}: {row.failures:,} results failed; an item whose fusion failed is shown by title and "
                "attributes. Run `srec describe` on the same store to see the reasons."
            )
        if row.truncated:
            yield f"{name}: {row.truncated:,} answers were cut off at the token limit."
        for weights, basis in zip(row.weights, row.weighed_on, strict=True):
            listed = ", ".join(f"{part} {weight:.2f}" for part, weight in weights.items())
            yield f"{name}: weights fitted on {basis}: {listed}."


def _told(row: RankerReport) -> str:
    return "; ".join(f"{count:,} x {row.examples[kind]}" for kind, count in row.reasons.items())


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)


def jsonable(value: Any) -> Any:
    """`value` as JSON has it."""
    if hasattr(value, "to_dict") and not isinstance(value, Report):
        return jsonable(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: jsonable(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {key: jsonable(inner) for key, inner in value.items()}
    return [jsonable(inner) for inner in value] if isinstance(value, (tuple, list)) else value
