"""Items as unit vectors: over the users that had them, over the words of their texts, or from a text embedding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from srec.data.interactions import Interactions
from srec.errors import InputError
from srec.types import Item

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sparse = Any  # scipy.sparse.csr_array, which carries no types
Encode = Callable[[list[str]], Any]  # texts to numbers [texts, dimensions]

WORD = re.compile(r"\w+")


def users_of(train: Interactions) -> Sparse:
    """[items, users]: who had an item, however often."""
    shape = (len(train.item_ids), len(train.user_ids))
    had = sparse.coo_array((np.ones(len(train)), (train.item, train.user)), shape=shape).tocsr()
    had.data[:] = 1.0
    return unit_rows(had)


def words_of(items: Iterable[Item]) -> Sparse:
    """[items, words]: the words of title and attributes by TF-IDF."""
    return unit_rows(tf_idf(map(text_of, items)))


def encoded(items: Iterable[Item], encode: Encode) -> Sparse:
    """[items, dimensions]: title and attributes as `encode` puts them into numbers; an empty row without a text.

    Only what has a text is encoded. Raises InputError where that is not one row of finite numbers for each text.
    """
    every = [text_of(item) for item in items]
    places = [place for place, text in enumerate(every) if text.strip()]
    if not places:
        return sparse.csr_array((len(every), 1))
    texts = [every[place] for place in places]
    vectors = np.asarray(encode(texts), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():  # noqa: PLR2004  a matrix
        raise InputError(
            f"the encoder gave numbers of shape {vectors.shape} for {len(texts)} texts; give one row of finite numbers "
            "for each text"
        )
    spread = sparse.csr_array((np.ones(len(places)), (places, range(len(places)))), shape=(len(every), len(places)))
    return unit_rows(spread @ sparse.csr_array(vectors))


def text_of(item: Item) -> str:
    """Title and attributes on one line."""
    return " ".join((item.title, *item.attributes.values()))


def nearness(vectors: Sparse, *, decay: float) -> Callable[[Sequence[int] | Ints], Floats]:
    """From the items of a history, the last one last, to the nearness [items] of every item.

    It is the dot product of an item's row with the sum of the rows in the history, where of two neighbours the earlier
    counts `decay` times the later.
    """
    transposed = vectors.T.tocsr()

    def near(history: Sequence[int] | Ints) -> Floats:
        weights = np.zeros(vectors.shape[0])
        codes = np.asarray(history, dtype=np.int64)
        np.add.at(weights, codes[::-1], decay ** np.arange(len(codes)))
        found: Floats = vectors @ (transposed @ weights)
        return found

    return near


def unit_rows(matrix: Sparse) -> Sparse:
    """Each row divided by its length; an empty row stays empty."""
    return rows_over(matrix, np.sqrt(matrix.power(2).sum(axis=1)))


def rows_over(matrix: Sparse, divisors: Floats) -> Sparse:
    """Each row over its divisor; over 0 it stays as it is, which is empty."""
    return sparse.diags_array(1.0 / np.where(divisors > 0, divisors, 1.0)) @ matrix


def tf_idf(texts: Iterable[str]) -> Sparse:
    """[texts, words]: how often a text has a word, times ln((1 + texts) / (1 + texts with the word))."""
    column: dict[str, int] = {}
    counts = [Counter(WORD.findall(text.casefold())) for text in texts]
    rows = np.repeat(np.arange(len(counts)), [len(words) for words in counts])
    columns = np.array([column.setdefault(word, len(column)) for words in counts for word in words], dtype=np.int64)
    values = np.array([number for words in counts for number in words.values()], dtype=np.float64)
    texts_with = np.bincount(columns, minlength=len(column))
    weights = np.log((1 + len(counts)) / (1 + texts_with))
    return sparse.csr_array((values * weights[columns], (rows, columns)), shape=(len(counts), len(column)))
