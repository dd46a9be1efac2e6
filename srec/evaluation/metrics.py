"""Metrics of rankings, with ties averaged, and their uncertainty.

A metric of one case is its expectation over every order of the tied candidates, in closed form (McSherry & Najork,
*Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores*, ECIR 2008): no order
that a sort happens to give can win or lose. What was not scored (`Score.value` None) is one tied group behind all that
was; a target that is not among the candidates was missed and ranks behind everything.

All metrics are in [0, 1], larger is better.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from srec.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence

    from srec.types import Score

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sparse = Any  # scipy.sparse.csr_array, which carries no types

RESAMPLES = 1000
LEVEL = 0.95
PER_CASE = re.compile(r"auc|(?:ndcg|recall|mrr)@([1-9][0-9]{0,5})")
CHUNK_CELLS = 4_000_000  # floats held at a time while resampling, 32 MB


def rank_of(metric: str) -> int | None:
    """The rank at which a metric cuts, None for AUC. Raises InputError for what has no value per case."""
    known = PER_CASE.fullmatch(metric)
    if known is None:
        raise InputError(f"metric {metric!r} has no value per case; give auc, ndcg@10, recall@10 or mrr@10")
    return int(known[1]) if known[1] else None


def recall_at(k: int, scores: Sequence[Score], target_ids: Collection[str]) -> float:
    """Share of the targets in the first `k`; for one target this is the hit rate.

    >>> from srec.types import Score
    >>> recall_at(1, [Score(item_id="a", value=1.0), Score(item_id="b", value=1.0)], ["a"])
    0.5
    """
    return Placement.of(scores, target_ids).recall_at(k)


def ndcg_at(k: int, scores: Sequence[Score], target_ids: Collection[str]) -> float:
    """Discounted gain of the targets in the first `k`, as a share of the best possible (Järvelin & Kekäläinen 2002)."""
    return Placement.of(scores, target_ids).ndcg_at(k)


def mrr_at(k: int, scores: Sequence[Score], target_ids: Collection[str]) -> float:
    """One over the rank of the first target; 0.0 below rank `k`."""
    return Placement.of(scores, target_ids).mrr_at(k)


def auc(scores: Sequence[Score], target_ids: Collection[str]) -> float:
    """Probability that a target of this case scores above a candidate that is none, ties 1/2; NaN if all are."""
    return Placement.of(scores, target_ids).auc()


def pooled_auc(cases: Iterable[tuple[Sequence[Score], Collection[str]]]) -> float:
    """AUC over all candidate scores of all cases in one list: are scores comparable *between* users, too?

    The Mann-Whitney statistic with ties 1/2; NaN where no candidate is a target, or all are.
    """
    return PooledScores.of((row, label(scores, target_ids)) for row, (scores, target_ids) in enumerate(cases)).auc()


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Scores of one case as numbers, beside what is wanted.

    `values` float64[candidates], -inf where not scored; `wanted` bool[candidates]; `missed` targets are no candidates.
    """

    values: Floats
    wanted: NDArray[np.bool_]
    missed: int


