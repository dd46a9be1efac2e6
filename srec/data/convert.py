"""Public datasets in their published files, as dataset folders.

The files are read line by line, packed or not. Memory grows with the number of different ids and by sixteen bytes per
interaction; with a core or a search for repeats, by some thirty more for as long as that takes.
"""

from __future__ import annotations

import csv
import html
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srec.data.conversion import Conversion, Tally
from srec.data.fetch import MOST_BYTES, URLS, fetch_images, there_are
from srec.data.folder import image_stem
from srec.data.gathered import Event, Gathered
from srec.data.interactions import FIRST_LIKELY_SECOND, FIRST_SECOND, LAST_SECOND
from srec.data.kcore import core
from srec.data.published import FORMATS, Format, Source, picture_url
from srec.data.readers import Row
from srec.data.rejects import id_fault
from srec.data.staging import appearing
from srec.data.web import Manners
from srec.errors import DatasetError, InputError
from srec.place import place
from srec.progress import waiting

RECORD = "conversion.json"  # what was asked for, by which a later call knows its own folder
OUR_COLUMNS = ("item_id", "title", "image")
MARKUP = re.compile(r"<[^<>]*>")
MAX_PRICE_CHARS = 40  # Amazon's pages of 2018 left style sheets in this column
MAX_RATING = float(np.finfo(np.float32).max)  # as ratings are kept
MAX_CELL_CHARS = 100_000  # what Python's `csv` can read back; intake keeps far less, and counts what it cuts
NEWS_EVERY = 100_000

News = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """The files of one dataset."""

    layout: Format
    item_file: Path
    event_file: Path

    def items(self, tally: Tally) -> Iterator[tuple[str, Row]]:
        """Id and row of every usable item; all are counted."""
        seen: set[str] = set()
        for row in self.layout.items.read(self.item_file):
            tally.read += 1
            item_id = "" if isinstance(row, str) else _text(_value(row, self.layout.items.columns["item"]))
            if isinstance(row, str):
                tally.rejected[row] += 1
            elif not item_id:
                tally.rejected[f"no id in the columns {_listed(row)}"] += 1
            elif fault := id_fault(item_id, column="item id"):
                tally.rejected[fault] += 1
            elif item_id in seen:
                tally.rejected["the id was there before"] += 1
            else:
                seen.add(item_id)
                yield item_id, row

    def events(self, positions: Mapping[str, int], tally: Tally, *, news: News) -> Iterator[Event]:
        """Every usable interaction with a known item; all are counted."""
        rows = self.layout.events.read(self.event_file)
        for read, row in enumerate(rows, start=1):
            tally.read = read
            event = row if isinstance(row, str) else _event(row, self.layout, positions)
            if isinstance(event, str):
                tally.rejected[event] += 1
            else:
                yield event
            if read % NEWS_EVERY == 0:
                news(f"{read:,} rows")


def convert(
    kind: str,
    source: str | Path,
    folder: str | Path,
    *,
    min_events: int = 0,
    rating_threshold: float | None = None,
    liked_only: bool = False,
    images: str | Path | None = None,
    download_images: bool = False,
    most_images: int | None = None,
    most_image_bytes: int = MOST_BYTES,
    manners: Manners | None = None,
    progress: bool | None = None,
) -> Conversion:
    """Write the published files in `source` as a dataset folder; print what comes back to see what became of each row.

    The folder appears whole or not at all. How many users, items and interactions it holds stands in its `dataset.toml`
    under `[expected]`, so that it is refused once there are others. Only `download_images` reaches the network: it
    fetches the pictures whose URLs are published into the folder that was written, and the same call again goes on with
    a download that was stopped.

    Args:
        kind: One of movielens, recbole, amazon-2014, amazon-2018, amazon-2023, microlens.
        source: The folder of the files as they are published, `.gz` or unpacked.
        folder: A new or an empty folder.
        min_events: Users and items with fewer interactions are left out until there is none: the k-core.
        rating_threshold: The rating from which an item is liked; it is written to `dataset.toml`.
        liked_only: Leave out the interactions below `rating_threshold`, before the core.
        images: A folder of pictures named by item id; those of the items written are copied, but for links that lead
            out of it.
        download_images: Fetch the pictures.
        most_images: Ask for no more of them in this call.
        most_image_bytes: Ask for no more once those of this call have so many bytes together.
        manners: How the hosts of the pictures are asked.
        progress: Whether to show that it is under way; by default on a terminal.

    Raises:
        DatasetError: a file is missing, broken off, or has no interaction to keep, or the folder cannot be written.
        InputError: an argument cannot be used.
    """
    source, folder = place(source), place(folder)
    layout = _checked(kind, rating_threshold=rating_threshold, liked_only=liked_only)
    if download_images:
        _check_download(kind, images=images, most_images=most_images, most_image_bytes=most_image_bytes)
    elif most_images is not None:
        raise InputError("a number of pictures bounds their download; ask for it too, or leave the number out")
    published = _Published(
        layout=layout, item_file=_find(layout.items, source), event_file=_find(layout.events, source)
    )
    asked = {
        "kind": kind,
        "files": {path.name: path.stat().st_size for path in (published.item_file, published.event_file)},
        "min_events": min_events,
        "rating_threshold": rating_threshold,
        "liked_only": liked_only,
    }
    made = _before(folder, asked) if download_images else None
    if made is None:
        made = Conversion(kind=kind, folder=folder, min_events=min_events, rating_threshold=rating_threshold)
        pictures = {} if images is None else _pictures(place(images))
        with waiting(f"converting {kind}", show=progress) as news, appearing(folder) as staged:
            _write(published, staged, made, liked_only=liked_only, pictures=pictures, news=news)
            _write_record(staged, asked, made)
    if download_images:
        made.fetched = fetch_images(
            folder, manners=manners, most=most_images, most_bytes=most_image_bytes, progress=progress
        )
        made.images = len(there_are(folder / "images"))
    return made


