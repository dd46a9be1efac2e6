"""Is one ranker better than another on the same cases? Differences case by case, over users.

The interval is that of the bootstrap over users, p that of Fisher's randomization test, which of all tests for rankings
is the one to take (Smucker, Allan & Carterette, *A Comparison of Statistical Significance Tests for Information
Retrieval Evaluation*, CIKM 2007): if both were alike, each user's difference could as well have the other sign.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from srec.evaluation.metrics import CHUNK_CELLS, LEVEL, bootstrap
from srec.evaluation.tables import head, number, plain, table

Floats = NDArray[np.float64]

FLIPS = 10_000
ROUNDING = 1e-12  # sums of the same numbers in another order


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much better `a` is than `b`: the mean difference over `n` cases, its 95 % interval, and p of both sides.

    `better`, `same` and `worse` count the cases. `p_holm` is p corrected for all comparisons made beside this one (Holm
    1979), p itself where it was made alone. NaN where no case has a value of both.
    """

    a: str
    b: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    better: int
    same: int
    worse: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparisons:
    """Pairs of rankers on one metric."""

    metric: str
    pairs: tuple[Difference, ...]

    def __rich__(self) -> Table:
        heads = ("difference", "95 % interval", "p", "p (Holm)", "better", "same", "worse")
        shown = table("pair", *heads, title=f"Paired differences of {head(self.metric)}")
        for pair in self.pairs:
            interval = f"[{number(pair.low)} {number(pair.high)}]"
            counts = (f"{count:,}" for count in (pair.better, pair.same, pair.worse))
            name = Text(f"{pair.a} - {pair.b}")
            shown.add_row(name, number(pair.value), interval, shown_p(pair.p), shown_p(pair.p_holm), *counts)
        return shown

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)


def shown_p(p: float) -> str:
    """A p with four decimals; it is never nought."""
    return "<.0001" if p < 0.0001 else f"{p:.4f}".removeprefix("0")  # noqa: PLR2004  the last digit shown


def difference(
    first: tuple[str, Floats],
    second: tuple[str, Floats],
    *,
    metric: str,
    users: Sequence[Hashable],
    seed: int = 0,
    flips: int = FLIPS,
    level: float = LEVEL,
) -> Difference:
    """The first of two (name, values [cases]) less the second; `users` [cases] names whose case each is.

    Cases without a value of both are left out. p is (1 + flips at least as far from 0) / (1 + flips).
    """
    gain = first[1] - second[1]
    known = ~np.isnan(gain)
    gain, owners = gain[known], [user for user, is_known in zip(users, known, strict=True) if is_known]
    interval = bootstrap(gain, groups=owners, seed=seed, level=level) if len(gain) else None
    p = _p(gain, owners, seed=seed, flips=flips)
    return Difference(
        a=first[0],
        b=second[0],
        metric=metric,
        value=interval.value if interval else math.nan,
        low=interval.low if interval else math.nan,
        high=interval.high if interval else math.nan,
        p=p,
        p_holm=p,
        better=int((gain > ROUNDING).sum()),
        same=int((np.abs(gain) <= ROUNDING).sum()),
        worse=int((gain < -ROUNDING).sum()),
        n=len(gain),
    )


def compared(
    columns: Mapping[str, Floats],
    pairs: Iterable[tuple[str, str]] | None = None,
    *,
    metric: str,
    users: Sequence[Hashable],
    seed: int = 0,
    flips: int = FLIPS,
) -> Comparisons:
    """The first less the second of each of `pairs` of columns [cases], with p corrected for their number.

    By default every pair, the earlier less the later.
    """
    found = [
        difference((a, columns[a]), (b, columns[b]), metric=metric, users=users, seed=seed, flips=flips)
        for a, b in (combinations(columns, 2) if pairs is None else pairs)
    ]
    return Comparisons(metric=metric, pairs=tuple(corrected(found)))


def corrected(pairs: Sequence[Difference]) -> list[Difference]:
    """`pairs` with `p_holm`: the i-th smallest of m p times m - i + 1, at least the one before, at most 1.

    A pair without a p (NaN) stays without one and is none of the m.
    """
    tested = [i for i, pair in enumerate(pairs) if not math.isnan(pair.p)]
    found: dict[int, float] = {}
    last = 0.0
    for place, index in enumerate(sorted(tested, key=lambda i: pairs[i].p)):
        last = max(last, min(1.0, (len(tested) - place) * pairs[index].p))
        found[index] = last
    return [replace(pair, p_holm=found.get(index, math.nan)) for index, pair in enumerate(pairs)]


def _p(gain: Floats, users: Sequence[Hashable], *, seed: int, flips: int) -> float:
    """Share of random signs, one a user, under which the sum is at least as far from 0."""
    if not len(gain):
        return math.nan
    number_of = {user: place for place, user in enumerate(dict.fromkeys(users))}
    sums = np.bincount([number_of[user] for user in users], weights=gain, minlength=len(number_of))
    sums = sums[np.abs(sums) > ROUNDING]  # what is 0 has no sign to flip
    if not len(sums):
        return 1.0
    rng, seen, extreme = np.random.default_rng(seed), abs(float(sums.sum())) - ROUNDING, 0
    at_once = max(1, CHUNK_CELLS // len(sums))
    for start in range(0, flips, at_once):
        plus = rng.integers(2, size=(min(at_once, flips - start), len(sums)), dtype=np.int8)
        extreme += int((np.abs(2 * (plus @ sums) - sums.sum()) >= seen).sum())
    return (1 + extreme) / (1 + flips)
