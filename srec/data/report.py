"""What came in, and what did not, with file, line and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Literal

from srec.errors import DatasetError, ImageError
from srec.types import Item

ProblemKind = Literal["row", "image", "text"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One row or image that was rejected, or one text that was cut.

    `line` counts the lines of a CSV file and the rows of a Parquet file, from 1. `cause` is the reason without its
    particulars, the same words for every problem of a class. `subject` is the id of the item or user.
    """

    file: str
    line: int = 0
    kind: ProblemKind
    cause: str
    reason: str
    subject: str = ""

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.reason}"


class IntakeReport:
    """What was read, kept and rejected; safe to add to from many threads.

    All problems are counted; the first `keep` of each kind are kept whole. With `strict`, the first rejected row or
    image is an error instead. A text that was cut is no rejection and never stops.
    """

    def __init__(self, *, strict: bool = False, keep: int = 1000) -> None:
        self.strict = strict
        self.keep = keep
        self.rows_read = 0
        self.rows_kept = 0
        self.items_without_image = 0
        self.items_without_text = 0
        self.items_without_both = 0
        self.images_taken_in = 0
        self.truncated_texts = 0
        self.tied_events_share = 0.0
        self._counts: Counter[tuple[ProblemKind, str]] = Counter()
        self._kept: dict[str, list[Problem]] = {}
        self._lock = Lock()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems kept whole, ordered by file and line."""
        with self._lock:
            return tuple(sorted(problem for kept in self._kept.values() for problem in kept))

    @property
    def counts(self) -> Mapping[tuple[ProblemKind, str], int]:
        """How many problems there are of each (kind, cause), sorted."""
        with self._lock:
            return MappingProxyType(dict(sorted(self._counts.items())))

    def add(self, problem: Problem) -> None:
        """Count a problem and keep it if there is room; with `strict`, a rejection raises."""
        if self.strict and problem.kind != "text":
            raise (ImageError if problem.kind == "image" else DatasetError)(str(problem))
        with self._lock:
            self._counts[problem.kind, problem.cause] += 1
            kept = self._kept.setdefault(problem.kind, [])
            if len(kept) < self.keep:
                kept.append(problem)

    def count(self, *, kind: ProblemKind, cause: str, times: int) -> None:
        """Count further problems of a class without keeping them whole."""
        if times:
            with self._lock:
                self._counts[kind, cause] += times

    def count_item(self, item: Item, *, texts_cut: int = 0) -> None:
        """Count one item that was taken in; its text is missing where it has no title."""
        with self._lock:
            self.images_taken_in += item.image is not None
            self.items_without_image += item.image is None
            self.items_without_text += not item.title
            self.items_without_both += item.image is None and not item.title
            self.truncated_texts += texts_cut

    def count_rows(self, *, read: int, kept: int) -> None:
        """Count the rows of one table."""
        with self._lock:
            self.rows_read += read
            self.rows_kept += kept

    def __str__(self) -> str:
        items = (
            f"{self.images_taken_in:,} images taken in; items without image: {self.items_without_image:,}, "
            f"without text: {self.items_without_text:,}, without both: {self.items_without_both:,}; "
            f"texts cut: {self.truncated_texts:,}"
        )
        lines = [
            f"{self.rows_kept:,} of {self.rows_read:,} rows kept",
            f"{self.tied_events_share:.1%} of events share their second with another of the same user",
            items,
        ]
        return "\n".join([*lines, *self.causes()])

    def causes(self) -> list[str]:
        """One line for each class of problems: how many, and the first of them."""
        first: dict[tuple[ProblemKind, str], Problem] = {}
        for problem in self.problems:
            first.setdefault((problem.kind, problem.cause), problem)
        return [
            f"{times:,} × {kind}: {cause}" + (f" (first: {first[kind, cause]})" if (kind, cause) in first else "")
            for (kind, cause), times in self.counts.items()
        ]