def _checked(kind: str, *, rating_threshold: float | None, liked_only: bool) -> Format:
    if kind not in FORMATS:
        raise InputError(f"there is no dataset kind {kind!r}; take one of {', '.join(FORMATS)}")
    layout = FORMATS[kind]
    if rating_threshold is not None and "rating" not in layout.events.columns:
        raise InputError(f"{kind} has no ratings; leave out the threshold")
    if rating_threshold is not None and not math.isfinite(rating_threshold):
        raise InputError(f"rating threshold {rating_threshold} is no finite number; give one such as 4")
    if liked_only and rating_threshold is None:
        raise InputError("what is liked depends on a rating threshold; give one such as 4")
    return layout


def _check_download(kind: str, *, images: str | Path | None, most_images: int | None, most_image_bytes: int) -> None:
    if images is not None:
        raise InputError("pictures are copied from a folder or fetched, not both; leave out one")
    if not FORMATS[kind].pictures:
        raise InputError(f"{kind} is not published with URLs of pictures; give a folder of them instead")
    if min(most_image_bytes, 1 if most_images is None else most_images) < 1:
        raise InputError("a download is bounded by at least 1 picture and 1 byte; give such numbers")


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
    """Pictures by file name without its ending."""
    if not images.is_dir():
        raise DatasetError(f"{images} is no folder; name the one that holds the pictures")
    return {stem: images / name for stem, name in there_are(images).items()}


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
    return {name: text[:MAX_CELL_CHARS] for name, text in cells.items()}


def _event(row: Row, layout: Format, positions: Mapping[str, int]) -> Event | str:
    """The interaction of a row, or the reason why it has none."""
    columns = layout.events.columns
    user_id, item_id = _text(_value(row, columns["user"])), _text(_value(row, columns["item"]))
    if not user_id or not item_id:
        return f"no {'item' if user_id else 'user'} id in the columns {_listed(row)}"
    if fault := id_fault(user_id, column="user id"):
        return fault
    at = _second(row, layout)
    if isinstance(at, str):
        return at
    cell = _value(row, columns.get("rating", ()))
    rating = _number(cell)
    if cell is not None and cell != "" and (rating is None or abs(rating) > MAX_RATING):
        return "the rating is no finite number"
    position = positions.get(item_id)
    return "the item is not in the item file" if position is None else (user_id, position, at, rating)


def _second(row: Row, layout: Format) -> int | str:
    """The Unix second of a row, or the reason why it has none."""
    units = _number(_value(row, layout.events.columns["time"]))
    if units is None:
        return f"no time that is a number in the columns {_listed(row)}"
    at = math.floor(units / layout.per_second)
    if not FIRST_SECOND <= at <= LAST_SECOND:
        return "the time is outside the years 1970 to 2099"
    if layout.per_second > 1 and FIRST_LIKELY_SECOND <= units <= LAST_SECOND:
        return f"the time looks like seconds; multiply by {layout.per_second}"
    return at


def _value(row: Row, names: Sequence[str]) -> object:
    """What stands under the first of the names that the row has."""
    for name in names:
        if name in row:
            return row[name]
    return None


def _text(value: object, *, markup: bool = False) -> str:
    """One line. The parts of a list are separated by `|`, each once; objects and truth values say nothing."""
    if isinstance(value, str) and not markup and value.isascii():
        return " ".join(value.split())
    if isinstance(value, list | tuple):
        parts = "|".join(text for part in value if (text := _text(part, markup=markup)))
        return "|".join(dict.fromkeys(parts.split("|")))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value)
    if not text.isascii():
        text = text.encode(errors="replace").decode()  # JSON can spell half a character, UTF-8 cannot
    return " ".join((html.unescape(MARKUP.sub(" ", text)) if markup else text).split())


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _listed(row: Row) -> str:
    return ", ".join(list(row)[:12])[:200]


