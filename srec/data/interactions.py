"""Who did what when, as columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from srec.errors import DatasetError, InputError

FIRST_SECOND = 0
FIRST_LIKELY_SECOND = 10**9 // 2  # of 1985; below it, a number is taken for one in another unit
LAST_SECOND = 4_102_444_799  # the last second of 2099, UTC


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interactions:
    """Events as read-only columns of equal length n, ordered by (user id, time, item id).

    `user` and `item` are codes: positions in `user_ids` (sorted) and `item_ids` (the whole catalogue, in its order).
    Both tuples stay whole when events are left out, so codes mean the same in every part of a log. `at` is Unix
    seconds; `rating` is NaN where there is none.
    """

    user_ids: tuple[str, ...] = field(repr=False)
    item_ids: tuple[str, ...] = field(repr=False)
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    at: NDArray[np.int64]
    rating: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.user) == len(self.item) == len(self.at) == len(self.rating):
            raise InputError("the columns of interactions differ in length; give one value per event in each")
        for column in (self.user, self.item, self.at, self.rating):
            column.setflags(write=False)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, int, float | None]], *, item_ids: Sequence[str]) -> Interactions:
        """Interactions from (user id, item id, Unix second, rating or None) in any order; exact repeats count once."""
        item_codes = {item_id: code for code, item_id in enumerate(item_ids)}
        user_codes: dict[str, int] = {}
        events: list[tuple[int, int, int, float]] = []
        for user_id, item_id, at, rating in rows:
            if item_id not in item_codes:
                raise DatasetError(f"interaction of user {user_id!r}: item {item_id!r} is not among the items; add it")
            if not FIRST_SECOND <= at <= LAST_SECOND:
                raise DatasetError(
                    f"interaction of user {user_id!r} with item {item_id!r}: {at} is no Unix second of 1970-2099"
                )
            user = user_codes.setdefault(user_id, len(user_codes))
            events.append((user, item_codes[item_id], at, np.nan if rating is None else rating))
        columns = list(zip(*events, strict=True)) or [(), (), (), ()]
        interactions, _ = arrange(
            user_ids=tuple(user_codes),
            item_ids=tuple(item_ids),
            user=np.array(columns[0], np.int32),
            item=np.array(columns[1], np.int32),
            at=np.array(columns[2], np.int64),
            rating=np.array(columns[3], np.float32),
        )
        return interactions

    def __len__(self) -> int:
        return len(self.user)

    def before(self, at: int) -> Interactions:
        """The events strictly before the Unix second `at`, of every user."""
        return self.where(self.at < at)

    def where(self, mask: NDArray[np.bool_]) -> Interactions:
        """The events for which `mask`, bool[n], is true."""
        return Interactions(
            user_ids=self.user_ids,
            item_ids=self.item_ids,
            user=self.user[mask],
            item=self.item[mask],
            at=self.at[mask],
            rating=self.rating[mask],
        )

    def rows_of(self, user_id: str) -> slice:
        """Where the events of one user stand; an empty slice if this part of the log has none of them."""
        code = bisect_left(self.user_ids, user_id)
        if code == len(self.user_ids) or self.user_ids[code] != user_id:
            raise InputError(
                f"user {user_id!r} has no interactions; take one of the {len(self.user_ids)} users that do"
            )
        start, stop = np.searchsorted(self.user, [code, code + 1])
        return slice(int(start), int(stop))

    def rows(self) -> Iterator[tuple[str, str, int, float | None]]:
        """Each event as (user id, item id, Unix second, rating or None)."""
        for user, item, at, rating in zip(self.user, self.item, self.at, self.rating, strict=True):
            yield self.user_ids[user], self.item_ids[item], int(at), plain_rating(rating)

    def tied(self) -> NDArray[np.bool_]:
        """For each event, bool[n]: does it share its second with another event of the same user?"""
        same = (self.user[1:] == self.user[:-1]) & (self.at[1:] == self.at[:-1])
        tied: NDArray[np.bool_] = np.append(same, False) | np.insert(same, 0, False)
        return tied[: len(self)]


def plain_rating(rating: np.float32) -> float | None:
    """A value of the column `rating` as it was written: 3.7 and not 3.700000047683716; None for NaN."""
    return None if np.isnan(rating) else float(str(rating))


def arrange(
    *,
    user_ids: Sequence[str],
    item_ids: tuple[str, ...],
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    at: NDArray[np.int64],
    rating: NDArray[np.float32],
) -> tuple[Interactions, NDArray[np.int64]]:
    """Columns in any order, brought into order; also the positions, ascending, of exact repeats that were left out.

    `user` holds positions in `user_ids`, which may be in any order and may name users without an event.
    """
    used = np.unique(user)
    by_id = np.array(sorted(used, key=lambda code: user_ids[code]), dtype=np.int64)
    new_code = np.zeros(len(user_ids), np.int32)
    new_code[by_id] = np.arange(len(by_id), dtype=np.int32)
    user = new_code[user]

    rank = np.empty(len(item_ids), np.int32)
    rank[sorted(range(len(item_ids)), key=item_ids.__getitem__)] = np.arange(len(item_ids), dtype=np.int32)
    order = np.lexsort((rating, rank[item], at, user))
    user, item, at, rating = user[order], item[order], at[order], rating[order]

    same_rating = (rating[1:] == rating[:-1]) | (np.isnan(rating[1:]) & np.isnan(rating[:-1]))
    repeat = (user[1:] == user[:-1]) & (item[1:] == item[:-1]) & (at[1:] == at[:-1]) & same_rating
    kept = np.insert(~repeat, 0, True)[: len(user)]
    interactions = Interactions(
        user_ids=tuple(user_ids[code] for code in by_id),
        item_ids=item_ids,
        user=user[kept],
        item=item[kept],
        at=at[kept],
        rating=rating[kept],
    )
    return interactions, np.sort(order[~kept])
