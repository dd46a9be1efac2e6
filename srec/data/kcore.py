"""The k-core: users and items that keep at least k interactions with one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round dropped, and what was left after it."""

    users_dropped: int
    items_dropped: int
    interactions_dropped: int
    users: int
    items: int
    interactions: int

    def __str__(self) -> str:
        return (
            f"{self.users_dropped:,} users, {self.items_dropped:,} items and {self.interactions_dropped:,} "
            f"interactions dropped; {self.users:,}, {self.items:,} and {self.interactions:,} left"
        )


def core(
    user: NDArray[np.int32], item: NDArray[np.int32], *, least: int
) -> tuple[NDArray[np.bool_], tuple[Round, ...]]:
    """Which of n interactions, bool[n], are in the `least`-core of all, and the rounds that it took.

    A round drops every user and every item with fewer than `least` interactions left, both counted before it; it goes
    on until none is dropped. The core is the same in whatever order one drops (Seidman 1983).
    """
    inside = np.ones(len(user), np.bool_)
    rounds: list[Round] = []
    while True:
        of_user, of_item = np.bincount(user[inside]), np.bincount(item[inside])
        few_users, few_items = (of_user > 0) & (of_user < least), (of_item > 0) & (of_item < least)
        if not few_users.any() and not few_items.any():
            return inside, tuple(rounds)
        before = np.flatnonzero(inside)
        dropped = before[few_users[user[before]] | few_items[item[before]]]
        inside[dropped] = False
        rounds.append(
            Round(
                users_dropped=_different(user[before]) - _different(user[inside]),
                items_dropped=_different(item[before]) - _different(item[inside]),
                interactions_dropped=len(dropped),
                users=_different(user[inside]),
                items=_different(item[inside]),
                interactions=len(before) - len(dropped),
            )
        )


def _different(codes: NDArray[np.int32]) -> int:
    return int(np.count_nonzero(np.bincount(codes)))
