"""A measured number that does not stand alone: its interval, what chance gets, and the best there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import NormalDist, fmean
from typing import TypeVar

from srec.evaluation.metrics import LEVEL, Interval, bootstrap

S = TypeVar("S")
T = TypeVar("T")

SHIFTS = 100  # strangers that each answer is held against, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number with its 95 % interval; NaN where there was nothing to measure, or chance means nothing.

    `ceiling` is the best that can be reached: 0 where less is better. `n` counts what the interval takes as
    independent: items, users or cases.
    """

    value: float
    low: float
    high: float
    chance: float
    n: int
    ceiling: float = 1.0

    @classmethod
    def of(cls, interval: Interval, *, chance: float, ceiling: float = 1.0) -> Figure:
        """A figure from an interval of the metrics."""
        return cls(
            value=interval.value, low=interval.low, high=interval.high, chance=chance, n=interval.n, ceiling=ceiling
        )


Figures = Mapping[str, Figure]


def share(hits: Sequence[bool], *, of: Sequence[Hashable], chance: float, ceiling: float = 1.0) -> Figure:
    """Share of `hits` with Wilson's score interval (Wilson 1927).

    `of` names the item or user of each hit. Those of one name may all be right or wrong together, so they count as one
    observation in the interval, which is on the safe side.
    """
    value, n = fmean(hits) if hits else math.nan, len(set(of))
    low, high = wilson(value, n)
    return Figure(value=value, low=low, high=high, chance=chance, n=n, ceiling=ceiling)


def mean(values: Sequence[float], *, of: Sequence[Hashable], chance: float, ceiling: float) -> Figure:
    """Mean of `values` with its bootstrap interval over the names in `of`."""
    if not values:
        return Figure(value=math.nan, low=math.nan, high=math.nan, chance=chance, n=0, ceiling=ceiling)
    interval = bootstrap(values, groups=of)
    return Figure(
        value=interval.value, low=interval.low, high=interval.high, chance=chance, n=len(set(of)), ceiling=ceiling
    )


def wilson(value: float, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """The score interval of a share of `n` observations; (NaN, NaN) of none."""
    if not n:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = value + z * z / (2 * n)
    reach = z * math.sqrt(value * (1 - value) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    low, high = (middle - reach) / scale, (middle + reach) / scale
    return max(0.0, min(value, low)), min(1.0, max(value, high))  # at 0 and 1 they meet, but for rounding


def by_strangers(hits: Callable[[S, T], Sequence[float]], said: Sequence[S], truths: Sequence[T]) -> float:
    """Chance level: the mean of `hits` when what was said of each is held against the truth of others.

    Keeps how much is said and how often each thing is true, and breaks only the tie between the two. Each is held
    against the `SHIFTS` that follow it, round the end; NaN for fewer than two.
    """
    count = len(said)
    rows = (
        hits(said[place], truths[(place + shift) % count])
        for shift in range(1, min(count - 1, SHIFTS) + 1)
        for place in range(count)
    )
    found = list(chain.from_iterable(rows))
    return fmean(found) if found else math.nan
