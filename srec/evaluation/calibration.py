"""Does a yes-probability of 0.7 mean that 7 of 10 are right? Reliability bins, calibration error, Brier score.

Only what claims to be a probability can be calibrated: the scores of a ranker that is no baseline, if all of them
lie in [0, 1]. Among sampled candidates the share of targets is that of the draw, 1 in 21 for `uniform:20`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from srec.evaluation.metrics import LEVEL, RESAMPLES, Interval, drawn_times, percentiles, quotient
from srec.evaluation.tables import number, table

if TYPE_CHECKING:
    from srec.evaluation.metrics import Labelled

Floats = NDArray[np.float64]

BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The `n` scores in [low, high), of the last bin in [low, high]: their mean and the share of targets among them.

    NaN where there is none.
    """

    low: float
    high: float
    score: float
    share: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far scores are from the share of targets, in [0, 1], less is better.

    `brier` is the mean squared error (Brier 1950); `brier_of_base_rate` is what answering `base_rate`, the share of
    targets, to everything would get. `ece` is the mean distance of score and share over the bins, by their size (Naeini
    et al. 2015); a bootstrap puts its interval a little too high where it is near 0. `n` are scores; intervals are over
    users.
    """

    bins: tuple[Bin, ...]
    brier: Interval
    ece: Interval
    base_rate: float
    brier_of_base_rate: float
    n: int

    @property
    def table(self) -> Table:
        """The reliability bins that hold any score, as a table."""
        shown = table("scores", "n", "mean score", "share of targets")
        for one in self.bins:
            if one.n:
                name = f"{one.low:.1f} to {one.high:.1f}"
                shown.add_row(name, f"{one.n:,}", number(one.score), number(one.share))
        return shown


def shown(name: str, calibration: Calibration) -> Group:
    """A ranker's calibration for a reader."""
    brier, ece = calibration.brier, calibration.ece
    line = (
        f"Calibration of {name}: ECE {number(ece.value)} [{number(ece.low)} {number(ece.high)}], "
        f"Brier {number(brier.value)} [{number(brier.low)} {number(brier.high)}], of the base rate "
        f"{number(calibration.brier_of_base_rate)}; n = {calibration.n:,} scores"
    )
    return Group(Text(line), calibration.table)


@dataclass(slots=True)
class Reliability:
    """Sums of scores and targets by user and bin, as long as all scores are probabilities."""

    bins: int = BINS
    _user_of: dict[Hashable, int] = field(default_factory=dict)
    _sums: list[Floats] = field(default_factory=list)  # a user's [4, bins]: scores, targets, squared errors, count
    _improper: bool = False

    def count(self, user: Hashable, case: Labelled) -> None:
        """One case; what was not scored is left out."""
        scored = np.isfinite(case.values)
        values, wanted = case.values[scored], case.wanted[scored].astype(np.float64)
        if self._improper or (len(values) and not (values.min() >= 0 and values.max() <= 1)):
            self._improper = True
            return
        place = self._user_of.setdefault(user, len(self._sums))
        if place == len(self._sums):
            self._sums.append(np.zeros((4, self.bins)))
        in_bin = np.minimum((values * self.bins).astype(np.int64), self.bins - 1)
        columns = (values, wanted, (values - wanted) ** 2, np.ones(len(values)))
        self._sums[place] += [np.bincount(in_bin, weights=column, minlength=self.bins) for column in columns]

    def report(self, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Calibration | None:
        """The calibration with its intervals; None where scores are no probabilities, or there is none."""
        if self._improper or not self._sums:
            return None
        users = np.stack(self._sums)  # [users, 4, bins]
        total = users.sum(axis=0)
        count = int(total[3].sum())
        if not count:
            return None
        drawn = [
            _errors(np.tensordot(times, users, axes=1))
            for times in drawn_times(len(users), seed=seed, resamples=resamples, cells=max(users[0].size, len(users)))
        ]
        brier, ece = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        at = _errors(total[None])
        base_rate = float(total[1].sum() / count)
        return Calibration(
            bins=tuple(_bins(total)),
            brier=percentiles(float(at[0][0]), brier, level=level, n=count),
            ece=percentiles(float(at[1][0]), ece, level=level, n=count),
            base_rate=base_rate,
            brier_of_base_rate=base_rate * (1 - base_rate),
            n=count,
        )


def _errors(sums: Floats) -> tuple[Floats, Floats]:
    """Brier score and calibration error [draws] of sums [draws, 4, bins]."""
    count = sums[:, 3].sum(axis=1)
    return quotient(sums[:, 2].sum(axis=1), count), quotient(np.abs(sums[:, 0] - sums[:, 1]).sum(axis=1), count)


def _bins(total: Floats) -> Iterable[Bin]:
    count = total.shape[1]
    for place, (scores, targets, _, n) in enumerate(total.T):
        yield Bin(
            low=place / count,
            high=(place + 1) / count,
            score=float(scores / n) if n else math.nan,
            share=float(targets / n) if n else math.nan,
            n=int(n),
        )
