"""Cheap rankers to stand beside a program: none of them sees an image, none asks an LM.

A baseline holds its settings; `fit` gives the ranker. What a ranker says depends on the case's history and
candidates, on the training events and on the seed, on nothing else: it does not look at the targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from srec.data.vectors import Sparse, nearness, rows_over, users_of, words_of
from srec.errors import InputError
from srec.types import Case, Item, Score

if TYPE_CHECKING:
    from srec.data.interactions import Interactions

Ranker = Callable[[Case], Sequence[Score]]
"""One score per candidate, in the order of the candidates."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400


@runtime_checkable
class Baseline(Protocol):
    """Anything that becomes a ranker by looking at training events; `evaluate` fits it on each fold."""

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:
        """A ranker that knows `train` and the texts of `items`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Random:
    """A number in [0, 1) per candidate, drawn from the seed and the case id."""

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:  # noqa: ARG002  the protocol's
        """Nothing is learned."""

        def rank(case: Case) -> list[Score]:
            key = sha256(f"{seed}:{case.case_id}".encode()).digest()
            return scored(case, np.random.default_rng(int.from_bytes(key)).random(len(case.candidates)))

        return rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Popularity:
    """How many training events an item has."""

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:  # noqa: ARG002  the protocol's
        """Count the events of each item."""
        codes = Codes.of(train)
        counts = np.bincount(train.item, minlength=codes.count).astype(np.float64)
        return lambda case: scored(case, counts[codes.of_candidates(case)])


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentPopularity:
    """How many training events an item has in the `days` before the case."""

    days: float = 365.0

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:  # noqa: ARG002  the protocol's
        """Order the events by time."""
        codes = Codes.of(train)
        by_time = np.argsort(train.at, kind="stable")
        at, item = train.at[by_time], train.item[by_time]

        def rank(case: Case) -> list[Score]:
            first, last = np.searchsorted(at, [case.at - self.days * DAY_S, case.at])
            counts = np.bincount(item[first:last], minlength=codes.count).astype(np.float64)
            return scored(case, counts[codes.of_candidates(case)])

        return rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Markov:
    """How likely an item is to follow those the user had last, from pairs at most `window` steps apart.

    A pair of events of one user is worth 1/steps; the worth of all that followed an item, divided by its sum, is the
    item's chain. The chains of the last `window` items of the history are added, the n-th last counting 1/n.
    """

    window: int = 50

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:  # noqa: ARG002  the protocol's
        """Add up the ordered pairs of each user's events."""
        codes = Codes.of(train)
        chains = self._chains(train, codes.count)

        def rank(case: Case) -> list[Score]:
            last = codes.of_history(case)[-self.window :]
            weights = 1.0 / np.arange(len(last), 0, -1)
            return scored(case, (weights @ chains[last])[codes.of_candidates(case)])

        return rank

    def _chains(self, train: Interactions, count: int) -> Sparse:
        """[earlier item, later item]: the share of the later in the worth of all that followed the earlier."""
        pairs = sparse.csr_array((count, count))
        for steps in range(1, self.window + 1):
            same = train.user[:-steps] == train.user[steps:]
            earlier, later = train.item[:-steps][same], train.item[steps:][same]
            pairs = pairs + sparse.csr_array((np.full(len(earlier), 1.0 / steps), (earlier, later)), shape=pairs.shape)
        return rows_over(pairs, pairs.sum(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKnn:
    """Cosine between the users of an item and those of the items in the history, the last item counting most.

    Of two neighbours in the history, the earlier counts `decay` times the later.
    """

    decay: float = 0.6

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:  # noqa: ARG002  the protocol's
        """Each item as a unit vector over users."""
        return _nearest(users_of(train), Codes.of(train), decay=self.decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentKnn:
    """Cosine between the texts (title and attributes, TF-IDF) of an item and of those in the history.

    Of two neighbours in the history, the earlier counts `decay` times the later.
    """

    decay: float = 0.6

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:  # noqa: ARG002  the protocol's
        """Read the whole catalogue; each item as a unit vector over words."""
        return _nearest(words_of(items[item_id] for item_id in train.item_ids), Codes.of(train), decay=self.decay)


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "random": Random(),
        "popularity": Popularity(),
        "recent-popularity": RecentPopularity(),
        "markov": Markov(),
        "item-knn": ItemKnn(),
        "content-knn": ContentKnn(),
    }
)


def scored(case: Case, values: Floats) -> list[Score]:
    """`values` [candidates] as the scores of the candidates."""
    pairs = zip(case.candidates, values.tolist(), strict=True)
    return [Score(item_id=item.item_id, value=value) for item, value in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Items of a case as codes of the training events."""

    code: Mapping[str, int]

    @classmethod
    def of(cls, train: Interactions) -> Codes:
        """The codes of `train`."""
        return cls(code={item_id: code for code, item_id in enumerate(train.item_ids)})

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(self.code)

    def of_candidates(self, case: Case) -> Ints:
        """Codes of the candidates, in their order."""
        return self._of(case.candidates, case)

    def of_history(self, case: Case) -> Ints:
        """Codes of the items in the history, the last event last."""
        return self._of((event.item for event in case.history.events), case)

    def _of(self, items: Iterable[Item], case: Case) -> Ints:
        try:
            return np.array([self.code[item.item_id] for item in items], dtype=np.int64)
        except KeyError as error:
            raise InputError(
                f"case {case.case_id}: item {error.args[0]!r} is not in the catalogue that the baseline was fitted on; "
                "take cases and training events from one dataset"
            ) from None


def _nearest(vectors: Sparse, codes: Codes, *, decay: float) -> Ranker:
    """Scores by the dot product of an item's row in `vectors` with the decayed sum of the rows in the history."""
    near = nearness(vectors, decay=decay)
    return lambda case: scored(case, near(codes.of_history(case))[codes.of_candidates(case)])
