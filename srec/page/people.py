"""One case as the page tells it: what the user did, how the taste moved, what was recommended, where targets came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srec.evaluation.run_folder import KeptCase, Made, RunFolder, SeenItem
from srec.page.wording import gap

EVENTS = 24  # the last of a history
FIRST = 6  # of a plain ranker
TASTES = 20  # rows of the table of tastes
MOVES = ("rising", "stable", "fading")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event on the timeline, and how long after the one before it came."""

    item: SeenItem
    at: int
    rating: float | None
    later: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """What each summary, oldest first, says of one taste: rising, stable, fading, or nothing."""

    name: str
    moves: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a ranker put the targets among its candidates, best first (None: nowhere), and what it put first."""

    ranker: str
    ranks: tuple[float | None, ...]
    candidates: int
    first: tuple[SeenItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Everything that the page tells of one case. `by` is how the ranker in question did.

    `is_dated` says that the case's second is the target's; else targets came at some time from then on.
    """

    case: KeptCase
    is_dated: bool
    targets: tuple[SeenItem, ...]
    by: Standing
    steps: tuple[Step, ...]
    made: Mapping[str, Made]
    tastes: Mapping[str, tuple[Taste, ...]]
    standings: tuple[Standing, ...]


def person(run: RunFolder, place: int, *, by: str) -> Person:
    """The case at `place`, as it was ranked by all."""
    case = run.cases[place]
    standings = {name: _standing(run, name, row["cases"][place]) for name, row in run.report["rankers"].items()}
    return Person(
        case=case,
        is_dated=(run.report["protocol"], run.report["task"]) == ("leave-last-out", "next"),
        targets=tuple(item(run, item_id) for item_id in case.target_ids),
        by=standings[by],
        steps=tuple(_steps(run, case)),
        made=case.made,
        tastes={name: tastes(made) for name, made in case.made.items()},
        standings=tuple(standings.values()),
    )


def item(run: RunFolder, item_id: str) -> SeenItem:
    """An item of the run, by its id alone where the run does not show it."""
    return run.items.get(item_id) or SeenItem(item_id=item_id, title="")


def tastes(made: Made) -> tuple[Taste, ...]:
    """The tastes that the summaries name, those of the last one first; spelled as they were first."""
    spelled: dict[str, str] = {}
    for summary in reversed(made.summaries):
        for move in MOVES:
            for name in getattr(summary, move):
                spelled.setdefault(name.casefold(), name)
    moves = [{name.casefold(): move for move in MOVES for name in getattr(one, move)} for one in made.summaries]
    rows = (Taste(name=name, moves=tuple(one.get(key, "") for one in moves)) for key, name in spelled.items())
    return tuple(rows)[:TASTES]


def _steps(run: RunFolder, case: KeptCase) -> Iterator[Step]:
    shown = case.events[-EVENTS:]
    for before, event in zip((None, *shown), shown, strict=False):
        yield Step(
            item=item(run, event.item_id),
            at=event.at,
            rating=event.rating,
            later=gap(event.at - before.at) if before else "",
        )


def _standing(run: RunFolder, name: str, ranked: Mapping[str, Any]) -> Standing:
    first: Sequence[str] = ranked["item_ids"][:FIRST]
    return Standing(
        ranker=name,
        ranks=tuple(sorted(ranked["ranks"], key=lambda rank: (rank is None, rank))),
        candidates=ranked["candidates"],
        first=tuple(item(run, item_id) for item_id in first),
    )
