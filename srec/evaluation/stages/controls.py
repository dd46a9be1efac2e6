"""The same items and cases with something taken away or exchanged, all the same on every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from zlib import crc32

import numpy as np
import PIL.Image

from srec.data.candidates import stable_hash
from srec.data.intake import normalize_image
from srec.data.toy import Toy
from srec.data.toyshop import ToyShop
from srec.types import Case, History, Image, Item

SIDE = 160  # px of a blank picture
GREYS = (60, 90, 110, 150, 170, 190, 210, 235)
"""Levels of blank pictures. None is near 0 after normalization: some models drop such a picture as padding."""


def blank(item: Item) -> Item:
    """The item with a picture of one grey, which its id decides, in the place of its own."""
    return replace(item, image=_grey(GREYS[crc32(item.item_id.encode()) % len(GREYS)])) if item.image else item


def without_text(item: Item) -> Item:
    """The item with nothing but its picture."""
    return replace(item, title="", attributes={})


def strangers(item_ids: Sequence[str], *, seed: int) -> dict[str, str]:
    """For each of at least two items another one, each taken once."""
    order = np.random.default_rng((seed, len(item_ids))).permutation(len(item_ids))
    return {item_ids[own]: item_ids[other] for own, other in zip(order, np.roll(order, 1), strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All items of a shop as `change` shows them, and by item id the truth of what is shown."""

    shop: ToyShop
    change: Callable[[Item], Item]
    truth: Mapping[str, Toy]

    def items(self) -> Iterator[Item]:
        """The items as they are shown, made when they are asked for."""
        return map(self.change, self.shop.data.items.values())


def worlds(shop: ToyShop, *, seed: int) -> dict[str, World]:
    """The shop as it is (`plain`), with blank pictures, with the pictures of other items, and without texts."""
    toys, items = shop.truth.toys, shop.data.items
    stranger = strangers(tuple(toys), seed=seed)
    exchanged = {item_id: replace(toy, look=toys[stranger[item_id]].look) for item_id, toy in toys.items()}
    silent = {item_id: replace(toy, says={}, box="") for item_id, toy in toys.items()}
    return {
        "plain": World(shop=shop, change=lambda item: item, truth=toys),
        "blank_image": World(shop=shop, change=blank, truth=toys),
        "other_image": World(
            shop=shop,
            change=lambda item: replace(item, image=items[stranger[item.item_id]].image),
            truth=exchanged,
        ),
        "no_text": World(shop=shop, change=without_text, truth=silent),
    }


def with_items(case: Case, change: Callable[[Item], Item]) -> Case:
    """The case with every item changed, those of the history and the candidates."""
    events = tuple(replace(event, item=change(event.item)) for event in case.history.events)
    history = History(user_id=case.history.user_id, events=events)
    return replace(case, history=history, candidates=tuple(map(change, case.candidates)))


def shuffled(case: Case, *, seed: int) -> Case:
    """The case with its past events in another order: the same items and ratings, the same times."""
    events = case.history.events
    rng = np.random.default_rng(int.from_bytes(stable_hash("shuffled", seed, case.case_id)[:8], "big"))
    moved = [
        replace(events[place], at=event.at) for place, event in zip(rng.permutation(len(events)), events, strict=True)
    ]
    ordered = tuple(sorted(moved, key=lambda event: (event.at, event.item.item_id)))
    return replace(case, history=History(user_id=case.history.user_id, events=ordered))


@cache
def _grey(level: int) -> Image:
    picture = BytesIO()
    PIL.Image.new("RGB", (SIDE, SIDE), (level, level, level)).save(picture, "BMP")
    return normalize_image(picture.getvalue())
