"""Retrievers: from a history to the ids of the items that are worth scoring, best first.

What is here is fitted on the training events of a fold, like a baseline, and then asked for each case. `item-knn`,
`content-knn` and `text-embeddings` are named, and so is any fusion of names, `item-knn+text-embeddings`. The embeddings
are those of MiniLM, from a package; `text-embeddings@FOLDER` and `text-embeddings@owner/name` are those of another
encoder, and `TextEmbedding` takes the encoder of any library. Anything else that maps a history and a number to ids is
a retriever too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from srec.data.candidates import Retriever
from srec.data.embedding import Encoder
from srec.data.interactions import Interactions
from srec.data.vectors import Encode, Sparse, encoded, nearness, users_of, words_of
from srec.errors import InputError
from srec.types import History, Item

DECAY = 0.6
RANK_OFFSET = 60  # of the fusion (Cormack, Clarke & Buettcher 2009)
DEEP = 1000  # ranks that a fusion reads of each list, at least


@runtime_checkable
class Fittable(Protocol):
    """What becomes a retriever by looking at training events."""

    def fit(self, train: Interactions, *, items: Mapping[str, Item]) -> Retriever:
        """A retriever that knows `train` and the texts of `items`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKnn:
    """The items that had the same users as those in the history, the last item counting most."""

    decay: float = DECAY

    def fit(self, train: Interactions, *, items: Mapping[str, Item]) -> Retriever:  # noqa: ARG002  the protocol's
        """Each item as a unit vector over users."""
        return _nearest(users_of(train), train.item_ids, decay=self.decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentKnn:
    """The items that share words with those in the history, the last item counting most."""

    decay: float = DECAY

    def fit(self, train: Interactions, *, items: Mapping[str, Item]) -> Retriever:
        """Read the whole catalogue; each item as a unit vector over words."""
        return _nearest(words_of(items[item_id] for item_id in train.item_ids), train.item_ids, decay=self.decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEmbedding:
    """The items whose texts are near those in the history by a text embedding.

    `encode` maps texts to numbers [texts, dimensions]: `srec.data.embedding.Encoder()`, which keeps them,
    `dspy.Embedder("openai/text-embedding-3-small")`, or the `encode` of a model of sentence-transformers. It is called
    once for each fold, with the texts of the whole catalogue. An item without a text is never found.
    """

    encode: Encode = field(repr=False)
    decay: float = DECAY

    def fit(self, train: Interactions, *, items: Mapping[str, Item]) -> Retriever:
        """Encode the whole catalogue."""
        vectors = encoded((items[item_id] for item_id in train.item_ids), self.encode)
        return _nearest(vectors, train.item_ids, decay=self.decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """The reciprocal-rank fusion of several retrievers: an item is worth the sum of 1 / (60 + its rank) over the lists.

    Cormack, Clarke & Buettcher, *Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods*,
    SIGIR 2009. Equal worth is ordered by item id.
    """

    retrievers: tuple[Fittable, ...]

    def fit(self, train: Interactions, *, items: Mapping[str, Item]) -> Retriever:
        """Fit each of them."""
        fitted = [retriever.fit(train, items=items) for retriever in self.retrievers]

        def retrieve(history: History, n: int) -> list[str]:
            return fused([retriever(history, max(n, DEEP)) for retriever in fitted])[:n]

        return retrieve


TEXT_EMBEDDINGS = "text-embeddings"
RETRIEVERS: Mapping[str, Fittable] = MappingProxyType(
    {"item-knn": ItemKnn(), "content-knn": ContentKnn(), TEXT_EMBEDDINGS: TextEmbedding(encode=Encoder())}
)


def retriever_named(name: str) -> Fittable:
    """The retriever of a name, or the fusion of names that are joined by `+`; InputError for an unknown one."""
    parts = tuple(_single(part) for part in name.split("+"))
    return parts[0] if len(parts) == 1 else Fusion(retrievers=parts)


def _single(name: str) -> Fittable:
    kind, _, encoder = name.partition("@")
    if kind == TEXT_EMBEDDINGS and encoder:
        return TextEmbedding(encode=Encoder(name=encoder))
    if name not in RETRIEVERS:
        raise InputError(
            f"retriever {name!r} is not known; give {', '.join(RETRIEVERS)}, {TEXT_EMBEDDINGS}@ENCODER with a folder "
            "or a hub repository, or a fusion as in item-knn+text-embeddings"
        )
    return RETRIEVERS[name]


def fused(lists: Sequence[Sequence[str]]) -> list[str]:
    """The ids of several lists in the order of their reciprocal-rank fusion.

    >>> fused([["a", "b", "c"], ["b", "d"]])
    ['b', 'a', 'd', 'c']
    """
    worth: dict[str, float] = {}
    for ids in lists:
        for rank, item_id in enumerate(ids, start=1):
            worth[item_id] = worth.get(item_id, 0.0) + 1 / (RANK_OFFSET + rank)
    return sorted(worth, key=lambda item_id: (-worth[item_id], item_id))


def _nearest(vectors: Sparse, item_ids: tuple[str, ...], *, decay: float) -> Retriever:
    """The items nearest to the history, those at nought left out: nothing speaks for them. Ties by item id."""
    near = nearness(vectors, decay=decay)
    code = {item_id: place for place, item_id in enumerate(item_ids)}
    by_id = np.array(sorted(range(len(item_ids)), key=item_ids.__getitem__), dtype=np.int64)

    def retrieve(history: History, n: int) -> list[str]:
        values = near([code[event.item.item_id] for event in history.events])[by_id]
        order: NDArray[np.int64] = np.argsort(-values, kind="stable")[:n]
        return [item_ids[by_id[place]] for place in order.tolist() if values[place] > 0]

    return retrieve
