"""What a program costs: each stage, one recommendation, and a catalogue and a user base of any size.

Unit costs are measured on what was computed anew: the description of an item, the summaries, the profile
and the reasoning of a user, the score of a candidate. What came from a store tells nothing of a cost and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from srec.errors import InputError
from srec.evaluation.tables import plain, table

if TYPE_CHECKING:
    from srec.evaluation.report import RankerReport
    from srec.lm.usage import StageUsage

UNITS = {"fusion": "item", "preference": "user", "profiling": "user", "reasoning": "user", "scoring": "candidate"}
HEADS = ("LM calls", "tokens in", "tokens out", "seconds")
COUNTS = ("lm_calls", "prompt_tokens", "output_tokens", "seconds", "cache_hits", "failures")
MILLION = 1_000_000
HOUR_S = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """LM calls, tokens, and seconds; a sum, or of one unit."""

    lm_calls: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})

    def __mul__(self, times: float) -> Cost:
        return Cost(**{one.name: getattr(self, one.name) * times for one in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCost:
    """What one result of a stage took, measured on `n` that were computed anew; `of` is what a result is for."""

    of: str
    n: int
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Projection:
    """What a ranker would take for `items` items, and once for each of `users` users with `candidates` candidates.

    `seconds` are those of the machine that measured, with as many workers; LM calls and tokens are of any. Each item is
    described once, whoever is served. `price` is that of a million tokens, in and out, and `money` what all would cost.
    Users are taken to have histories, and items texts, as long as those that were measured.
    """

    ranker: str
    items: int
    users: int
    candidates: int
    units: Mapping[str, UnitCost]
    stages: Mapping[str, Cost]
    price: tuple[float, float] | None = None

    @property
    def total(self) -> Cost:
        """All stages."""
        return sum(self.stages.values(), Cost())

    @property
    def money(self) -> float | None:
        """What the tokens cost at `price`, in its currency."""
        return None if self.price is None else _money(self.total, self.price)

    def to_dict(self) -> dict[str, object]:
        """The projection with its sum, for JSON."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        return told | {"total": self.total, "money": self.money}

    def __rich__(self) -> Group:
        sizes = f"{self.items:,} items, {self.users:,} users with {self.candidates:,} candidates each"
        money = ("money",) if self.price else ()
        shown = table("stage", "measured on", *HEADS[:3], "hours", *money)
        for name, cost in (*self.stages.items(), ("all", self.total)):
            unit = self.units.get(name)
            shown.add_row(name, f"{unit.n:,} x {unit.of}" if unit else "", *self._cells(cost))
        return Group(Text(f"{self.ranker}, projected: {sizes}"), shown)

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)

    def _cells(self, cost: Cost) -> Iterator[str]:
        yield from (f"{round(value):,}" for value in (cost.lm_calls, cost.prompt_tokens, cost.output_tokens))
        yield f"{cost.seconds / HOUR_S:,.1f}"
        if self.price:
            yield f"{_money(cost, self.price):,.2f}"


def projected(
    name: str,
    row: RankerReport,
    *,
    items: int,
    users: int,
    candidates: int,
    price: tuple[float, float] | None = None,
) -> Projection:
    """Unit costs times what is wanted of each stage.

    Raises:
        InputError: a size is negative, the ranker has no stages, or nothing of a stage was computed in this run.
    """
    if min(items, users, candidates) < 0:
        raise InputError(f"{items:,} items, {users:,} users, {candidates:,} candidates: give sizes from 0 on")
    if not row.stages:
        raise InputError(f"ranker {name!r} has no stages whose cost was counted; name a program")
    units = unit_costs(row)
    if missing := [stage for stage in row.stages if stage not in units]:
        raise InputError(
            f"ranker {name!r} had a part of all {', '.join(missing)} from the store, so what one costs was not "
            "measured; evaluate with a new store, and an ablated program on its own"
        )
    wanted = {"item": items, "user": users, "candidate": users * candidates}
    stages = {stage: unit.cost * wanted[unit.of] for stage, unit in units.items()}
    return Projection(
        ranker=name, items=items, users=users, candidates=candidates, units=units, stages=stages, price=price
    )


def unit_costs(row: RankerReport) -> dict[str, UnitCost]:
    """What one result of each stage took, of the stages that computed any."""
    at_once = _at_once(row)
    found = {}
    for stage, usage in row.stages.items():
        if fresh := usage.fresh.units:
            alone_s = usage.fresh.alone_s
            whole = Cost(
                lm_calls=usage.fresh.lm_calls,
                prompt_tokens=usage.fresh.prompt_tokens,
                output_tokens=usage.fresh.output_tokens,
                seconds=alone_s + (usage.fresh.seconds - alone_s) / at_once,
            )
            found[stage] = UnitCost(of=UNITS.get(stage, "user"), n=fresh, cost=whole * (1 / fresh))
    return found


def _at_once(row: RankerReport) -> float:
    """How many users were waited for at once on average, in the time in which they were; never below one."""
    alone_s = sum(usage.alone_s for usage in row.stages.values())
    waited = sum(usage.seconds for usage in row.stages.values()) - alone_s
    took = row.seconds - alone_s
    return max(1.0, waited / took) if took > 0 else 1.0


def costs_table(rankers: Mapping[str, RankerReport], *, n: int) -> Table:
    """Every stage of the programs, what fitting took of them, and a recommendation after it.

    Results from the store are included at no cost.
    """
    shown = table(
        "stage",
        *HEADS,
        "from store",
        "failed",
        title="What the stages took; seconds add up users at once, those of a recommendation are wall time",
    )
    for name, row in rankers.items():
        for stage, usage in row.stages.items():
            shown.add_row(Text(f"{name}, {stage}"), *_cells(usage))
        if row.stages:
            fitting = [getattr(row.fitting, one) for one in COUNTS]
            if any(fitting):
                shown.add_row(Text(f"{name}, of these to fit it"), *(f"{value:,.0f}" for value in fitting))
            each = (getattr(row, one) - part for one, part in zip(COUNTS, fitting, strict=True))
            shown.add_row(Text(f"{name}, a recommendation"), *(f"{value / n:,.1f}" for value in each))
    return shown


def _cells(usage: StageUsage) -> Iterator[str]:
    counts = (usage.lm_calls, usage.prompt_tokens, usage.output_tokens)
    yield from (f"{count:,}" for count in counts)
    yield f"{usage.seconds:,.1f}"
    yield from (f"{count:,}" for count in (usage.cache_hits, usage.failures))


def _money(cost: Cost, price: tuple[float, float]) -> float:
    return (cost.prompt_tokens * price[0] + cost.output_tokens * price[1]) / MILLION
