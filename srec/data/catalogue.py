"""The items of a dataset, opened when they are asked for."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from srec.data.report import IntakeReport, Problem
from srec.types import Item

OVERHEAD_BYTES = 1000  # of an item's Python objects, roughly
BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedItem:
    """An item, and what intake had to say about it."""

    item: Item
    problems: tuple[Problem, ...] = ()
    texts_cut: int = 0


class Catalogue(Mapping[str, Item]):
    """Items by id, in catalogue order; safe to read from many threads.

    `open_item` makes the item at a position, the same every time. It is called when an item is asked for, and again
    when the item has left the cache of `cache_bytes`; the report counts each item once.
    """

    def __init__(
        self,
        ids: Sequence[str],
        *,
        open_item: Callable[[int], OpenedItem],
        report: IntakeReport,
        cache_bytes: int = 256 * 2**20,
    ) -> None:
        self.ids = tuple(ids)
        self.report = report
        self._positions = {item_id: position for position, item_id in enumerate(self.ids)}
        self._open_item = open_item
        self._cache: OrderedDict[int, Item] = OrderedDict()
        self._room = cache_bytes
        self._counted = bytearray(len(self.ids))
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._positions

    def __getitem__(self, item_id: str) -> Item:
        position = self._positions[item_id]
        with self._lock:
            if position in self._cache:
                self._cache.move_to_end(position)
                return self._cache[position]
        return self._register(position, self._open_item(position))

    def take_in(self, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Open every item that was not opened yet; `progress` is told how many of how many are done."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(self), BATCH):
                positions = [p for p in range(start, min(start + BATCH, len(self))) if not self._counted[p]]
                for position, opened in zip(positions, pool.map(self._open_item, positions), strict=True):
                    self._register(position, opened)
                if progress is not None:
                    progress(min(start + BATCH, len(self)), len(self))

    def _register(self, position: int, opened: OpenedItem) -> Item:
        with self._lock:
            first_time = not self._counted[position]
            self._counted[position] = True
        if first_time:
            self._count(position, opened)
        with self._lock:
            if position not in self._cache:
                self._cache[position] = opened.item
                self._room -= _weight(opened.item)
            while self._room < 0 and len(self._cache) > 1:
                _, dropped = self._cache.popitem(last=False)
                self._room += _weight(dropped)
        return opened.item

    def _count(self, position: int, opened: OpenedItem) -> None:
        try:
            for problem in opened.problems:
                self.report.add(problem)
        except BaseException:  # a strict report refuses the item: it was not taken in, and is refused again next time
            self._counted[position] = False
            raise
        self.report.count_item(opened.item, texts_cut=opened.texts_cut)


def _weight(item: Item) -> int:
    text = len(item.title) + sum(len(name) + len(value) for name, value in item.attributes.items())
    return OVERHEAD_BYTES + text + (len(item.image.data) if item.image else 0)
