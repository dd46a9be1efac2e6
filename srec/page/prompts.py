"""What an optimizer changed of a prompt, line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

WIDTH = 100  # columns at which long lines are cut, so that a changed word does not mark a whole paragraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a difference: in both, only in the plain prompt, or only in this one."""

    kind: Literal["same", "gone", "new"]
    text: str


def difference(plain: str, now: str) -> list[Line]:
    """All lines of both prompts, in order."""
    kinds: dict[str, Literal["same", "gone", "new"]] = {"  ": "same", "- ": "gone", "+ ": "new"}
    lines = difflib.ndiff(list(_lines(plain)), list(_lines(now)))
    return [Line(kind=kinds[line[:2]], text=line[2:]) for line in lines if line[:2] in kinds]


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from wrap(line, WIDTH) or [""]
