"""The interactions of a published file, gathered as columns of codes: sixteen bytes each, and each id once."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srec.data.interactions import plain_rating

Event = tuple[str, int, int, float | None]  # user id, position of the item, Unix second, rating
BLOCK = 2**16  # interactions that are written at a time


class Gathered:
    """n interactions in the order of their file: `user` and `item` int32[n], `at` uint32[n], `rating` float32[n].

    `user` holds positions in `user_ids`; `rating` is NaN where there is none.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        code_of: dict[str, int] = {}
        user, item, at, rating = array("i"), array("i"), array("I"), array("f")
        for user_id, position, second, rated in events:
            user.append(code_of.setdefault(user_id, len(code_of)))
            item.append(position)
            at.append(second)
            rating.append(np.nan if rated is None else rated)
        self.user_ids = tuple(code_of)
        self.user: NDArray[np.int32] = _column(user, np.int32)
        self.item: NDArray[np.int32] = _column(item, np.int32)
        self.at: NDArray[np.uint32] = _column(at, np.uint32)
        self.rating: NDArray[np.float32] = _column(rating, np.float32)

    def __len__(self) -> int:
        return len(self.user)

    def repeats(self) -> NDArray[np.bool_]:
        """For each interaction, bool[n]: is an earlier one the same in user, item, second and rating?"""
        pair = self.user.astype(np.int64) << 32 | self.item
        ordered = np.sort(pair)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        found = np.searchsorted(twice, pair)
        rows = np.flatnonzero(np.append(twice, -1)[found] == pair)  # the few of which there can be a repeat
        # A stable order: of the same, the first in the file comes first.
        rows = rows[np.lexsort((np.nan_to_num(self.rating[rows], nan=-np.inf), self.at[rows], pair[rows]))]
        first, second = rows[:-1], rows[1:]
        same_rating = (self.rating[first] == self.rating[second]) | (
            np.isnan(self.rating[first]) & np.isnan(self.rating[second])
        )
        is_repeat = np.zeros(len(self), np.bool_)
        is_repeat[second[(pair[first] == pair[second]) & (self.at[first] == self.at[second]) & same_rating]] = True
        return is_repeat

    def write(self, path: Path, *, kept: NDArray[np.bool_], item_ids: Sequence[str], rated: bool) -> None:
        """Write the interactions for which `kept`, bool[n], is true as a table of a dataset folder."""
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["user_id", "item_id", "timestamp", "rating"][: 3 + rated])
            rows = np.flatnonzero(kept)
            for start in range(0, len(rows), BLOCK):
                table.writerows(self._texts(rows[start : start + BLOCK], item_ids=item_ids, rated=rated))

    def _texts(self, rows: NDArray[np.intp], *, item_ids: Sequence[str], rated: bool) -> Iterator[Sequence[object]]:
        users = [self.user_ids[code] for code in self.user[rows].tolist()]
        items = [item_ids[position] for position in self.item[rows].tolist()]
        columns: list[Sequence[object]] = [users, items, self.at[rows].tolist()]
        if rated:
            values, of_row = np.unique(self.rating[rows], return_inverse=True)
            texts = ["" if (plain := plain_rating(value)) is None else f"{plain:.9g}" for value in values]
            columns.append([texts[position] for position in of_row.tolist()])
        return zip(*columns, strict=True)


def _column(values: array[Any], kind: type) -> NDArray[Any]:
    return np.frombuffer(values, kind) if values else np.empty(0, kind)
