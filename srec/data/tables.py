"""Tables on disk, CSV or Parquet, read in batches, with the line of every row."""

from __future__ import annotations

import csv
import mmap
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from srec.errors import DatasetError

BLOCK_BYTES = 16 * 2**20  # a row of a CSV file may not be longer
PARQUET_ROWS = 2**18
BOM = b"\xef\xbb\xbf"
SEPARATORS = ";\t|:"  # what stands between cells in place of commas
TEXT = pa.large_string()
# One record as pyarrow splits them: a quote opens only at the start of a cell, and what follows its close is literal.
# The group matches where a quote is still open at the end of the file.
CELL = rb'(?:"[^"]*+(?:""[^"]*+)*+(?:"|(\Z)))?+[^,\r\n]*+'
RECORD = re.compile(CELL + rb"(?:," + CELL + rb")*+(?:\r\n|\r|\n|\Z)")
NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some rows of a table: the number of each, int64[n] from 0, and the columns asked for as pyarrow arrays."""

    rows: NDArray[np.int64]
    columns: dict[str, Any]


class Table:
    """One table file. Rows are counted from 0 without the header and without blank lines.

    While `batches` runs, `rows_seen` counts, and `ragged` collects the numbers of the rows that are left out because
    their count of cells is not the header's. Whatever concerns the whole file raises DatasetError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_csv = path.suffix == ".csv"
        self.ragged = array("q")
        self.rows_seen = 0
        try:
            self.columns = tuple(_header(path) if self.is_csv else pq.ParquetFile(path).schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path.name} cannot be read: {_first_line(error)}; is it a whole file?") from error
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise DatasetError(f"{path.name} has more than one column {twice[0]!r}; rename or drop one")

    @classmethod
    def find(cls, folder: Path, stem: str) -> Table:
        """The table `stem`.csv or `stem`.parquet of a folder; there must be exactly one of them."""
        found = [path for path in (folder / f"{stem}.csv", folder / f"{stem}.parquet") if path.is_file()]
        if not found:
            raise DatasetError(f"folder {str(folder)!r} has neither {stem}.csv nor {stem}.parquet; add one of them")
        if len(found) > 1:
            raise DatasetError(f"folder {str(folder)!r} has both {stem}.csv and {stem}.parquet; remove one of them")
        return cls(found[0])

    def require(self, names: Sequence[str]) -> None:
        """Raise DatasetError, which names the columns found, unless all of `names` are columns."""
        missing = [name for name in names if name not in self.columns]
        if not missing:
            return
        hint = "add it, or say in dataset.toml under [columns] what it is called"
        if self.is_csv and len(self.columns) == 1 and any(mark in self.columns[0] for mark in SEPARATORS):
            hint = "separate the cells by commas"
        raise DatasetError(f"{self.path.name} has no column {missing[0]!r}, it has {_listed(self.columns)}; {hint}")

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The rows with the columns `names`, in the order of the file; CSV cells come as text, '' where empty."""
        try:
            yield from self._csv_batches(names) if self.is_csv else self._parquet_batches(names)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{self.path.name} cannot be read: {self._reason(error)}") from error

    def line(self, row: int) -> int:
        """Where row number `row` begins: a line of a CSV file, a row of a Parquet file, both counted from 1."""
        return int(self._lines[row]) if self.is_csv else row + 1

    def _csv_batches(self, names: Sequence[str]) -> Iterator[Batch]:
        if _has_quotes(self.path):
            _ = self._lines  # a quote that is never closed would swallow rows in silence
        kept = 0
        with pyarrow.csv.open_csv(
            self.path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=self._skip),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(names), column_types=dict.fromkeys(names, TEXT), strings_can_be_null=False
            ),
        ) as reader:
            for batch in reader:
                places = np.arange(kept, kept + len(batch))
                kept += len(batch)
                self.rows_seen = kept + len(self.ragged)
                before = np.asarray(self.ragged, np.int64) - np.arange(len(self.ragged))
                rows = places + np.searchsorted(before, places, side="right")
                yield Batch(rows=rows, columns={name: batch.column(name) for name in names})
        self.rows_seen = kept + len(self.ragged)

    def _parquet_batches(self, names: Sequence[str]) -> Iterator[Batch]:
        for batch in pq.ParquetFile(self.path).iter_batches(batch_size=PARQUET_ROWS, columns=list(names)):
            rows = np.arange(self.rows_seen, self.rows_seen + len(batch))
            self.rows_seen += len(batch)
            yield Batch(rows=rows, columns={name: batch.column(name) for name in names})

    def _skip(self, row: Any) -> str:
        self.ragged.append(row.number - 2)  # pyarrow counts from 1, and counts the header
        return "skip"

    @cached_property
    def _lines(self) -> array[int]:
        """The line of every row of a CSV file."""
        lines = array("q")
        line = 1
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            position = len(BOM) if data[: len(BOM)] == BOM else 0
            while position < len(data):
                record = RECORD.match(data, position)
                assert record is not None
                if record.lastindex is not None:
                    raise DatasetError(f"{self.path.name}, line {line}: a quote is opened and never closed; close it")
                text = record[0]
                if text.strip(b"\r\n"):
                    lines.append(line)
                line += len(text.splitlines())
                position = record.end()
        return lines[1:]

    def _reason(self, error: Exception) -> str:
        if "UTF8" in str(error) and self.is_csv:
            return f"line {_not_utf8(self.path)} is not UTF-8; save the file as UTF-8"
        if "straddl" in str(error):
            return f"a row is longer than {BLOCK_BYTES // 2**20} MiB; shorten it"
        return f"{_first_line(error)}; is it a whole file?"


def texts(cells: Any, *, column: str) -> Any:
    """A column as text without white space around it, '' for null; the parts of a list are joined by `|`."""
    try:
        if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
            parts = pc.cast(cells, pa.list_(pa.string())).to_pylist()
            cells = pa.array(["|".join(filter(None, row or ())) for row in parts], TEXT)
        return pc.utf8_trim_whitespace(pc.fill_null(pc.cast(cells, TEXT), ""))
    except pa.ArrowException as error:
        raise DatasetError(
            f"column {column!r} of type {cells.type} cannot be read as text; convert or drop it"
        ) from error


def numbers(cells: Any) -> NDArray[np.float64]:
    """A column as numbers, float64[n], NaN where a cell is none; points in time as Unix seconds, naive ones in UTC."""
    if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
        cells = pc.cast(pc.cast(cells, pa.timestamp("s"), safe=False), pa.int64())
    elif not pa.types.is_integer(cells.type) and not pa.types.is_floating(cells.type):
        written = texts(cells, column="of numbers")
        is_number = pc.match_substring_regex(written, NUMBER)
        cells = pc.if_else(is_number, written, pa.scalar(None, TEXT))
    return _floats(pc.cast(cells, pa.float64(), safe=False))


def blank(cells: Any) -> NDArray[np.bool_]:
    """Which cells of a column are empty, bool[n]."""
    if pa.types.is_floating(cells.type):
        return np.asarray(cells.is_null().to_numpy(zero_copy_only=False), bool)
    return np.asarray(pc.equal(texts(cells, column="of numbers"), "").to_numpy(zero_copy_only=False), bool)


def _floats(cells: Any) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(cells, float("nan")).to_numpy(zero_copy_only=False), np.float64)


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        start = file.read(BLOCK_BYTES // 16).removeprefix(BOM).lstrip(b"\r\n")
    if not start:
        raise DatasetError(f"{path.name} is empty; its first line names the columns")
    record = RECORD.match(start)
    assert record is not None
    try:
        return next(csv.reader([record[0].decode()]))
    except UnicodeDecodeError:
        raise DatasetError(f"{path.name} cannot be read: its header is not UTF-8; save the file as UTF-8") from None
    except csv.Error as error:
        raise DatasetError(
            f"{path.name} cannot be read: its header is broken ({error}); name the columns in it"
        ) from error


def _has_quotes(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b'"') >= 0


def _not_utf8(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown  # noqa: PLR2004 - as many as fit a sentence


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
