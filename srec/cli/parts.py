"""What is printed of a report below its table, where it is asked for, and which options go together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.text import Text

from srec import show
from srec.cli import named
from srec.errors import InputError
from srec.place import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import typer

    from srec.evaluation.report import Report


def of_cases(report: Report, *, compared: bool, sliced: bool, by: list[str] | None) -> Iterator[Any]:
    """The report, and what is asked for of its cases."""
    yield report
    if compared:
        yield report.comparisons()
    if sliced:
        yield report.slices(by)


def refuse(context: typer.Context, which: Callable[[str], bool], *, why: str) -> None:
    """Raise InputError, which names the options, where one was typed whose parameter's name `which` holds for."""
    given = [one for one in context.command.params if one.name and named.is_typed(context, one.name)]
    typed = [one.opts[0] for one in given if which(one.name or "")]
    if typed:
        raise InputError(f"{why}; leave out {', '.join(typed)}")


def need(option: str, told: object, *, beside: str, given: object) -> None:
    """Raise InputError where an option was told, and not the one without which it says nothing."""
    if told is not None and given is None:
        raise InputError(f"{option} says nothing without {beside}; give that too, or leave {option} out")


def check_outputs(files: Mapping[str, str | Path | None], *, out: Path | None, write_runs: Path | None) -> None:
    """Raise InputError where two options would write one file; `files` are those that options name.

    `--out` writes a run into its folder, `--write-runs` TREC runs.
    """
    from srec.evaluation.run_folder import FILES, RUN

    at = {option: place(file).resolve() for option, file in files.items() if file not in (None, show.TO_STDOUT)}
    for option, path in at.items():
        by = [other for other in at if other != option and at[other] == path]
        by += ["--out"] * (out is not None and path.parent == place(out).resolve() and path.name in (RUN, *FILES))
        trec = path.suffix == ".run" or path.name == "qrels.txt"
        by += ["--write-runs"] * (write_runs is not None and path.parent == place(write_runs).resolve() and trec)
        if by:
            raise InputError(f"{option} and {by[0]} would both write {path}; give {option} another file")


def projections(report: Report, sizes: Sequence[int] | None, *, price: tuple[float, float] | None) -> Iterator[Any]:
    """What each program would take for so many items, users and candidates, or why that is not known."""
    if sizes is None:
        return
    wanted = dict(zip(("items", "users", "candidates"), sizes, strict=False))
    for name, row in report.rankers.items():
        if row.stages:
            try:
                yield report.projected(name, price=price, **wanted)
            except InputError as error:
                yield Text(str(error))


def told_of(projected: Iterable[Any]) -> dict[str, Any]:
    """Projections as plain values, by ranker; a sentence that stands for one is left out."""
    from srec.evaluation.report import jsonable

    return {one.ranker: jsonable(one) for one in projected if not isinstance(one, Text)}


def numbers(
    given: str | None, option: str, between: str, kind: Callable[[str], float], *, counts: Sequence[int] = (2,)
) -> tuple[Any, ...] | None:
    """The numbers of an argument, as many as one of `counts`, each from 0 on."""
    if given is None:
        return None
    try:
        found = tuple(map(kind, given.split(between)))
    except ValueError:
        found = ()
    if len(found) not in counts or not all(0 <= one < math.inf for one in found):
        many = " or ".join(map(str, counts))
        raise InputError(f"{option} {given!r} is not {many} numbers from 0 on with {between!r} between them")
    return found
