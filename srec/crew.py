"""Threads that work on inputs in the background, for a caller who takes the results in order."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

logger = logging.getLogger(__name__)

I = TypeVar("I")  # noqa: E741  an input; R is what is made of it
R = TypeVar("R")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.25  # between two looks at an input that another process computes
SILENCE_S = 60.0  # how long such an input stays without a word in the log


@dataclass(slots=True, kw_only=True, eq=False)
class Task(Generic[I, R]):
    """One input on its way; `position` counts from 0, `key` is for whoever answers it."""

    given: I
    position: int
    key: str | None = None
    outcome: R | None = None
    pause_s: float = FIRST_PAUSE_S
    refused_at: float | None = None  # monotonic seconds when another thread or process was first found at it


class Crew(Generic[I, R]):
    """Threads that work on tasks, the one that is due first at first.

    They are daemons, so that a program that is interrupted ends without waiting for the LM.
    """

    def __init__(self, size: int, context: Context) -> None:
        self.size = size
        self._context = context
        lock = threading.Lock()
        self._scheduled, self._finished = threading.Condition(lock), threading.Condition(lock)
        self._due: list[tuple[float, int, Task[I, R]]] = []  # a heap of (monotonic second, position, task)
        self._positions = count()
        self._crash: BaseException | None = None
        self._leaving = False
        self._threads: list[threading.Thread] = []

    def start(self, answer: Callable[[Task[I, R]], R | None]) -> None:
        """Begin to work."""
        self._threads = [threading.Thread(target=self._work, args=(answer,), daemon=True) for _ in range(self.size)]
        for thread in self._threads:
            thread.start()

    def add(self, given: I) -> Task[I, R]:
        """Have an input worked on."""
        task: Task[I, R] = Task(given=given, position=next(self._positions))
        self._schedule(task, after_s=0.0)
        return task

    def wait_for(self, task: Task[I, R]) -> R:
        """The outcome of `task`; raises what ended a thread."""
        with self._finished:
            while task.outcome is None:
                if self._crash is not None:
                    raise self._crash
                self._finished.wait()
            return task.outcome

    def leave(self, patience_s: float | None) -> None:
        """Begin nothing more, and wait for the work in progress, at most `patience_s`."""
        with self._scheduled:
            self._leaving = True
            self._due.clear()
            self._scheduled.notify_all()
        deadline = None if patience_s is None else time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _work(self, answer: Callable[[Task[I, R]], R | None]) -> None:
        while (task := self._next()) is not None:
            try:
                outcome = self._context.copy().run(answer, task)
            except BaseException as error:  # noqa: BLE001  handed over: `wait_for` raises it where it can be seen
                self._end(error)
                return
            if outcome is None:
                self._put_aside(task)
            else:
                self._finish(task, outcome)
            del task, outcome  # or an idle thread would hold them

    def _next(self) -> Task[I, R] | None:
        """The task that is due first, once it is due; None at the end."""
        with self._scheduled:
            while not self._leaving and self._crash is None:
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    task = heapq.heappop(self._due)[2]
                    self._scheduled.notify()  # another thread may have to wait for what is due next
                    return task
                self._scheduled.wait(wait_s)
        return None

    def _schedule(self, task: Task[I, R], *, after_s: float) -> None:
        with self._scheduled:
            if not self._leaving:
                heapq.heappush(self._due, (time.monotonic() + after_s, task.position, task))
            self._scheduled.notify()

    def _put_aside(self, task: Task[I, R]) -> None:
        """Look at a task again later, since another thread or process is at it."""
        now = time.monotonic()
        task.refused_at = now if task.refused_at is None else task.refused_at
        if now - task.refused_at > SILENCE_S:
            logger.warning("another process has been at input %d for more than %.0f s", task.position, SILENCE_S)
            task.refused_at = now
        self._schedule(task, after_s=task.pause_s)
        task.pause_s = min(2 * task.pause_s, LONGEST_PAUSE_S)

    def _finish(self, task: Task[I, R], outcome: R) -> None:
        with self._finished:
            task.outcome = outcome
            self._finished.notify()

    def _end(self, error: BaseException) -> None:
        with self._finished:
            self._crash = self._crash or error
            self._finished.notify()
