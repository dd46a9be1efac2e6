"""What was asked of language models, counted: calls, tokens, results taken from the store, images not seen, failures.

Counting follows the context, so it reaches worker threads that run in a copy of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Usage:
    """Counts within one `count_usage()` block; safe to add to from many threads."""

    lm_calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    truncated: int = 0
    unseen_images: int = 0
    failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to the counts that are named."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


_open: ContextVar[tuple[Usage, ...]] = ContextVar("srec_usage", default=())


@contextmanager
def count_usage() -> Iterator[Usage]:
    """Count what happens inside the block; blocks nest, and an outer one counts what an inner one does."""
    usage = Usage()
    token = _open.set((*_open.get(), usage))
    try:
        yield usage
    finally:
        _open.reset(token)


def record(**counts: int) -> None:
    """Add to the named counts of every open block."""
    for usage in _open.get():
        usage.add(**counts)
