"""Metrics on parts of the cases: what is easy, what is hard, and for whom a ranker is no good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from srec.errors import InputError
from srec.evaluation.facts import CaseFacts
from srec.evaluation.metrics import Interval, bootstrap_table
from srec.evaluation.tables import cell, head, plain, table

if TYPE_CHECKING:
    from srec.evaluation.ranked import Ranked

Slicing = Callable[[CaseFacts], str]
"""The name of the slice that a case is in; an empty one for none."""

COLD = 5  # training events below which an item is cold
SHORT, LONG = 10, 50  # events of a history
MINUTE_S, DAY_S = 60, 86_400


def by_item(case: CaseFacts) -> str:
    """Is the target new, hardly known, in the tail, or among the most popular fifth of the items?"""
    if not case.events:
        return "target without training events"
    if case.events < COLD:
        return f"target with fewer than {COLD}"
    return "target in the head" if case.head else "target in the tail"


def by_history(case: CaseFacts) -> str:
    """How much is known of the user?"""
    if case.history <= SHORT:
        return f"history of at most {SHORT}"
    return f"history of at most {LONG}" if case.history <= LONG else f"history of more than {LONG}"


def by_image(case: CaseFacts) -> str:
    """Has the target a picture?"""
    if case.with_image in (0, 1):
        return "target with image" if case.with_image else "target without image"
    return "some targets with image"


def by_tie(case: CaseFacts) -> str:
    """Does the target share its second with another event of the user?"""
    return "target tied in time" if case.tied else "target not tied"


def by_gap(case: CaseFacts) -> str:
    """How long after the last event came the target?"""
    if case.gap_s <= MINUTE_S:
        return "gap of at most a minute"
    return "gap of at most a day" if case.gap_s <= DAY_S else "gap of more than a day"


SLICINGS: Mapping[str, Slicing] = MappingProxyType(
    {"item": by_item, "history": by_history, "image": by_image, "tie": by_tie, "gap": by_gap}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The `n` cases of one slice, and every ranker's metric on them."""

    by: str
    name: str
    n: int
    rankers: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Slices:
    """One metric on every slice; a slicing that does not tell the cases apart has no slice and is one of `alike`."""

    metric: str
    slices: tuple[Slice, ...]
    alike: tuple[str, ...] = ()

    def __rich__(self) -> Group:
        same = [Text(f"All cases are alike by {', '.join(self.alike)}.")] if self.alike else []
        return Group(*(_table(self.metric, by, rows) for by, rows in _grouped(self.slices)), *same)

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def sliced(
    facts: Sequence[CaseFacts],
    rankers: Mapping[str, Sequence[Ranked]],
    *,
    by: Mapping[str, Slicing],
    metric: str,
    seed: int = 0,
) -> Slices:
    """`metric` of every ranker on the slices that `by` makes of the cases, in the order of their names."""
    found: list[Slice] = []
    for name, slicing in by.items():
        parts: dict[str, list[int]] = {}
        for place, case in enumerate(facts):
            if part := slicing(case):
                parts.setdefault(part, []).append(place)
        if len(parts) > 1 or (len(parts) == 1 and len(*parts.values()) < len(facts)):
            found += [
                Slice(
                    by=name,
                    name=part,
                    n=len(places),
                    rankers=_intervals(facts, rankers, places, metric=metric, seed=seed),
                )
                for part, places in sorted(parts.items())
            ]
    apart = {one.by for one in found}
    return Slices(metric=metric, slices=tuple(found), alike=tuple(name for name in by if name not in apart))


def named_slicings(given: Mapping[str, Slicing] | Iterable[str] | None) -> Mapping[str, Slicing]:
    """The slicings that are meant: those of a mapping, those of these names, or all that have one."""
    if given is None:
        return SLICINGS
    if isinstance(given, Mapping):
        return given
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in SLICINGS:
            raise InputError(
                f"slicing {name!r} is not known; give {', '.join(SLICINGS)}, or a mapping from names to functions of "
                "the facts of a case"
            )
    return {name: SLICINGS[name] for name in names}


def _intervals(
    facts: Sequence[CaseFacts],
    rankers: Mapping[str, Sequence[Ranked]],
    places: Sequence[int],
    *,
    metric: str,
    seed: int,
) -> dict[str, Interval]:
    columns = {name: [rows[place].metrics[metric] for place in places] for name, rows in rankers.items()}
    return bootstrap_table(columns, groups=[facts[place].user_id for place in places], seed=seed)


def _grouped(slices: Iterable[Slice]) -> Iterable[tuple[str, list[Slice]]]:
    groups: dict[str, list[Slice]] = {}
    for one in slices:
        groups.setdefault(one.by, []).append(one)
    return groups.items()


def _table(metric: str, by: str, rows: Sequence[Slice]) -> Table:
    shown = table(f"by {by}", "n", *map(Text, rows[0].rankers), title=f"{head(metric)} on slices")
    for row in rows:
        shown.add_row(Text(row.name), f"{row.n:,}", *(cell(interval) for interval in row.rankers.values()))
    return shown
