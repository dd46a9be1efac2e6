"""The same items and cases with something taken away or exchanged, all the same on every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO
from zlib import crc32

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from srec.data.candidates import stable_hash
from srec.data.intake import normalize_image
from srec.types import Case, History, Image, Item

SIDE = 160  # px of a picture that shows nothing
GREYS = (60, 90, 110, 150, 170, 190, 210, 235)
"""Levels of blank pictures. None is near 0 after normalization: some models drop such a picture as padding."""
NOISES = 8  # pictures of noise


def blank(item: Item) -> Item:
    """The item with a picture of one grey, which its id decides, in the place of its own."""
    return _greyed(item) if item.image else item


def grey_for_none(item: Item) -> Item:
    """The item with a picture of one grey, which its id decides, where it has none."""
    return item if item.image else _greyed(item)


def without_picture(item: Item) -> Item:
    """The item with nothing but its text."""
    return replace(item, image=None)


def noisy(item: Item) -> Item:
    """The item with a picture of coloured noise, one of `NOISES` that its id decides, in the place of its own."""
    return replace(item, image=_noise(_draw(item, NOISES))) if item.image else item


def without_text(item: Item) -> Item:
    """The item with nothing but its picture."""
    return replace(item, title="", attributes={})


def with_picture_of(item: Item, other: Item) -> Item:
    """The item with the picture of another."""
    return replace(item, image=other.image)


def with_text_of(item: Item, other: Item) -> Item:
    """The item with title and attributes of another beside its own picture."""
    return replace(item, title=other.title, attributes=other.attributes)


def strangers(item_ids: Sequence[str], *, seed: int) -> dict[str, str]:
    """For each of at least two items another one, each taken once."""
    order = np.random.default_rng((seed, len(item_ids))).permutation(len(item_ids))
    return {item_ids[own]: item_ids[other] for own, other in zip(order, np.roll(order, 1), strict=True)}


def with_items(case: Case, change: Callable[[Item], Item]) -> Case:
    """The case with every item changed, those of the history and the candidates."""
    events = tuple(replace(event, item=change(event.item)) for event in case.history.events)
    history = History(user_id=case.history.user_id, events=events)
    return replace(case, history=history, candidates=tuple(map(change, case.candidates)))


def with_candidates(case: Case, changed: Mapping[str, Callable[[Item], Item]]) -> Case:
    """The case with those candidates changed whose id is in `changed`."""
    candidates = (changed.get(item.item_id, _same)(item) for item in case.candidates)
    return replace(case, candidates=tuple(candidates))


def shuffled(case: Case, *, seed: int, read: Callable[[History], History]) -> Case:
    """The case with the events that are read of its past in another order: the same items and ratings, the same times.

    `read` is the part of a history that a program reads, its last events; those before them stay where they are.
    """
    older = case.history.events[: len(case.history) - len(read(case.history))]
    events = case.history.events[len(older) :]
    rng = np.random.default_rng(int.from_bytes(stable_hash("shuffled", seed, case.case_id)[:8], "big"))
    moved = [
        replace(events[place], at=event.at) for place, event in zip(rng.permutation(len(events)), events, strict=True)
    ]
    ordered = tuple(sorted((*older, *moved), key=lambda event: (event.at, event.item.item_id)))
    return replace(case, history=History(user_id=case.history.user_id, events=ordered))


def _same(item: Item) -> Item:
    return item


def _greyed(item: Item) -> Item:
    return replace(item, image=_grey(GREYS[_draw(item, len(GREYS))]))


def _draw(item: Item, count: int) -> int:
    """A number below `count` that the item's id decides."""
    return crc32(item.item_id.encode()) % count


@cache
def _grey(level: int) -> Image:
    return _image(np.full((SIDE, SIDE, 3), level, dtype=np.uint8))


@cache
def _noise(number: int) -> Image:
    return _image(np.random.default_rng(number).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8))


def _image(pixels: NDArray[np.uint8]) -> Image:
    """Pixels [height, width, 3] as a catalogue would have taken them in."""
    picture = BytesIO()
    PIL.Image.fromarray(pixels).save(picture, "BMP")
    return normalize_image(picture.getvalue())
