"""The table of interactions, read and judged row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from srec.data.interactions import FIRST_LIKELY_SECOND, FIRST_SECOND, LAST_SECOND, Interactions, arrange
from srec.data.rejects import Rejects, brief, id_fault, nothing_left
from srec.data.report import IntakeReport
from srec.data.tables import Batch, Table, blank, numbers, texts

FINER_THAN_SECONDS = (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
KINDS = {"row": np.int64, "user": np.int32, "item": np.int32, "at": np.int64, "rating": np.float32}

# Which rows a fault has, bool[n]; its cause in words; and its reason for one of them, by position in the batch.
Check = tuple[NDArray[np.bool_], str, Callable[[int], str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogColumns:
    """What the columns of the table are called; `rating` is None where it has none."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    rating: str | None = None

    def names(self) -> list[str]:
        """The columns to read, each once."""
        names = (self.user_id, self.item_id, self.timestamp, self.rating)
        return list(dict.fromkeys(name for name in names if name is not None))


def read_log(table: Table, columns: LogColumns, *, item_ids: tuple[str, ...], report: IntakeReport) -> Interactions:
    """The usable rows, in order; every other row is reported. DatasetError if none can be used.

    A row needs a user id, the id of a known item, and a whole Unix second from 1970 to 2099; its rating may be empty,
    but must else be a finite number. Of exact repeats the first is kept.
    """
    table.require(columns.names())
    rejects = Rejects(table, report)
    reader = LogReader(columns, item_ids=item_ids, rejects=rejects)
    parts = [reader.usable(batch) for batch in table.batches(columns.names())]
    rejects.add_ragged()
    log = {name: np.concatenate([np.empty(0, kind), *(p.pop(name) for p in parts)]) for name, kind in KINDS.items()}
    row = log.pop("row")
    interactions, repeats = arrange(user_ids=tuple(reader.user_codes), item_ids=item_ids, **log)
    rejects.add(row[repeats], "repeated interaction", lambda _: ("the same interaction stands in an earlier row", ""))
    rejects.settle()
    report.count_rows(read=table.rows_seen, kept=len(interactions))
    if not len(interactions):
        raise nothing_left(table, report)
    return interactions


class LogReader:
    """Takes the usable rows out of batches, as codes and numbers, and rejects the others."""

    def __init__(self, columns: LogColumns, *, item_ids: tuple[str, ...], rejects: Rejects) -> None:
        self.columns = columns
        self.rejects = rejects
        self.user_codes: dict[str, int] = {}
        self._item_codes = {item_id: code for code, item_id in enumerate(item_ids)}

    def usable(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """The columns of `KINDS` for the usable rows of a batch."""
        cells = batch.columns
        users = Ids(cells[self.columns.user_id], column=self.columns.user_id)
        items = Ids(cells[self.columns.item_id], column=self.columns.item_id)
        values: dict[str, NDArray[Any]] = {
            "row": batch.rows,
            "user": users.codes(self._user_code),
            "item": items.codes(lambda text: self._item_codes.get(text, -1)),
            "at": numbers(cells[self.columns.timestamp]),
            "rating": self._ratings(cells, count=len(batch.rows)),
        }
        bad = np.zeros(len(batch.rows), bool)
        for mask, cause, reason in self._checks(cells, values, users=users, items=items):
            rows = np.flatnonzero(mask & ~bad)
            bad[rows] = True
            self.rejects.add(batch.rows[rows], cause, partial(_described, rows, reason=reason, users=users))
        return {name: values[name][~bad].astype(kind, copy=False) for name, kind in KINDS.items()}

    def _checks(
        self, cells: Mapping[str, Any], values: Mapping[str, NDArray[Any]], *, users: Ids, items: Ids
    ) -> Iterator[Check]:
        """What can be wrong with a row; of several faults the first is reported."""
        user_id, item_id = self.columns.user_id, self.columns.item_id
        time, rating = self.columns.timestamp, self.columns.rating
        at = values["at"]
        yield values["user"] < 0, "unusable user id", lambda row: id_fault(users.text(row), column=user_id)
        yield items.blank(), "empty item id", lambda _: f"empty {item_id}; give an id"
        yield values["item"] < 0, "unknown item", lambda row: f"item {brief(items.text(row))!r} is not among the items"
        yield np.isnan(at), "timestamp is no number", lambda row: _no_number(time, cells[time][row])
        absurd = (at < FIRST_SECOND) | (at > LAST_SECOND)
        yield absurd, "timestamp out of range", lambda row: _out_of_range(time, at[row])
        fraction = np.modf(at)[0] != 0
        yield fraction, "timestamp is not whole", lambda row: f"{time} {at[row]} is no whole second; round it"
        if rating is not None:
            wrong = ~np.isfinite(values["rating"]) & ~blank(cells[rating])
            yield wrong, "rating is no finite number", lambda row: _no_number(rating, cells[rating][row])

    def _user_code(self, text: str) -> int:
        return -1 if id_fault(text, column="") else self.user_codes.setdefault(text, len(self.user_codes))

    def _ratings(self, cells: Mapping[str, Any], *, count: int) -> NDArray[np.float32]:
        if self.columns.rating is None:
            return np.full(count, np.nan, np.float32)
        with np.errstate(over="ignore"):
            return numbers(cells[self.columns.rating]).astype(np.float32)


class Ids:
    """A column of ids, of which each different one is looked at once."""

    def __init__(self, cells: Any, *, column: str) -> None:
        coded = pc.dictionary_encode(texts(cells, column=column))
        self.unique: list[str] = coded.dictionary.to_pylist()
        self.index: NDArray[np.int32] = coded.indices.to_numpy(zero_copy_only=False)

    def text(self, row: int) -> str:
        """The id in a row of the batch."""
        return self.unique[int(self.index[row])]

    def codes(self, code_of: Callable[[str], int]) -> NDArray[np.int32]:
        """The code of each row, int32[n]."""
        return np.fromiter((code_of(text) for text in self.unique), np.int32)[self.index]

    def blank(self) -> NDArray[np.bool_]:
        """Which rows have no id, bool[n]."""
        return np.fromiter((not text for text in self.unique), np.bool_)[self.index]


def _described(rows: NDArray[np.intp], position: int, *, reason: Callable[[int], str], users: Ids) -> tuple[str, str]:
    row = int(rows[position])
    return reason(row), brief(users.text(row))


def _no_number(column: str, cell: Any) -> str:
    text = brief(cell.as_py())
    return f"{column} {text!r} is no finite number; give one" if text else f"empty {column}; give a number"


def _out_of_range(column: str, at: float) -> str:
    for unit, per_second in FINER_THAN_SECONDS:
        if FIRST_LIKELY_SECOND * per_second <= at <= LAST_SECOND * per_second:
            return f"{column} {at:.0f} looks like {unit}; divide by {per_second}"
    return f"{column} {at:.0f} is not in 1970-2099; give Unix seconds"
