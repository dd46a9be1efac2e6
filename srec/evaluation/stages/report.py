"""All figures of all stages, as a table and as JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from srec.evaluation.stages.figure import Figure, Figures

WIDTH = 100  # columns of the plain text
NOTES = (
    "95 % interval of a share: Wilson's, all answers about one item or user being one observation.",
    "95 % interval of any other figure: bootstrap over users.",
    "Less is better where the ceiling is 0, and for events later.",
    "Chance of an answer: a guess among the values. Of contradictions: as many claims doubted at random.",
    "Chance of what is invented, leaked, named or noticed: the same text held against other items or users.",
    "Ceiling of a ranking: the known probabilities on the same cases, without what the control takes away.",
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StageReport:
    """Every stage beside the truth of a toy shop of `n` items, on one case for each of `cases` users.

    `vqa` are answers chosen among the values and `vqa_open` answers in free text, both to wordings kept from training;
    `vqa_held_out` are those of `vqa` whose combination of category, colour and pattern was kept from it, too.
    `controls` has figures by what was taken away. `failed` counts calls and candidates without a result by step, each
    with a first reason in `reasons`; what failed counts as wrong. Prints as text; a rich console shows the same table.
    """

    data: str
    model: str
    seed: int
    n: int
    cases: int
    vqa: Figures
    vqa_open: Figures
    vqa_held_out: Figures
    fusion: Figures
    preference: Figures
    profile: Figures
    scores: Figures
    controls: Mapping[str, Figures]
    ceilings: Figures
    failed: Mapping[str, int]
    reasons: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; what is no number is None."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def sections(self) -> Iterator[tuple[str, Figures]]:
        """Figures by the name of their section, in the order of the table."""
        for name in ("vqa", "vqa_open", "vqa_held_out", "fusion", "preference", "profile", "scores"):
            yield name.replace("_", " "), getattr(self, name)
        for name, figures in self.controls.items():
            yield f"control: {name.replace('_', ' ')}", figures
        yield "ceilings", self.ceilings

    def __rich__(self) -> Group:
        title = f"{self.data}: {self.n:,} items, {self.cases:,} cases, seed {self.seed}, {self.model}"
        notes = [*NOTES, *(f"Failed, {step}: {count:,}, {self.reasons[step]}" for step, count in self.failed.items())]
        return Group(Text(title), self._table(), *(Text(f"- {note}") for note in notes))

    def __str__(self) -> str:
        file = io.StringIO()
        Console(file=file, width=WIDTH, color_system=None, force_terminal=False).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def __repr__(self) -> str:
        return str(self)

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for head in ("", "value", "95 % interval", "chance", "ceiling", "n"):
            table.add_column(head, justify="right" if head else "left")
        for name, figures in self.sections():
            table.add_row(Text(name, style="bold"))
            for figure_name, figure in figures.items():
                table.add_row(Text(f"  {figure_name.replace('_', ' ')}"), *_cells(figure))
        return table


def _cells(figure: Figure) -> Iterator[Text]:
    yield Text(_number(figure.value))
    yield Text(f"[{_number(figure.low)} {_number(figure.high)}]")
    yield Text(_number(figure.chance))
    yield Text(_number(figure.ceiling))
    yield Text(f"{figure.n:,}")


def _number(value: float) -> str:
    """Three decimals; a dash for what is no number."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return {key: _without_nan(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
