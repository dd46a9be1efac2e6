"""What became of the single scores of a case when one thing was changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from srec.types import Score

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One case, before and after.

    `change` is the mean absolute change of a score, `tau` the rank correlation of the scores in [-1, 1] (Kendall 1945,
    tau-b: ties are allowed for), both over the candidates scored both times; NaN where there is none, `tau` also where
    all scores are equal. `scores` and `ranks` are those of the one candidate that it is about, before and after: NaN
    where it was not scored, or there is none. Ranks are counted from 1, of what is tied the mean.
    """

    change: float
    tau: float
    scores: tuple[float, float] = (math.nan, math.nan)
    ranks: tuple[float, float] = (math.nan, math.nan)

    @classmethod
    def of(cls, before: Floats, after: Floats, *, subject: int | None = None) -> Shift:
        """The shift between two rows of scores [candidates], NaN where not scored; `subject` is a place in them."""
        both = ~(np.isnan(before) | np.isnan(after))
        known = before[both], after[both]
        return cls(
            change=float(np.abs(known[1] - known[0]).mean()) if both.any() else math.nan,
            tau=_tau(*known),
            scores=_pair(before, after, subject),
            ranks=_pair(_ranks(before), _ranks(after), subject),
        )


def values_of(scores: Sequence[Score]) -> Floats:
    """Scores as numbers [candidates], NaN where not scored."""
    return np.array([math.nan if score.value is None else score.value for score in scores], dtype=np.float64)


def _tau(before: Floats, after: Floats) -> float:
    if min(len(set(before.tolist())), len(set(after.tolist()))) < 2:  # noqa: PLR2004  equal scores have no order
        return math.nan
    return float(stats.kendalltau(before, after).statistic)


def _ranks(values: Floats) -> Floats:
    """The rank of each, best first; what was not scored is one tie behind all that was."""
    ranks: Floats = stats.rankdata(-np.where(np.isnan(values), -np.inf, values), method="average")
    return ranks


def _pair(before: Floats, after: Floats, place: int | None) -> tuple[float, float]:
    return (math.nan, math.nan) if place is None else (float(before[place]), float(after[place]))