# Writing


def _write(
    published: _Published, root: Path, made: Conversion, *, liked_only: bool, pictures: Mapping[str, Path], news: News
) -> None:
    item_ids = [item_id for item_id, _ in published.items(made.items)]
    positions = {item_id: position for position, item_id in enumerate(item_ids)}
    events = Gathered(published.events(positions, made.interactions, news=news))
    news("choosing what is kept")
    kept = _kept(events, made, liked_only=liked_only)
    if not kept.any():
        raise DatasetError(f"{published.event_file} has no interaction to keep: {made.losses() or 'it has no row'}")
    rated = "rating" in published.layout.events.columns
    events.write(root / "interactions.csv", kept=kept, item_ids=item_ids, rated=rated)
    made.interactions.kept = int(kept.sum())
    made.users = len(np.unique(events.user[kept]))
    wanted = np.ones(len(item_ids), np.bool_)
    if made.min_events >= 1:
        wanted = np.bincount(events.item[kept], minlength=len(item_ids)) > 0
        made.items.left_out[f"not in the {made.min_events}-core"] = int(np.count_nonzero(~wanted))
    del events
    _write_items(published, root, made, wanted=wanted, pictures=pictures)


def _kept(events: Gathered, made: Conversion, *, liked_only: bool) -> NDArray[np.bool_]:
    """Which interactions are kept, bool[n]; what is left out is counted by the first reason that it meets."""
    left_out = made.interactions.left_out
    kept = ~events.repeats()
    left_out["the same was there before"] = int(np.count_nonzero(~kept))
    liked = None if made.rating_threshold is None else events.rating >= np.float32(made.rating_threshold)
    if liked_only and liked is not None:
        left_out[f"rated below {made.rating_threshold:g} or not rated"] = int(np.count_nonzero(kept & ~liked))
        kept &= liked
    if made.min_events > 1:  # all of them are in the 1-core
        rows = np.flatnonzero(kept)
        inside, made.rounds = core(events.user[rows], events.item[rows], least=made.min_events)
        left_out[f"not in the {made.min_events}-core"] = int(np.count_nonzero(~inside))
        kept[rows[~inside]] = False
    made.liked = None if liked is None else int(np.count_nonzero(kept & liked))
    return kept


def _write_items(
    published: _Published, root: Path, made: Conversion, *, wanted: NDArray[np.bool_], pictures: Mapping[str, Path]
) -> None:
    images, layout = root / "images", published.layout
    if pictures:
        images.mkdir()
    with (
        (root / "items.csv").open("w", encoding="utf-8", newline="") as file,
        (root / URLS).open("w", encoding="utf-8", newline="") as url_file,
    ):
        table, urls = csv.writer(file, lineterminator="\n"), csv.writer(url_file, lineterminator="\n")
        urls.writerow(["item_id", "url"])
        for position, (item_id, row) in enumerate(published.items(Tally())):
            if not wanted[position]:
                continue
            cells, picture = _cells(row, layout), pictures.get(item_id)
            if picture is not None and _leads_out(picture):
                picture = None
                made.links_out += 1
            if not made.items.kept:
                table.writerow(["item_id", *cells, "image"])
            table.writerow([item_id, *cells.values(), _copied(picture, images, item_id)])
            if url := _text(picture_url(row, layout.pictures)):
                urls.writerow([item_id, url[:MAX_CELL_CHARS]])
            made.items.kept += 1
            made.images += picture is not None
    if not layout.pictures:
        (root / URLS).unlink()


def _leads_out(picture: Path) -> bool:
    return not picture.resolve().is_relative_to(picture.parent.resolve())


def _copied(picture: Path | None, images: Path, item_id: str) -> str:
    if picture is None:
        return ""
    name = f"{image_stem(item_id)}{picture.suffix}"
    shutil.copyfile(picture, images / name)
    return name


# The folder


def _write_record(root: Path, asked: Mapping[str, Any], made: Conversion) -> None:
    liked = "" if made.rating_threshold is None else f"rating_threshold = {float(made.rating_threshold)}\n\n"
    counts = {"users": made.users, "items": made.items.kept, "interactions": made.interactions.kept}
    expected = "".join(f"{name} = {count}\n" for name, count in counts.items())
    (root / "dataset.toml").write_text(f"{liked}[expected]\n{expected}", encoding="utf-8")
    told = made.to_object()
    del told["folder"]  # the same bytes wherever it is
    record = {"asked": asked, "made": told}
    (root / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _before(folder: Path, asked: Mapping[str, Any]) -> Conversion | None:
    """The conversion that wrote the folder, if it was asked for the same."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Conversion.of(record["made"], folder=folder) if record["asked"] == asked else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
