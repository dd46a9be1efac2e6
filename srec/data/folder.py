"""A dataset: a folder of items, interactions and images, or the same made in memory."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.intake import DEFAULT, Limits
from srec.data.interactions import Interactions, plain_rating
from srec.data.items import ItemColumns, read_items
from srec.data.log import LogColumns, read_log
from srec.data.report import IntakeReport
from srec.data.settings import Settings
from srec.data.tables import Table
from srec.errors import DatasetError
from srec.place import place
from srec.text import clean
from srec.types import Event, History, Item

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def load(folder: Path | str, *, strict: bool = False, limits: Limits = DEFAULT) -> Dataset:
    """Read the tables of a dataset folder; items and images are opened when they are asked for.

    A row that cannot be used is left out and stands in `Dataset.report` with its line and the reason. An item whose
    image is missing or broken is kept without it, an item without a title with an empty one; both are counted. With
    `strict`, the first rejected row or image raises instead. DatasetError if a whole file cannot be used, and if there
    are not as many users, items or interactions as `dataset.toml` says under `[expected]`.
    """
    root = place(folder)
    if not root.is_dir():
        raise DatasetError(f"dataset folder {str(folder)!r} is not there or is no folder; check the path")
    settings = Settings.read(root / "dataset.toml")
    report = IntakeReport(strict=strict)
    item_table, log_table = Table.find(root, "items"), Table.find(root, "interactions")
    columns = settings.columns
    items = read_items(
        item_table,
        ItemColumns(item_id=columns.item_id, title=columns.title, image=columns.optional("image", item_table)),
        images=root / "images",
        limits=limits,
        report=report,
    )
    interactions = read_log(
        log_table,
        LogColumns(
            user_id=columns.user_id,
            item_id=columns.item_id,
            timestamp=columns.timestamp,
            rating=columns.optional("rating", log_table),
        ),
        item_ids=items.ids,
        report=report,
    )
    settings.expected.check(users=len(interactions.user_ids), items=len(items), interactions=len(interactions))
    return Dataset(
        name=clean(settings.name or root.resolve().name) or "dataset",
        items=items,
        interactions=interactions,
        root=root,
        rating_threshold=settings.rating_threshold,
    )


class Dataset:
    """Items and interactions of one world.

    `root` is the folder it was read from, None for one made in memory. Items are opened (text cleaned, image taken in)
    when they are asked for; `report` knows of an item's problems from then on. `rating_threshold` is the rating from
    which the folder's `dataset.toml` calls an item liked, None where it does not say.
    """

    def __init__(
        self,
        *,
        name: str,
        items: Catalogue,
        interactions: Interactions,
        root: Path | None = None,
        rating_threshold: float | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.items = items
        self.interactions = interactions
        self.rating_threshold = rating_threshold
        self.report.tied_events_share = float(interactions.tied().mean()) if len(interactions) else 0.0

    @classmethod
    def of(
        cls,
        name: str,
        items: Iterable[Item],
        interactions: Iterable[tuple[str, str, int, float | None]],
    ) -> Dataset:
        """A dataset in memory, from items and (user id, item id, Unix second, rating or None) in any order."""
        kept = tuple(items)
        ids = tuple(item.item_id for item in kept)
        if len(set(ids)) != len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise DatasetError(f"dataset {name!r}: item {twice!r} is there twice; give each item an id of its own")
        catalogue = Catalogue(ids, open_item=lambda position: OpenedItem(item=kept[position]), report=IntakeReport())
        return cls(name=name, items=catalogue, interactions=Interactions.of(interactions, item_ids=ids))

    def __repr__(self) -> str:
        counted = f"{len(self.users):,} users, {len(self.items):,} items, {len(self.interactions):,} interactions"
        return f"<Dataset {self.name!r}: {counted}>"

    @property
    def report(self) -> IntakeReport:
        """What was read, kept and rejected so far."""
        return self.items.report

    @property
    def users(self) -> tuple[str, ...]:
        """Ids of the users with at least one event, sorted."""
        return self.interactions.user_ids

    def history(self, user_id: str, *, before: int | None = None) -> History:
        """What one user did; with `before`, strictly before that Unix second, and only those items are opened."""
        log = self.interactions
        rows = log.rows_of(user_id)
        events = tuple(
            Event(item=self.items[log.item_ids[item]], at=int(at), rating=plain_rating(rating))
            for item, at, rating in zip(log.item[rows], log.at[rows], log.rating[rows], strict=True)
            if before is None or at < before
        )
        return History(user_id=user_id, events=events)

    def take_in(self, *, progress: Callable[[int, int], None] | None = None) -> IntakeReport:
        """Open every item, so that the report is complete; `progress` is told how many of how many are done."""
        self.items.take_in(progress=progress)
        return self.report


def write(
    folder: Path | str,
    items: Iterable[Item],
    interactions: Iterable[tuple[str, str, int, float | None]],
    *,
    name: str = "",
    attributes: Sequence[str] | None = None,
) -> None:
    """Write a dataset folder: items.csv, interactions.csv, images/, and dataset.toml if there is a `name`.

    `interactions` are (user id, item id, Unix second, rating or None), written in the order given. A table is replaced
    as a whole, so that there is never half of one. Loading gives the same items, images to the byte if they were
    normalized. Items are taken one by one and their images not held; with `attributes`, all that any item has, in the
    order of the columns, their texts are not held either.
    """
    root = Path(folder)
    try:
        (root / "images").mkdir(parents=True, exist_ok=True)
        _write_items(root, items, attributes)
        with replacing(root / "interactions.csv") as file:
            rows = csv.writer(file)
            rows.writerow(["user_id", "item_id", "timestamp", "rating"])
            rows.writerows(
                (user, item, at, "" if rating is None else rating) for user, item, at, rating in interactions
            )
        if name:
            with replacing(root / "dataset.toml") as file:
                file.write(f"name = {json.dumps(name, ensure_ascii=False)}\n")
    except OSError as error:
        raise DatasetError(
            f"dataset folder {str(folder)!r} cannot be written: {error.strerror}; make room or choose another"
        ) from error


def _write_items(root: Path, items: Iterable[Item], attributes: Sequence[str] | None) -> None:
    rows: Iterable[tuple[str, str, Mapping[str, str], str]] = (
        (item.item_id, item.title, item.attributes, _write_image(root / "images", item)) for item in items
    )
    if attributes is None:
        rows = tuple(rows)
        attributes = tuple(dict.fromkeys(name for _, _, own, _ in rows for name in own))
    taken = {"item_id", "title", "image"}.intersection(attributes)
    if taken:
        raise DatasetError(f"an attribute cannot be called {min(taken)!r}, which is a column of its own; rename it")
    with replacing(root / "items.csv") as file:
        table = csv.writer(file)
        table.writerow(["item_id", "title", *attributes, "image"])
        for item_id, title, own, image in rows:
            strange = own.keys() - set(attributes)
            if strange:
                raise DatasetError(f"item {item_id!r} has an attribute {min(strange)!r} without a column; name it too")
            table.writerow([item_id, title, *(own.get(name, "") for name in attributes), image])


def image_stem(item_id: str) -> str:
    """What the picture of an item is called, without its ending: the id if it is a safe file name, else its digest."""
    return item_id if SAFE_NAME.fullmatch(item_id) else sha256(item_id.encode()).hexdigest()[:32]


def _write_image(folder: Path, item: Item) -> str:
    if item.image is None:
        return ""
    name = f"{image_stem(item.item_id)}.{item.image.media_type.removeprefix('image/').replace('jpeg', 'jpg')}"
    (folder / name).write_bytes(item.image.data)
    return name


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` once it is written to its end."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
