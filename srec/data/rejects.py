"""Rows of a table that cannot be used, gathered until their lines are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from srec.data.report import IntakeReport, Problem
from srec.data.tables import Table
from srec.errors import DatasetError
from srec.text import clean

MAX_ID_CHARS = 256
BRIEF_CHARS = 60


class Rejects:
    """What was rejected of one table; `settle` puts it into the report, ordered by line.

    Finding a line costs a pass over the file, so it happens once, and only if something was rejected.
    """

    def __init__(self, table: Table, report: IntakeReport) -> None:
        self.table = table
        self.report = report
        self._found: list[tuple[int, str, str, str]] = []
        self._further: Counter[str] = Counter()

    def add(self, rows: NDArray[np.int64], cause: str, describe: Callable[[int], tuple[str, str]]) -> None:
        """Reject `rows` for one cause; `describe` gives the reason and the subject of the i-th of them."""
        if not len(rows):
            return
        room = max(0, self.report.keep - len(self._found))
        self._found += [(row, cause, *describe(position)) for position, row in enumerate(rows[:room].tolist())]
        self._further[cause] += len(rows[room:])

    def add_ragged(self) -> None:
        """Reject the rows whose count of cells is not the header's."""
        reason = f"the row has not the {len(self.table.columns)} cells of the header; quote cells that hold a comma"
        self.add(np.asarray(self.table.ragged, np.int64), "ragged row", lambda _: (reason, ""))

    def settle(self) -> None:
        """Report everything that was rejected; a strict report raises for the first of it."""
        for row, cause, reason, subject in sorted(self._found):
            file, line = self.table.path.name, self.table.line(row)
            self.report.add(Problem(file=file, line=line, kind="row", cause=cause, reason=reason, subject=subject))
        for cause, times in self._further.items():
            self.report.count(kind="row", cause=cause, times=times)
        self._found.clear()
        self._further.clear()


def id_fault(text: str, *, column: str) -> str:
    """Why `text` cannot be an id, '' if it can."""
    if not text:
        return f"empty {column}; give one"
    if len(text) > MAX_ID_CHARS:
        return f"{column} longer than {MAX_ID_CHARS} characters; shorten it"
    return "" if text.isprintable() else f"{column} with control characters; remove them"


def brief(text: object) -> str:
    """What stands in a cell, short and safe enough for a message."""
    return clean("" if text is None else str(text), max_chars=BRIEF_CHARS)


def nothing_left(table: Table, report: IntakeReport) -> DatasetError:
    """The error for a table of which no row can be used."""
    return DatasetError(
        f"{table.path.name} has no row that can be used: {'; '.join(report.causes()) or 'it has none at all'}"
    )
