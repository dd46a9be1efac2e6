"""A part of a dataset: some users, some items, some events, and what these users did with these items."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.interactions import arrange
from srec.data.report import IntakeReport
from srec.errors import InputError


def part(
    data: Dataset,
    *,
    users: Collection[str] | None = None,
    items: Collection[str] | None = None,
    events: NDArray[np.bool_] | None = None,
) -> Dataset:
    """The dataset of these users, items and events alone; None for all. Items keep their order, opened in `data`.

    `events` bool[events] is of `data.interactions`, such as those before a user's last ones (`before_last`).

    Whatever is left out is gone from candidates, histories and training events alike.

    >>> from srec.data.toyshop import toyshop
    >>> shop = toyshop(items=40, users=10, seed=0)
    >>> len(part(shop.data, users=shop.training_users, items=shop.training_items).users)
    8
    """
    log = data.interactions
    users = frozenset(log.user_ids if users is None else users)
    items = frozenset(log.item_ids if items is None else items)
    for kind, asked, there in (("user", users, log.user_ids), ("item", items, log.item_ids)):
        if not asked & frozenset(there):
            raise InputError(f"no {kind} of dataset {data.name!r} is among those asked for; give ids of this dataset")
    kept_items = tuple(item_id for item_id in data.items if item_id in items)
    new_code = {item_id: code for code, item_id in enumerate(kept_items)}
    code = np.array([new_code.get(item_id, -1) for item_id in log.item_ids], dtype=np.int32)
    wanted = np.array([user_id in users for user_id in log.user_ids], dtype=np.bool_)
    if events is not None and events.shape != log.at.shape:
        raise InputError(f"events has {events.shape} entries; give one for each of the {len(log.at)} of the dataset")
    mask = wanted[log.user] & (code[log.item] >= 0) & (True if events is None else events)
    kept, _ = arrange(
        user_ids=log.user_ids,
        item_ids=kept_items,
        user=log.user[mask],
        item=code[log.item[mask]],
        at=log.at[mask],
        rating=log.rating[mask],
    )
    catalogue = Catalogue(
        kept_items,
        open_item=lambda position: OpenedItem(item=data.items[kept_items[position]]),
        report=IntakeReport(),
        cache_bytes=0,
    )
    return Dataset(
        name=data.name, items=catalogue, interactions=kept, root=data.root, rating_threshold=data.rating_threshold
    )


def before_last(data: Dataset, count: int) -> NDArray[np.bool_]:
    """bool[events]: all but each user's last `count` events, so that earlier cases can be made of the same users.

    >>> from srec.data.toyshop import toyshop
    >>> shop = toyshop(items=40, users=10, seed=0)
    >>> int(before_last(shop.data, 2).sum()) == len(shop.data.interactions.at) - 2 * 10
    True
    """
    user = data.interactions.user
    left = np.searchsorted(user, user, side="right") - np.arange(len(user))  # of the user's events, this one included
    kept: NDArray[np.bool_] = left > count
    return kept
