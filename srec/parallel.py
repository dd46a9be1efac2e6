"""The same work on many inputs at once, in threads that see the caller's context (its LM, its store, its counts)."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def parallel(work: Callable[[In], Out], inputs: Sequence[In], *, workers: int) -> list[Out]:
    """`work` of each input, in order; an error of any is raised after the others have ended.

    For a handful of inputs that fit in memory; `srec.bulk` is for the many that do not.
    """
    if len(inputs) <= 1 or workers <= 1:
        return [work(one) for one in inputs]
    with ThreadPoolExecutor(min(workers, len(inputs))) as pool:
        futures = [pool.submit(contextvars.copy_context().run, work, one) for one in inputs]
    return [future.result() for future in futures]
