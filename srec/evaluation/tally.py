"""What one ranker did over all cases, counted while it goes."""

from __future__ import annotations

import math
import time
from collections import Counter
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srec.evaluation.beyond import Exposure
from srec.evaluation.calibration import Reliability
from srec.evaluation.metrics import (
    Interval,
    Labelled,
    Placement,
    PooledScores,
    bootstrap_table,
    label,
    measure,
)
from srec.evaluation.ranked import Ranked, ranked
from srec.evaluation.report import Fitting, RankerReport
from srec.lm.usage import count_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from srec.evaluation.rankers import Ranker
    from srec.lm.usage import Usage
    from srec.types import Case, Score

Answer = TypeVar("Answer")

REASONS = 20  # classes of failure that are told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One case, ranked."""

    user_id: str
    tied: bool
    labelled: Labelled
    placement: Placement
    ranked: Ranked

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.ranked.metrics


class _Clock:
    """Seconds of wall time in which at least one thread was `running`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = Lock()
        self._threads = 0
        self._since = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._lock:
            if not self._threads:
                self._since = time.perf_counter()
            self._threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._threads -= 1
                if not self._threads:
                    self.seconds += time.perf_counter() - self._since


@dataclass(slots=True, kw_only=True)
class Tally:
    """Metrics, failures and seconds of one ranker; `ks` are the ranks to measure at, `code` finds an item by its id.

    `judges` says that scores in [0, 1] are meant as probabilities.
    """

    ks: Sequence[int]
    code: Mapping[str, int]
    judges: bool
    _rows: list[_Row] = field(default_factory=list)
    _exposures: list[Exposure] = field(init=False)
    _reliability: Reliability = field(default_factory=Reliability)
    _weights: list[Mapping[str, float]] = field(default_factory=list)
    _weighed_on: list[str] = field(default_factory=list)
    _fitting: Fitting = field(default_factory=Fitting)
    _unscored: int = 0
    _unscored_cases: int = 0
    _reasons: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, str] = field(default_factory=dict)
    _clock: _Clock = field(default_factory=_Clock)

    def __post_init__(self) -> None:
        self._exposures = [Exposure(k=k, items=len(self.code)) for k in self.ks]

    def running(self) -> AbstractContextManager[None]:
        """A `with` block whose seconds count as the ranker's; those of several threads at once count once."""
        return self._clock.running()

    def ask(self, rank: Callable[[Case], Answer], case: Case) -> Answer:
        """Rank a case; from any thread."""
        with self.running():
            return rank(case)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A `with` block in which the ranker is fitted; what that takes is also counted apart."""
        began = self._clock.seconds
        with count_usage() as usage, self.running():
            yield
        took: dict[str, Any] = {one.name: getattr(usage, one.name, 0) for one in fields(Fitting)}
        took["seconds"] = self._clock.seconds - began
        self._fitting = Fitting(**{name: getattr(self._fitting, name) + more for name, more in took.items()})

    def fitted(self, rank: Ranker) -> None:
        """Note what a ranker learned on a fold, if it tells."""
        weights = getattr(rank, "weights", None)
        if weights is not None:
            self._weights.append(dict(weights))
            self._weighed_on.append(str(getattr(rank, "basis", "cases of its own")))

    def count(self, case: Case, scores: Sequence[Score], *, popularity: NDArray[np.float64]) -> Ranked:
        """Measure one case, and count what has no score; `popularity` [items] are training events."""
        labelled = label(scores, case.target_ids)
        placement = Placement.of_labelled(labelled)
        item_ids = [score.item_id for score in scores]
        row = _Row(
            user_id=case.user_id,
            tied=case.tied,
            labelled=labelled,
            placement=placement,
            ranked=ranked(
                case.case_id,
                item_ids,
                labelled,
                target_ids=case.target_ids,
                metrics=measure(placement, ks=self.ks),
            ),
        )
        self._rows.append(row)
        self._count_beyond(row, item_ids, popularity=popularity)
        missing = [score.error or "no reason given" for score in scores if score.value is None]
        self._unscored += len(missing)
        self._unscored_cases += bool(missing)
        for error in missing:
            self._count_reason(error)
        return row.ranked

    def report(self, usage: Usage, *, seed: int) -> RankerReport:
        """All that was counted, with intervals from `seed`."""
        untied = [row for row in self._rows if not row.tied]
        return RankerReport(
            metrics=_intervals(self._rows, seed=seed),
            metrics_untied=_intervals(untied, seed=seed) if 0 < len(untied) < len(self._rows) else {},
            beyond=tuple(exposure.report(seed=seed) for exposure in self._exposures),
            calibration=self._reliability.report(seed=seed) if self.judges else None,
            fitting=self._fitting,
            weights=tuple(self._weights),
            weighed_on=tuple(self._weighed_on),
            stages={name: replace(stage) for name, stage in usage.stages.items()},
            cases=tuple(row.ranked for row in self._rows),
            unscored=self._unscored,
            unscored_cases=self._unscored_cases,
            reasons=dict(self._reasons.most_common()),
            examples=dict(self._examples),
            lm_calls=usage.lm_calls,
            cache_hits=usage.cache_hits,
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            truncated=usage.truncated,
            failures=usage.failures,
            unseen_images=usage.unseen_images,
            seconds=self._clock.seconds,
        )

    def chance(self) -> dict[str, float]:
        """What a random ranking of the same candidates gets on average, by metric."""
        rows = [measure(row.placement.at_random(), ks=self.ks) for row in self._rows]
        chance = {name: _mean([row[name] for row in rows]) for name in rows[0]}
        found = sum(int(row.placement.hits.sum()) for row in self._rows)
        return chance | {"pooled_auc": found / sum(row.placement.targets for row in self._rows) / 2}

    def found(self, *, seed: int) -> Interval:
        """The share of a case's targets that are among its candidates."""
        shares = [int(row.placement.hits.sum()) / row.placement.targets for row in self._rows]
        users = [row.user_id for row in self._rows]
        return bootstrap_table({"found": shares}, groups=users, seed=seed)["found"]

    def _count_beyond(self, row: _Row, item_ids: Sequence[str], *, popularity: NDArray[np.float64]) -> None:
        codes = np.array([self.code[item_id] for item_id in item_ids], dtype=np.int64)
        for exposure in self._exposures:
            exposure.count(row.user_id, codes, row.labelled.values, popularity=popularity)
        self._reliability.count(row.user_id, row.labelled)

    def _count_reason(self, error: str) -> None:
        """Count by the words before the first colon, which name the class; the rest is one example of it."""
        kind = error.partition(":")[0]
        kind = kind if kind in self._reasons or len(self._reasons) < REASONS else "other"
        self._reasons[kind] += 1
        self._examples.setdefault(kind, error)


def _intervals(rows: Sequence[_Row], *, seed: int) -> dict[str, Interval]:
    users = [row.user_id for row in rows]
    columns = {name: [row.metrics[name] for row in rows] for name in rows[0].metrics}
    pooled = PooledScores.of((row.user_id, row.labelled) for row in rows)
    return bootstrap_table(columns, groups=users, seed=seed) | {"pooled_auc": pooled.interval(seed=seed)}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
