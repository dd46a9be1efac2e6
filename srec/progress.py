"""A bar on the terminal for long work: rate, what came from the store, failures, time left."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Tick(Protocol):
    """Moves a bar."""

    def __call__(self, *, finished: int, cached: int = 0, failed: int = 0, rate: float = 0.0) -> None:
        """Show totals so far; `rate` is per second and leaves out what came from the store."""


@contextmanager
def bar(label: str, *, total: int | None = None, show: bool | None = None) -> Iterator[Tick]:
    """A bar on standard error in a `with` block; `total` is None where the length of the work is not known.

    With `show=None` it appears only on a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield _silent
        return

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, counts="")

        def tick(*, finished: int, cached: int = 0, failed: int = 0, rate: float = 0.0) -> None:
            progress.update(
                task, completed=finished, counts=f"{rate:.1f}/s · {cached} from the store · {failed} failed"
            )

        yield tick


class _Heard(ProgressColumn):
    """What a callable says, asked anew at every refresh."""

    def __init__(self, ask: Callable[[], str]) -> None:
        super().__init__()
        self._ask = ask

    def render(self, task: Task) -> Text:  # noqa: ARG002  the library's contract
        return Text(self._ask())


@contextmanager
def waiting(
    label: str, *, show: bool | None = None, news: Callable[[], str] | None = None
) -> Iterator[Callable[[str], None]]:
    """A sign of life on standard error, with the time that passed, and the latest news beside it.

    What it yields tells these; or `news` is asked for them. With `show=None` it appears only on a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda _: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[news]}", markup=False) if news is None else _Heard(news),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None, news="")
        yield lambda told: progress.update(task, news=told)


def _silent(*, finished: int, cached: int = 0, failed: int = 0, rate: float = 0.0) -> None:
    """No bar."""
