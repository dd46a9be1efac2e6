"""Public datasets in their published files, as dataset folders.

The files are read line by line and twice: once to learn what there is, once to write. Memory grows with the number of
different ids and, where a core is asked for, by eight bytes per interaction.
"""

from __future__ import annotations

import csv
import html
import math
import re
import shutil
from array import array
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from srec.data.interactions import FIRST_SECOND, LAST_SECOND
from srec.data.published import FORMATS, Format, Row, Source
from srec.errors import DatasetError, InputError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
OUR_COLUMNS = ("item_id", "title", "image")
MARKUP = re.compile(r"<[^<>]*>")
MAX_PRICE_CHARS = 40  # Amazon's pages of 2018 left style sheets in this column

Event = tuple[str, str, int, float | None]  # user id, item id, Unix second, rating


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a conversion wrote, what it left out as not in the core, and what it rejected, by reason."""

    kind: str
    folder: Path
    items: int = 0
    users: int = 0
    interactions: int = 0
    images: int = 0
    core: str = ""
    rejected: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        written = (
            f"{self.kind}: {self.items:,} items ({self.images:,} with an image), {self.users:,} users and "
            f"{self.interactions:,} interactions written to {self.folder}"
        )
        return "\n".join([written, *self.losses()])

    def losses(self) -> list[str]:
        """What was left out and what was rejected, one line each."""
        rejected = (f"rejected {times:,} × {reason}" for reason, times in sorted(self.rejected.items()))
        return [self.core, *rejected] if self.core else [*rejected]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """The files of one dataset."""

    layout: Format
    item_file: Path
    event_file: Path

    def items(self, rejected: Counter[str]) -> Iterator[tuple[str, dict[str, str]]]:
        """Id and cells (title, then attributes) of every usable item; the others are counted."""
        seen: set[str] = set()
        for row in self.layout.items.read(self.item_file):
            item_id = "" if isinstance(row, str) else _text(_value(row, self.layout.items.columns["item"]))
            if isinstance(row, str):
                rejected[f"item: {row}"] += 1
            elif not item_id:
                rejected[f"item: no id in the columns {', '.join(row)}"] += 1
            elif item_id in seen:
                rejected["item: the id was there before"] += 1
            else:
                seen.add(item_id)
                yield item_id, _cells(row, self.layout)

    def events(self, known: Container[str], rejected: Counter[str]) -> Iterator[Event]:
        """Every usable interaction with a known item; the others are counted."""
        for row in self.layout.events.read(self.event_file):
            event = row if isinstance(row, str) else _event(row, self.layout)
            if not isinstance(event, str) and event[1] not in known:
                event = "the item is not in the item file"
            if isinstance(event, str):
                rejected[f"interaction: {event}"] += 1
            else:
                yield event


def convert(
    kind: str, source: str | Path, folder: str | Path, *, min_events: int = 0, images: str | Path | None = None
) -> Counts:
    """Write the published files in `source` as a dataset folder; print what comes back to see what was rejected.

    With `min_events`, users and items with fewer interactions are left out again and again until none is left (the
    k-core). `images` is a folder of pictures named by item id; those of the items written are copied. `folder` gets its
    tables at the end, whole or not at all.
    """
    source, folder = Path(source), Path(folder)
    if kind not in FORMATS:
        raise InputError(f"there is no dataset kind {kind!r}; take one of {', '.join(FORMATS)}")
    if (folder / "items.csv").exists() or (folder / "items.parquet").exists():
        raise DatasetError(f"{folder} already holds a dataset; name an empty folder")
    layout = FORMATS[kind]
    published = _Published(
        layout=layout, item_file=_find(layout.items, source), event_file=_find(layout.events, source)
    )
    pictures = {} if images is None else _pictures(Path(images))
    counts = Counts(kind=kind, folder=folder)
    known = {item_id: True for item_id, _ in published.items(counts.rejected)}
    users: Mapping[str, bool] = {}
    if min_events > 1:
        users, items, counts.core = _core(published.events(known, Counter()), least=min_events)
        known = {item_id: items.get(item_id, False) for item_id in known}

    parts = {name: folder / f"{name}.part" for name in ("interactions.csv", "items.csv")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_events(published, parts["interactions.csv"], known=known, users=users, counts=counts)
        if not counts.interactions:
            raise DatasetError(f"{published.event_file} has no interaction to keep: {'; '.join(counts.losses())}")
        _write_items(published, parts["items.csv"], known=known, pictures=pictures, counts=counts)
        for name, part in parts.items():
            part.replace(folder / name)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or folder} cannot be read or written: {error.strerror}; make room or give the right to"
        ) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return counts


def _find(wanted: Source, source: Path) -> Path:
    if not source.is_dir():
        raise DatasetError(f"{source} is no folder; name the one that holds the downloaded files, unpacked")
    matches = {path for name in wanted.names for path in source.glob(name) if path.is_file()}
    found = sorted(path for path in matches if not path.name.startswith(wanted.not_named))
    if len(found) == 1:
        return found[0]
    if found:
        raise DatasetError(f"{source} has {' and '.join(path.name for path in found)}; leave only the one to convert")
    there = ", ".join(sorted(path.name for path in source.iterdir())[:10]) or "nothing"
    raise DatasetError(f"{source} has no {' or '.join(wanted.names)}; it has {there}")


def _pictures(images: Path) -> dict[str, Path]:
    """Pictures by file name without its ending; of several the first."""
    if not images.is_dir():
        raise DatasetError(f"{images} is no folder; name the one that holds the pictures")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and path.is_file())
    return {path.stem: path for path in reversed(paths)}


# Rows to items and events


def _cells(row: Row, layout: Format) -> dict[str, str]:
    columns = layout.items.columns
    taken = (*OUR_COLUMNS, *columns["item"], *columns["title"])
    names = layout.attributes if layout.attributes is not None else [name for name in row if name not in taken]
    cells = {"title": _text(_value(row, columns["title"]), markup=layout.markup)}
    cells |= {name: _text(row.get(name), markup=layout.markup) for name in names}
    if layout.markup and "getTime" in cells["title"]:  # the script of a page; the publishers say to drop it
        cells["title"] = ""
    if len(cells.get("price", "")) > MAX_PRICE_CHARS:
        cells["price"] = ""
    return cells


def _event(row: Row, layout: Format) -> Event | str:
    """The interaction of a row, or the reason why it has none."""
    columns = layout.events.columns
    user_id, item_id = _text(_value(row, columns["user"])), _text(_value(row, columns["item"]))
    if not user_id or not item_id:
        return f"no {'item' if user_id else 'user'} id in the columns {', '.join(row)}"
    units = _number(_value(row, columns["time"]))
    if units is None:
        return f"no time that is a number in the columns {', '.join(row)}"
    at = math.floor(units / layout.per_second)
    if not FIRST_SECOND <= at <= LAST_SECOND:
        return "the time is outside the years 1970 to 2099"
    cell = _value(row, columns.get("rating", ()))
    rating = _number(cell)
    if rating is None and cell not in {None, ""}:
        return "the rating is no finite number"
    return user_id, item_id, at, rating


def _value(row: Row, names: Sequence[str]) -> object:
    """What stands under the first of the names that the row has."""
    return next((row[name] for name in names if name in row), None)


def _text(value: object, *, markup: bool = False) -> str:
    """One line. The parts of a list are separated by `|`, each once; objects and truth values say nothing."""
    if isinstance(value, list | tuple):
        parts = "|".join(text for part in value if (text := _text(part, markup=markup)))
        return "|".join(dict.fromkeys(parts.split("|")))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value).encode(errors="replace").decode()  # JSON can spell half a character, UTF-8 cannot
    return " ".join((html.unescape(MARKUP.sub(" ", text)) if markup else text).split())


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# What is kept


def _core(events: Iterator[Event], *, least: int) -> tuple[dict[str, bool], dict[str, bool], str]:
    """Which users and which items keep at least `least` interactions with one another, and the numbers in words."""
    names: tuple[dict[str, int], dict[str, int]] = ({}, {})
    columns = (array("i"), array("i"))
    for event in events:
        for code_of, column, name in zip(names, columns, event[:2], strict=True):
            column.append(code_of.setdefault(name, len(code_of)))
    user, item = (np.array(column, dtype=np.int32) for column in columns)
    inside, rounds = np.ones(len(user), dtype=np.bool_), 0
    while True:
        users = np.bincount(user[inside], minlength=len(names[0])) >= least
        items = np.bincount(item[inside], minlength=len(names[1])) >= least
        still = inside & users[user] & items[item]
        if still.sum() == inside.sum():
            break
        inside, rounds = still, rounds + 1
    words = (
        f"{least}-core after {rounds} rounds: {users.sum():,} of {len(users):,} users, {items.sum():,} of "
        f"{len(items):,} items with interactions, {inside.sum():,} of {len(inside):,} interactions"
    )
    kept_users, kept_items = (
        dict(zip(ids, kept.tolist(), strict=True)) for ids, kept in zip(names, (users, items), strict=True)
    )
    return kept_users, kept_items, words


# Writing


def _write_events(
    published: _Published, path: Path, *, known: Mapping[str, bool], users: Mapping[str, bool], counts: Counts
) -> None:
    """`known` and `users` say of an id whether it is kept; a user who is not named is."""
    rated = "rating" in published.layout.events.columns
    written: set[str] = set()
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["user_id", "item_id", "timestamp", "rating"][: 3 + rated])
        for user_id, item_id, at, rating in published.events(known, counts.rejected):
            if known[item_id] and users.get(user_id, True):
                table.writerow([user_id, item_id, at, "" if rating is None else f"{rating:g}"][: 3 + rated])
                written.add(user_id)
                counts.interactions += 1
    counts.users = len(written)


def _write_items(
    published: _Published, path: Path, *, known: Mapping[str, bool], pictures: Mapping[str, Path], counts: Counts
) -> None:
    images = path.parent / "images"
    if pictures:
        images.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for item_id, cells in published.items(Counter()):
            if not known[item_id]:
                continue
            if not counts.items:
                table.writerow(["item_id", *cells, "image"])
            picture = pictures.get(item_id)
            if picture is not None:
                shutil.copyfile(picture, images / picture.name)
                counts.images += 1
            table.writerow([item_id, *cells.values(), "" if picture is None else picture.name])
            counts.items += 1
