"""What was asked of language models, counted: calls, tokens, results taken from the store, images not seen, failures.

Counting follows the context, so it reaches worker threads that run in a copy of it. `at_stage` says which stage of a
program the counts inside its block belong to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class StageUsage:
    """Counts of one stage. `seconds` are those that its callers waited, added up where several waited at once."""

    lm_calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    truncated: int = 0
    unseen_images: int = 0
    failures: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Usage:
    """Counts within one `count_usage()` block; safe to add to from many threads.

    `stages` has those counts by stage that were made inside an `at_stage` block, in the order of their first.
    """

    lm_calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    truncated: int = 0
    unseen_images: int = 0
    failures: int = 0
    stages: dict[str, StageUsage] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, stage: str = "", **counts: int) -> None:
        """Add to the counts that are named, and to those of the stage, if one is."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
            if stage:
                _add(self.stages.setdefault(stage, StageUsage()), counts)

    def spend(self, stage: str, seconds: float) -> None:
        """Add to the seconds of a stage."""
        with self._lock:
            _add(self.stages.setdefault(stage, StageUsage()), {"seconds": seconds})


_open: ContextVar[tuple[Usage, ...]] = ContextVar("srec_usage", default=())
_stage: ContextVar[str] = ContextVar("srec_stage", default="")


@contextmanager
def count_usage() -> Iterator[Usage]:
    """Count what happens inside the block; blocks nest, and an outer one counts what an inner one does."""
    usage = Usage()
    token = _open.set((*_open.get(), usage))
    try:
        yield usage
    finally:
        _open.reset(token)


@contextmanager
def at_stage(name: str) -> Iterator[None]:
    """Count what happens inside the block, and its seconds, for the stage of this name too."""
    token, began = _stage.set(name), time.perf_counter()
    try:
        yield
    finally:
        _stage.reset(token)
        for usage in _open.get():
            usage.spend(name, time.perf_counter() - began)


def record(**counts: int) -> None:
    """Add to the named counts of every open block."""
    for usage in _open.get():
        usage.add(stage=_stage.get(), **counts)


def _add(stage: StageUsage, counts: Mapping[str, float]) -> None:
    for name, count in counts.items():
        setattr(stage, name, getattr(stage, name) + count)
