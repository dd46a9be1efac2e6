"""Beyond accuracy: how much of the catalogue is recommended, how evenly, and how popular that is.

What is recommended to a user are the first k. Where equal scores go beyond rank k, each of the tied candidates is among
them with the same probability, so that no order that a sort happens to give decides what is covered.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from srec.evaluation.metrics import Interval, bootstrap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """Of the first `k` in `n` cases.

    `coverage` is the expected share of the catalogue in [0, 1] that is recommended at least once. `gini` in [0, 1]
    tells how unevenly the places are shared among the whole catalogue: 0 if every item gets the same number, near 1 if
    one gets all (as in Fleder & Hosanagar 2009). `popularity` is the mean number of training events of what is
    recommended, with its interval over users. All three depend on the candidates: hold them against those of `random`.
    """

    k: int
    coverage: float
    gini: float
    popularity: Interval
    n: int


@dataclass(slots=True, kw_only=True)
class Exposure:
    """Counts who is recommended in the first `k`, over a catalogue of `items`."""

    k: int
    items: int
    _expected: Floats = field(init=False)
    _log_never: Floats = field(init=False)
    _popularity: list[float] = field(default_factory=list)
    _users: list[Hashable] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._expected, self._log_never = np.zeros(self.items), np.zeros(self.items)

    def count(self, user: Hashable, codes: Ints, values: Floats, *, popularity: Floats) -> None:
        """One case: item codes and scores of its candidates, and the training events of every item [items]."""
        share = inclusion(values, k=self.k)
        inside = np.flatnonzero(share)
        codes, share = codes[inside], share[inside]
        self._expected[codes] += share
        with np.errstate(divide="ignore"):  # what is recommended for certain is never left out
            self._log_never[codes] += np.log1p(-share)
        self._popularity.append(float(share @ popularity[codes] / share.sum()) if len(share) else np.nan)
        self._users.append(user)

    def report(self, *, seed: int) -> Beyond:
        """What was counted, with the interval from `seed`."""
        return Beyond(
            k=self.k,
            coverage=float(np.mean(-np.expm1(self._log_never))),
            gini=gini(self._expected),
            popularity=bootstrap(self._popularity, groups=self._users, seed=seed),
            n=len(self._users),
        )


def inclusion(values: Floats, *, k: int) -> Floats:
    """The probability [candidates] of each candidate to be among the first `k`, equal scores in any order.

    >>> inclusion(np.array([2.0, 1.0, 1.0, 0.0]), k=2).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    if len(values) <= k:
        return np.ones(len(values))
    least = np.partition(values, -k)[-k]
    above, same = values > least, values == least
    shares: Floats = above + same * ((k - above.sum()) / same.sum())
    return shares


def gini(shares: Sequence[float] | Floats) -> float:
    """Gini coefficient of non-negative shares: half the mean difference of two of them, over their mean; NaN of none.

    >>> gini([1, 1, 1, 1]), gini([0, 0, 0, 1])
    (0.0, 0.75)
    """
    ordered = np.sort(np.asarray(shares, dtype=np.float64))
    count, total = len(ordered), float(ordered.sum())
    if not total:
        return float("nan")
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * total))
