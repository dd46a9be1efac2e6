"""A part of a dataset: some users, some items, and what these users did with these items."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.interactions import arrange
from srec.data.report import IntakeReport
from srec.errors import InputError


def part(data: Dataset, *, users: Collection[str] | None = None, items: Collection[str] | None = None) -> Dataset:
    """The dataset of these users and items alone; None for all. Items keep their order, and are opened in `data`.

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
    mask = wanted[log.user] & (code[log.item] >= 0)
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