def label(scores: Sequence[Score], target_ids: Collection[str]) -> Labelled:
    """The scores of one case as numbers; raises InputError without a target, or for an item scored twice."""
    targets = frozenset(target_ids)
    if not targets:
        raise InputError("a metric needs at least one target id")
    ids = [score.item_id for score in scores]
    if len(set(ids)) != len(ids):
        raise InputError("an item is scored twice in one case; give one score per candidate")
    values = np.array([-math.inf if score.value is None else score.value for score in scores], dtype=np.float64)
    wanted = np.fromiter((item_id in targets for item_id in ids), dtype=np.bool_, count=len(ids))
    return Labelled(values=values, wanted=wanted, missed=len(targets) - int(wanted.sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the targets of one case came: the tied groups that hold any, best first.

    `better` int[groups]: candidates before the group; `size`: candidates in it; `hits`: targets among those.
    """

    better: Ints
    size: Ints
    hits: Ints
    candidates: int
    targets: int

    @classmethod
    def of(cls, scores: Sequence[Score], target_ids: Collection[str]) -> Placement:
        """Placement of the targets by `scores`."""
        return cls.of_labelled(label(scores, target_ids))

    @classmethod
    def of_labelled(cls, case: Labelled) -> Placement:
        """Placement of the targets by the scores of `case`."""
        ordered = np.sort(case.values)
        values, hits = np.unique(case.values[case.wanted], return_counts=True)
        above = np.searchsorted(ordered, values, side="right")
        size = above - np.searchsorted(ordered, values, side="left")
        count = len(ordered)
        return cls(
            better=(count - above)[::-1],
            size=size[::-1],
            hits=hits[::-1],
            candidates=count,
            targets=int(hits.sum()) + case.missed,
        )

    def at_random(self) -> Placement:
        """The same candidates and targets, all tied: its metrics are what a random ranking gets on average (chance)."""
        found = int(self.hits.sum())
        groups = int(found > 0)
        return Placement(
            better=np.zeros(groups, dtype=np.int64),
            size=np.full(groups, self.candidates),
            hits=np.full(groups, found),
            candidates=self.candidates,
            targets=self.targets,
        )

    def recall_at(self, k: int) -> float:
        """Of a group, the share that fits into the first `k` is counted of its targets."""
        inside = np.clip(k - self.better, 0, self.size)
        return float((self.hits * inside / self.size).sum() / self.targets)

    def ndcg_at(self, k: int) -> float:
        """Each rank of a group holds hits/size of a target; the best order has min(k, targets) of them in front."""
        k = min(k, max(self.candidates, self.targets))  # what lies behind all of them costs time and changes nothing
        discounts = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])  # [j]: of the first j ranks
        first, last = np.minimum(self.better, k), np.minimum(self.better + self.size, k)
        gain = self.hits / self.size * (discounts[last] - discounts[first])
        return float(gain.sum() / discounts[min(k, self.targets)])

    def mrr_at(self, k: int) -> float:
        """The best group holds the first of its r targets at place j of m with P(J = j) = C(m - j, r - 1) / C(m, r)."""
        if not len(self.better):
            return 0.0
        better, size, hits = int(self.better[0]), int(self.size[0]), int(self.hits[0])
        places = np.arange(1, min(size - hits + 1, k - better) + 1)
        later = np.cumprod((size - places - hits + 1) / np.maximum(size - places, 1))  # P(J = j + 1) / P(J = 1)
        chance = hits / size * np.concatenate([[1.0], later])[: len(places)]
        return float((chance / (better + places)).sum())

    def auc(self) -> float:
        """Pairs of a target and a candidate that is none, won or tied, over all such pairs.

        Without a candidate that is none: NaN, or where targets were missed the share of those that were not.
        """
        found = int(self.hits.sum())
        negatives = self.candidates - found
        if not negatives:
            return math.nan if found == self.targets else found / self.targets
        targets_above = np.cumsum(self.hits) - self.hits
        negatives_above = self.better - targets_above
        negatives_tied = self.size - self.hits
        won = self.hits * (negatives - negatives_above - negatives_tied / 2)
        return float(won.sum() / (self.targets * negatives))


def measure(placement: Placement, *, ks: Iterable[int]) -> dict[str, float]:
    """All metrics of one case by name: `ndcg@k`, `recall@k` and `mrr@k` for each k, and `auc`."""
    found: dict[str, float] = {}
    for k in ks:
        found[f"ndcg@{k}"] = placement.ndcg_at(k)
        found[f"recall@{k}"] = placement.recall_at(k)
        found[f"mrr@{k}"] = placement.mrr_at(k)
    found["auc"] = placement.auc()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over `n` cases and the bootstrap interval around it; NaN throughout where no case has a value."""

    value: float
    low: float
    high: float
    n: int


def bootstrap(
    values: Sequence[float] | Floats,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Mean of `values` with its percentile bootstrap interval (Efron 1979); NaN values are left out.

    `groups` names the user of each value: users are drawn, each with all of their values, because several cases of
    one user are not independent. Without it each value is a user of its own.
    """
    column = {"value": np.asarray(values, dtype=np.float64)}
    return bootstrap_table(column, groups=groups, seed=seed, resamples=resamples, level=level)["value"]


def bootstrap_table(
    columns: Mapping[str, Sequence[float] | Floats],
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """`bootstrap` of several columns of equal length at once, on the same drawn users."""
    table = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])  # [cases, columns]
    count = len(table)
    owner, users = _numbered(range(count) if groups is None else groups)
    known = ~np.isnan(table)
    cases_of = sparse.csr_array((np.ones(count), (owner, np.arange(count))), shape=(users, count))
    sums, counts = cases_of @ np.where(known, table, 0.0), cases_of @ known.astype(np.float64)  # [users, columns]
    draws = drawn_times(users, seed=seed, resamples=resamples, cells=users)
    drawn = np.concatenate([quotient(times @ sums, times @ counts) for times in draws])  # [resamples, columns]
    mean = quotient(sums.sum(axis=0), counts.sum(axis=0))
    return {
        name: percentiles(float(mean[i]), drawn[:, i], level=level, n=int(known[:, i].sum()))
        for i, name in enumerate(columns)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledScores:
    """Scores of many cases in one list, counted per user so that users can be drawn again without another sort.

    The distinct scores of targets are cuts. `targets` [cuts, users] counts the targets on a cut; `others`
    [2 * cuts + 1, users] counts the rest: row 2c between cut c - 1 and cut c, row 2c + 1 on cut c. `missed` [users]
    are the targets that were no candidates.
    """

    targets: Sparse
    others: Sparse
    missed: Floats
    cases: int

    @classmethod
    def of(cls, cases: Iterable[tuple[Hashable, Labelled]]) -> PooledScores:
        """Pool the labelled scores of (user, case) pairs."""
        pairs = list(cases)
        if not pairs:
            raise InputError("pooled AUC needs at least one case")
        names, labelled = zip(*pairs, strict=True)
        owner, users = _numbered(names)
        user = np.repeat(owner, [len(case.values) for case in labelled])
        values = np.concatenate([case.values for case in labelled])
        wanted = np.concatenate([case.wanted for case in labelled])
        missed = np.array([case.missed for case in labelled], dtype=np.float64)
        cuts, cut = np.unique(values[wanted], return_inverse=True)
        rest = values[~wanted]
        row = np.searchsorted(cuts, rest, side="left") + np.searchsorted(cuts, rest, side="right")
        return cls(
            targets=_counts(cut, user[wanted], shape=(len(cuts), users)),
            others=_counts(row, user[~wanted], shape=(2 * len(cuts) + 1, users)),
            missed=np.bincount(owner, weights=missed, minlength=users).astype(np.float64),
            cases=len(labelled),
        )

    def auc(self) -> float:
        """Share of all pairs (a target, a candidate that is none) in which the target scores higher, ties 1/2."""
        return float(self._auc(np.ones((1, len(self.missed))))[0])

    def interval(self, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
        """`auc` with its percentile bootstrap interval over users."""
        draws = drawn_times(len(self.missed), seed=seed, resamples=resamples, cells=max(self.others.shape))
        drawn = np.concatenate([self._auc(times) for times in draws])
        return percentiles(self.auc(), drawn, level=level, n=self.cases)

    def _auc(self, times: Floats) -> Floats:
        """AUC [draws] where each user counts `times` [draws, users] times."""
        weights = np.ascontiguousarray(times.T)
        targets, others = self.targets @ weights, self.others @ weights
        below = np.cumsum(others, axis=0)[:-1:2]
        won = (targets * (below + others[1::2] / 2)).sum(axis=0)
        return quotient(won, (targets.sum(axis=0) + self.missed @ weights) * others.sum(axis=0))


def _numbered(names: Iterable[Hashable]) -> tuple[Ints, int]:
    """Each name by its number in order of appearance, and how many there are."""
    number: dict[Hashable, int] = {}
    owner = np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int64)
    return owner, len(number)


def _counts(row: Ints, column: Ints, *, shape: tuple[int, int]) -> Sparse:
    return sparse.coo_array((np.ones(len(row)), (row, column)), shape=shape).tocsr()


def drawn_times(users: int, *, seed: int, resamples: int, cells: int) -> Iterator[Floats]:
    """How often each user is drawn, [draws, users], in chunks that keep draws * `cells` bounded."""
    rng = np.random.default_rng(seed)
    per_chunk = max(1, CHUNK_CELLS // max(1, cells))
    for start in range(0, resamples, per_chunk):
        draws = min(per_chunk, resamples - start)
        drawn = rng.integers(users, size=(draws, users)) + users * np.arange(draws)[:, None]
        yield np.bincount(drawn.ravel(), minlength=draws * users).reshape(draws, users).astype(np.float64)


def quotient(above: Floats, below: Floats) -> Floats:
    """`above / below`, NaN where that is 0 / 0."""
    ratio = np.full(np.shape(above), math.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio


def percentiles(value: float, drawn: Floats, *, level: float, n: int) -> Interval:
    """`value` with the interval between percentiles of what was `drawn`, NaN left out."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value=value, low=math.nan, high=math.nan, n=n)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=n)
