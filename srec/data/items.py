"""The table of items, judged row by row, and its items opened one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.intake import Limits, clean_item, read_image
from srec.data.rejects import Rejects, brief, id_fault, nothing_left
from srec.data.report import IntakeReport, Problem
from srec.data.tables import Table, texts
from srec.errors import ImageError
from srec.types import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemColumns:
    """What the columns of the table are called; `image` is None where it has none. All others are attributes."""

    item_id: str = "item_id"
    title: str = "title"
    image: str | None = None


def read_items(table: Table, columns: ItemColumns, *, images: Path, limits: Limits, report: IntakeReport) -> Catalogue:
    """The items of the usable rows, in the order of the file; every other row is reported.

    A row needs an id that no row before it has. Pictures are files below `images`; a column without a name is left
    out. DatasetError if no row can be used.
    """
    table.require([columns.item_id, columns.title])
    rejects = Rejects(table, report)
    known: dict[str, None] = {}
    parts, rows = [], [np.empty(0, np.int64)]
    for batch in table.batches([name for name in table.columns if name]):
        cells = {name: texts(column, column=name) for name, column in batch.columns.items()}
        kept = _judged(cells[columns.item_id].to_pylist(), rows=batch.rows, known=known, rejects=rejects)
        parts.append(pa.table(cells).take(kept))
        rows.append(batch.rows[kept])
    rejects.add_ragged()
    rejects.settle()
    report.count_rows(read=table.rows_seen, kept=len(known))
    if not known:
        raise nothing_left(table, report)
    opener = ItemOpener(
        table, columns, cells=pa.concat_tables(parts), rows=np.concatenate(rows), images=images, limits=limits
    )
    return Catalogue(tuple(known), open_item=opener.open, report=report)


class ItemOpener:
    """The usable rows of the table, held as text; makes the item at a position, the same every time."""

    def __init__(
        self, table: Table, columns: ItemColumns, *, cells: Any, rows: NDArray[np.int64], images: Path, limits: Limits
    ) -> None:
        self.table = table
        self.columns = columns
        self.images = images
        self.limits = limits
        self._cells = cells.combine_chunks()
        self._rows = rows

    def open(self, position: int) -> OpenedItem:
        """Clean the text and take in the picture of one item."""
        cells: dict[str, str] = self._cells.slice(position, 1).to_pylist()[0]
        item_id, title = cells[self.columns.item_id], cells[self.columns.title]
        file_name = cells[self.columns.image] if self.columns.image else ""
        known = {self.columns.item_id, self.columns.title, self.columns.image}  # one column may be two of them
        attributes = {name: text for name, text in cells.items() if name not in known}
        image, problems = self._image(position, item_id, file_name)
        item, cut = clean_item(item_id, title=title, attributes=attributes, image=image, limits=self.limits)
        if cut:
            reason = f"item {item_id!r}: {', '.join(cut)} cut to the allowed length"
            problems.append(self._problem(position, item_id)(kind="text", cause="text cut", reason=reason))
        return OpenedItem(item=item, problems=tuple(problems), texts_cut=len(cut))

    def _image(self, position: int, item_id: str, file_name: str) -> tuple[Image | None, list[Problem]]:
        try:
            return (read_image(self.images, file_name, limits=self.limits) if file_name else None), []
        except ImageError as error:
            problem = self._problem(position, item_id)
            return None, [problem(kind="image", cause=error.cause, reason=f"item {item_id!r}: {error}")]

    def _problem(self, position: int, item_id: str) -> partial[Problem]:
        line = self.table.line(int(self._rows[position]))
        return partial(Problem, file=self.table.path.name, line=line, subject=item_id)


def _judged(ids: list[str], *, rows: NDArray[np.int64], known: dict[str, None], rejects: Rejects) -> NDArray[np.int64]:
    """The positions of the rows whose id is usable and new; the ids join `known`."""
    kept: list[int] = []
    for position, item_id in enumerate(ids):
        fault = id_fault(item_id, column="item id")
        if fault or item_id in known:
            cause = "unusable item id" if fault else "duplicate item id"
            reason = fault or f"item {item_id!r} stands in an earlier row; give each item an id of its own"
            rejects.add(rows[position : position + 1], cause, partial(_told, reason, brief(item_id)))
        else:
            known[item_id] = None
            kept.append(position)
    return np.array(kept, np.int64)


def _told(reason: str, subject: str, _: int) -> tuple[str, str]:
    return reason, subject
