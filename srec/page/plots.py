"""Where marks stand in a plot; the templates draw them as SVG, whose colours follow the reader's scheme.

All plots are 312 or 360 units wide and meant to be shown about as wide in CSS pixels, so that their text stays readable
on a telephone. Numbers are written beside the plots in tables too: a plot is never the only place of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from srec.page.looks import Look
from srec.page.wording import interval, number, seconds

APART = 15  # of labels in a column
MOST_STEPS = 4  # of an axis, so that its numbers stand apart
WIDTH = 360
FOREST = 312
LABEL, RIGHT = 128, 14  # of a forest plot: width of the names, and of the margin
ROW, TOP, FOOT = 24, 8, 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A line of the grid at `at`, and what stands beside it."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A value with its interval: a point at (x, y), a line from `low` to `high`; `told` is said when asked."""

    look: Look
    x: float
    y: float
    low: float
    high: float
    told: str
    label_y: float = 0.0
    size: float = 4.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot in units of the SVG. `left`, `right`, `top` and `bottom` bound the area of the marks."""

    title: str
    told: str
    height: float
    left: float
    right: float
    top: float
    bottom: float
    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...] = ()
    chance: float | None = None
    width: float = WIDTH

    @property
    def path(self) -> str:
        """A line through the marks."""
        return " ".join(f"{'L' if n else 'M'}{mark.x:.1f} {mark.y:.1f}" for n, mark in enumerate(self.marks))


def forest(title: str, rows: Mapping[str, Any], *, chance: float | None, looks: Mapping[str, Look]) -> Plot:
    """One row a ranker of `looks`: a value in [0, 1] with its interval, and chance as a line through all rows."""
    known = {name: row for name, row in rows.items() if name in looks and row["value"] is not None}
    high = _round_up(max([row["high"] for row in known.values()] + [chance or 0.0, 0.1]))
    left, right, bottom = LABEL, FOREST - RIGHT, TOP + ROW * max(1, len(known))

    def x(value: float) -> float:
        return left + (right - left) * value / high

    marks = tuple(
        Mark(
            look=looks[name],
            x=x(row["value"]),
            y=TOP + ROW * (place + 0.5),
            low=x(row["low"]),
            high=x(row["high"]),
            told=f"{name}: {number(row['value'])} {interval(row)}, n = {row['n']:,}",
        )
        for place, (name, row) in enumerate(known.items())
    )
    by_chance = "" if chance is None else f" Chance is {number(chance)}, the dashed line."
    return Plot(
        title=title,
        told="Mean and 95 % interval. " + "; ".join(mark.told for mark in marks) + "." + by_chance,
        height=bottom + FOOT - 8,
        left=left,
        right=right,
        top=TOP,
        bottom=bottom,
        marks=marks,
        x_ticks=tuple(Tick(at=x(high * step / 4), text=_tick(high * step / 4)) for step in range(5)),
        chance=x(chance) if chance is not None else None,
        width=FOREST,
    )


def reliability(name: str, calibration: Mapping[str, Any], *, look: Look) -> Plot:
    """Mean score of each bin against the share of targets in it; a point's area tells how many scores it holds."""
    left, right, top, bottom = 44, WIDTH - 16, 10, 10 + 300
    bins = [one for one in calibration["bins"] if one["n"]]
    most = max(one["n"] for one in bins)

    def x(value: float) -> float:
        return left + (right - left) * value

    def y(value: float) -> float:
        return bottom - (bottom - top) * value

    marks = tuple(
        Mark(
            look=look,
            x=x(one["score"]),
            y=y(one["share"]),
            low=0,
            high=0,
            told=f"scores from {one['low']:.1f} to {one['high']:.1f}: mean {number(one['score'])}, share of targets "
            f"{number(one['share'])}, n = {one['n']:,}",
            size=3 + 9 * math.sqrt(one["n"] / most),
        )
        for one in bins
    )
    steps = [step / 4 for step in range(5)]
    return Plot(
        title=f"Calibration of {name}",
        told="Calibrated scores lie on the dashed diagonal. " + "; ".join(mark.told for mark in marks) + ".",
        height=bottom + FOOT + 6,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        marks=marks,
        x_ticks=tuple(Tick(at=x(step), text=_tick(step)) for step in steps),
        y_ticks=tuple(Tick(at=y(step), text=_tick(step)) for step in steps),
    )


def costs(
    metric: str, rankers: Mapping[str, Any], *, n: int, chance: float | None, looks: Mapping[str, Look]
) -> Plot | None:
    """Quality against seconds a case, on a scale of powers of ten; None where nobody took any time."""
    known = {name: row for name, row in rankers.items() if row["metrics"][metric]["value"] is not None}
    least = [row["seconds"] / n for row in known.values() if row["seconds"] > 0]
    if not least:
        return None
    first, last = math.floor(math.log10(min(least))), math.ceil(math.log10(max(least)) + 1e-9)
    last = max(last, first + 1)
    left, right, top = 40, WIDTH - 146, 10
    bottom = top + max(230, APART * len(known))
    high = _round_up(max([row["metrics"][metric]["high"] for row in known.values()] + [chance or 0.0]))

    def x(value: float) -> float:
        return left + (right - left) * (math.log10(max(value, 10**first)) - first) / (last - first)

    def y(value: float) -> float:
        return bottom - (bottom - top) * value / high

    marks = [
        Mark(
            look=looks[name],
            x=x(row["seconds"] / n),
            y=y(row["metrics"][metric]["value"]),
            low=y(row["metrics"][metric]["low"]),
            high=y(row["metrics"][metric]["high"]),
            told=f"{name}: {number(row['metrics'][metric]['value'])} {interval(row['metrics'][metric])} at "
            f"{seconds(row['seconds'] / n)} seconds a case",
        )
        for name, row in known.items()
    ]
    decades = range(first, last + 1, math.ceil((last - first) / MOST_STEPS))
    return Plot(
        title="Quality against cost",
        told="; ".join(mark.told for mark in marks) + ".",
        height=bottom + FOOT + 6,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        marks=tuple(_labelled(marks, top=top, bottom=bottom)),
        x_ticks=tuple(Tick(at=x(10.0**power), text=_power(power)) for power in decades),
        y_ticks=tuple(Tick(at=y(high * step / 4), text=_tick(high * step / 4)) for step in range(5)),
        chance=y(chance) if chance is not None else None,
    )


def _labelled(marks: Sequence[Mark], *, top: float, bottom: float) -> Iterable[Mark]:
    """Marks with labels in a column beside the plot, each as near to its mark as the others allow."""
    lowest = top
    placed = []
    for mark in sorted(marks, key=lambda one: one.y):
        lowest = max(mark.y, lowest)
        placed.append(replace(mark, label_y=lowest))
        lowest += APART
    over = max(0.0, lowest - APART - bottom)
    for mark in placed:
        yield replace(mark, label_y=mark.label_y - over)


def _round_up(value: float) -> float:
    """The end of an axis from 0: the next of .1, .2, .4, .6, .8, 1."""
    return next((step for step in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if value <= step + 1e-9), value)


def _tick(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".").removeprefix("0") or "0"


def _power(power: int) -> str:
    return f"{10.0**power:g}" if power >= -3 else f"1e{power}"  # noqa: PLR2004
