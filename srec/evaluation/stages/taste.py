"""Are summaries and profiles true? What they name beside what the user likes, now and for good.

Chance is the same summary or profile held against other users: who names everything is always right, and no better
than chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from srec.data.shopper import Shopper
from srec.data.toy import FORMS
from srec.evaluation.stages.figure import Figure, by_strangers, mean, share
from srec.evaluation.stages.witness import Made
from srec.evaluation.stages.words import named
from srec.types import PreferenceSummary

MOVING = ("colour", "pattern")
LASTING = ("material", "price")

Shoppers = Mapping[str, Shopper]
Values = frozenset[str]


def preference(made: Sequence[Made], shoppers: Shoppers) -> dict[str, Figure]:
    """The current taste, and whether its changes were noticed."""
    return current(made, shoppers) | _noticed(made, shoppers)


def current(made: Sequence[Made], shoppers: Shoppers) -> dict[str, Figure]:
    """Share of users whose last summary names the favourite at its end, as present, stable or rising."""
    figures = {}
    for aspect in MOVING:
        said = [_present(one.summaries[-1], aspect) for one in made]
        favourites = [shoppers[one.user_id].taste.favourite(one.summaries[-1].until)[aspect] for one in made]
        figures[f"current_{aspect}"] = _named(said, favourites, users=[one.user_id for one in made])
    return figures


def profile(made: Sequence[Made], shoppers: Shoppers) -> dict[str, Figure]:
    """Share of users whose profile names what they like most for good, and share of passing favourites left out."""
    users = [one.user_id for one in made]
    texts = ["\n".join([one.profile.text, *one.profile.traits]) for one in made]
    figures = {}
    for aspect in LASTING:
        said = [named(text, aspect) for text in texts]
        figures[f"lasting_{aspect}"] = _named(said, [_first(shoppers[user], aspect) for user in users], users=users)
    for aspect in MOVING:
        said = [named(text, aspect) for text in texts]
        gone = [_passing(shoppers[one.user_id], one.times, aspect) for one in made]
        figures[f"passing_{aspect}_left_out"] = _left_out(said, gone, users=users)
    return figures


def _named(said: Sequence[Values], wanted: Sequence[str], *, users: Sequence[str]) -> Figure:
    hits = [value in values for values, value in zip(said, wanted, strict=True)]
    return share(hits, of=users, chance=by_strangers(lambda values, value: [value in values], said, wanted))


def _left_out(said: Sequence[Values], gone: Sequence[Values], *, users: Sequence[str]) -> Figure:
    """Share of the values in `gone` that are not in `said`."""
    hits = [
        (user, value not in values) for user, values, those in zip(users, said, gone, strict=True) for value in those
    ]
    return share(
        [hit for _, hit in hits],
        of=[user for user, _ in hits],
        chance=by_strangers(lambda values, those: [value not in values for value in those], said, gone),
    )


def _present(summary: PreferenceSummary, aspect: str) -> Values:
    """The values that a summary names as liked now; what it lists as fading is not."""
    return named("\n".join([summary.text, *summary.stable, *summary.rising]), aspect)


def _first(shopper: Shopper, aspect: str) -> str:
    """The value of an aspect that a shopper likes most for good."""
    return max(FORMS[aspect], key=lambda value: shopper.lasting.get(value, 0.0))


def _passing(shopper: Shopper, times: Sequence[int], aspect: str) -> Values:
    """Favourites at some of the times, but not at all of them."""
    favourites = frozenset(shopper.taste.favourite(at)[aspect] for at in times)
    return favourites if len(favourites) > 1 else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A favourite that another took the place of, while summaries were made.

    `before` is what the last summary before it names. `after` has, for each summary from then on until the next change,
    the number of events since and what it names.
    """

    user_id: str
    value: str
    before: Values
    after: tuple[tuple[int, Values], ...]

    def noticed(self, value: str) -> list[bool]:
        """Whether a summary names `value` for the first time; empty where it was named before."""
        return [] if value in self.before else [any(value in values for _, values in self.after)]

    def events(self, value: str) -> list[int]:
        """How many events it took to name `value`; empty where it was not noticed."""
        if value in self.before:
            return []
        return [events for events, values in self.after if value in values][:1]


def _noticed(made: Sequence[Made], shoppers: Shoppers) -> dict[str, Figure]:
    figures = {}
    for aspect in MOVING:
        changes = [change for one in made for change in _changes(one, shoppers[one.user_id], aspect)]
        values = [change.value for change in changes]
        hits = [(change.user_id, hit) for change in changes for hit in change.noticed(change.value)]
        waits = [(change.user_id, wait) for change in changes for wait in change.events(change.value)]
        soonest = [change.after[0][0] for change in changes if change.value not in change.before]
        figures[f"{aspect}_change_noticed"] = share(
            [hit for _, hit in hits],
            of=[user for user, _ in hits],
            chance=by_strangers(Change.noticed, changes, values),
        )
        figures[f"{aspect}_change_events_later"] = mean(
            [wait for _, wait in waits],
            of=[user for user, _ in waits],
            chance=by_strangers(Change.events, changes, values),
            ceiling=fmean(soonest) if soonest else math.nan,
        )
    return figures


def _changes(one: Made, shopper: Shopper, aspect: str) -> Iterator[Change]:
    """The changes of a favourite that at least one summary could notice."""
    favourite: Callable[[int], str] = lambda at: shopper.taste.favourite(at)[aspect]  # noqa: E731  a name for reading
    span = shopper.taste.changes(one.summaries[0].until, one.summaries[-1].until)
    moments = [at for at in span if favourite(at) != favourite(at - 1)]
    for at, following in pairwise([*moments, one.times[-1] + 1]):
        before = [summary for summary in one.summaries if summary.until < at]
        after = [summary for summary in one.summaries if at <= summary.until < following]
        if before and after:
            yield Change(
                user_id=one.user_id,
                value=favourite(at),
                before=_present(before[-1], aspect),
                after=tuple((sum(at <= time <= s.until for time in one.times), _present(s, aspect)) for s in after),
            )
