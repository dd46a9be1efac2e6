"""How numbers stand in tables, on a terminal and as plain text."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from srec.evaluation.metrics import Interval

WIDTH = 100  # columns of the plain text, wherever it is printed
HEADS = {"ndcg": "NDCG", "recall": "Recall", "mrr": "MRR", "auc": "AUC", "pooled_auc": "pooled AUC"}


@dataclass(frozen=True, slots=True, repr=False)
class Shown:
    """A part of a report: prints as text, also at the prompt; a rich console shows it in its own width."""

    content: RenderableType

    def __rich__(self) -> RenderableType:
        return self.content

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)


def table(first: str, *others: str | Text, title: str = "") -> Table:
    """An empty table whose first column is of names and all others of numbers; a head that others chose is a Text."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, title=title or None, title_justify="left")
    made.add_column(first)
    for other in others:
        made.add_column(other, justify="right")
    return made


def plain(shown: RenderableType) -> str:
    """What a terminal without colours shows, without the spaces at the ends of lines."""
    file = io.StringIO()
    Console(file=file, width=WIDTH, color_system=None, force_terminal=False).print(shown)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def head(metric: str) -> str:
    """A metric as a reader knows it: `NDCG@10`."""
    name, at, k = metric.partition("@")
    return HEADS.get(name, name) + at + k


def cell(interval: Interval) -> Text:
    """A value, and below it its interval."""
    return Text(f"{number(interval.value)}\n[{number(interval.low)} {number(interval.high)}]")


def number(value: float) -> str:
    """Three decimals without the leading zero; a dash for what is no number."""
    if math.isnan(value):
        return "-"
    text = f"{value:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
