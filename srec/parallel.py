"""The same work on many inputs at once, in threads that see the caller's context (its LM, its store, its counts)."""

from __future__ import annotations

import contextvars
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

MOST_HELPERS = 256  # of a process; whoever finds none free works alone


def parallel(work: Callable[[In], Out], inputs: Sequence[In], *, workers: int) -> list[Out]:
    """`work` of each input, in order; an error of any is raised after the others have ended.

    For a handful of inputs that fit in memory; `srec.bulk` is for the many that do not. The caller's own thread is one
    of the workers, so calls may nest as deep as they like: none waits for a thread that another one holds.
    """
    if len(inputs) <= 1 or workers <= 1:
        return [work(one) for one in inputs]
    results: list[Future[Out]] = [Future() for _ in inputs]
    left = deque((one, result, contextvars.copy_context()) for one, result in zip(inputs, results, strict=True))

    def take_part() -> None:
        with suppress(IndexError):  # nothing is left
            while True:
                one, result, context = left.popleft()
                _run(context, work, one, result)

    helpers = [_pool.submit(take_part) for _ in range(min(workers, len(inputs)) - 1)]
    try:
        take_part()
    finally:
        left.clear()  # nothing more is begun where the caller is interrupted
        wait([helper for helper in helpers if not helper.cancel()])
    return [result.result() for result in results]


def _run(context: contextvars.Context, work: Callable[[In], Out], one: In, result: Future[Out]) -> None:
    try:
        result.set_result(context.run(work, one))
    except BaseException as error:
        result.set_exception(error)
        if not isinstance(error, Exception):  # an interruption, which ends the thread's part
            raise


_pool: ThreadPoolExecutor


def _begin() -> None:
    """Have threads that stay, and with them their connections to stores; after a fork there are none of the parent."""
    global _pool  # noqa: PLW0603
    _pool = ThreadPoolExecutor(MOST_HELPERS, thread_name_prefix="srec-helper")


_begin()
os.register_at_fork(after_in_child=_begin)
