"""What a verb leaves: lines, one JSON object, an exit code, and no record of prompts."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from srec import show
from srec.exits import FAILED, notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srec.data.folder import Dataset
    from srec.evaluation.report import Report


def tell_rejected(data: Dataset) -> None:
    """What of the dataset was rejected so far, one line for each class."""
    for line in data.report.causes():
        notice(line)


def print_report(report: Any, out: Any) -> None:
    """A report, or a part of one, on a terminal; text of one width where nobody looks at one."""
    from srec.evaluation.tables import plain

    out.print(report if out.is_terminal else plain(report), markup=False)


def unscored(report: Report) -> int:
    """How many candidates the program left without a score."""
    return report.rankers["program"].unscored if "program" in report.rankers else 0


def write_object(values: dict[str, Any], json_to: str | None) -> None:
    """One JSON object in the file that `--json` names, if it names one."""
    show.write_json(json.dumps(values, indent=2, ensure_ascii=False), json_to)


def end(failures: int, sentence: str = "") -> None:
    """Exit with code 1 if anything failed."""
    if failures:
        if sentence:
            notice(sentence)
        raise typer.Exit(FAILED)


@contextmanager
def quietly() -> Iterator[None]:
    """DSPy without its record of every prompt, which would grow without bound."""
    import dspy

    with dspy.context(disable_history=True, trace=None):
        yield
