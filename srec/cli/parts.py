"""What is printed of a report below its table, where it is asked for, and which options go together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.text import Text

from srec.cli import named
from srec.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    import typer

    from srec.evaluation.report import Report


def of_cases(report: Report, *, compare: str | None, sliced: bool, by: list[str] | None) -> Iterator[Any]:
    """The report, and what is asked for of its cases."""
    yield report
    if compare is not None:
        yield report.comparisons(compare)
    if sliced:
        yield report.slices(by, metric=compare)


def check_metric(metric: str | None) -> None:
    """Raise InputError for a metric that no report has for each case, before anybody ranks."""
    from srec.evaluation.run import KS

    known = [f"{name}@{k}" for k in KS for name in ("ndcg", "recall", "mrr")] + ["auc"]
    if metric is not None and metric not in known:
        raise InputError(f"metric {metric!r} has no value per case; give one of {', '.join(known)}")


def refuse(context: typer.Context, *, but: Container[str], why: str) -> None:
    """Raise InputError, which names the options, for all that was typed but for parameters of the names in `but`."""
    given = [one for one in context.command.params if one.name and named.is_typed(context, one.name)]
    typed = [one.opts[0] for one in given if one.name not in but]
    if typed:
        raise InputError(f"{why}; leave out {', '.join(typed)}")


def need(option: str, told: object, *, beside: str, given: object) -> None:
    """Raise InputError where an option was told, and not the one without which it says nothing."""
    if told is not None and given is None:
        raise InputError(f"{option} says nothing without {beside}; give that too, or leave {option} out")


def check_probed_metric(metric: str) -> None:
    """Raise InputError for a metric that no probe can be measured by, before cases are made and a model is loaded."""
    from srec.evaluation.probing import METRIC

    if METRIC.fullmatch(metric) is None:
        raise InputError(f"metric {metric!r} has no value per case; give auc, ndcg@10, recall@10 or mrr@10")


def projections(report: Report, sizes: tuple[int, int] | None, *, price: tuple[float, float] | None) -> Iterator[Any]:
    """What each program would take for so many items and users, or why that is not known; nothing without `sizes`."""
    for name, row in report.rankers.items():
        if row.stages and sizes is not None:
            try:
                yield report.projected(name, items=sizes[0], users=sizes[1], price=price)
            except InputError as error:
                yield Text(str(error))


def pair(given: str | None, option: str, between: str, kind: Callable[[str], Any]) -> tuple[Any, Any] | None:
    """The two numbers of an argument, each from 0 on."""
    if given is None:
        return None
    try:
        first, second = map(kind, given.split(between))
    except ValueError:
        first = second = math.nan
    if not (0 <= first < math.inf and 0 <= second < math.inf):
        raise InputError(f"{option} {given!r} is not two numbers from 0 on with {between!r} between them")
    return first, second
