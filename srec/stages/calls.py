"""What a call is made for, and which calls a result was made of: kept beside the prompts, never in them.

`about` says for whom and what the work at hand is, `current_work` tells. `noting` gathers the names under which
somebody who listens keeps the calls that he hears (`srec.learn.distill`). Both follow the context into worker threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from srec.types import History, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Whose candidates are scored and when (`at` in Unix seconds), and which item a call is about; empty if none."""

    history: History | None = None
    candidates: tuple[Item, ...] = ()
    at: int | None = None
    item_id: str = ""


_work: ContextVar[Work] = ContextVar("srec_work", default=Work())  # noqa: B039 (it is frozen)
_notes: ContextVar[tuple[list[str], ...]] = ContextVar("srec_notes", default=())


def current_work() -> Work:
    """What the calls made here are for."""
    return _work.get()


@contextmanager
def about(**what: Any) -> Iterator[None]:
    """Inside the block, calls are for these fields of `Work`; the others stay as they are outside."""
    token = _work.set(replace(_work.get(), **what))
    try:
        yield
    finally:
        _work.reset(token)


@contextmanager
def noting() -> Iterator[list[str]]:
    """What is noted inside the block, in order of time; blocks nest, and an outer one has what an inner one has."""
    notes: list[str] = []
    token = _notes.set((*_notes.get(), notes))
    try:
        yield notes
    finally:
        _notes.reset(token)


def is_noting() -> bool:
    """Whether anybody takes notes here."""
    return bool(_notes.get())


def note(*names: str) -> None:
    """Add names to the notes of every open block."""
    for notes in _notes.get():
        notes.extend(names)
