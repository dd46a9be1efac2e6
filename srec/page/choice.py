"""Which users a page tells of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from srec.data.candidates import stable_hash
from srec.errors import InputError

Choice = Literal["worst", "best", "random"]


def chosen(
    report: Mapping[str, Any], *, by: str, metric: str, users: int | Sequence[str], choice: Choice, seed: int
) -> list[int]:
    """Places of the cases of at most `users` users: those whom the ranker `by` serves worst or best, or any.

    Equal ones are drawn by `seed`, as is everybody for "random". A user with several cases counts by the first chosen,
    and brings all of them. `users` may be their ids as well, and `choice` decides nothing then. Raises InputError for
    an unknown choice, for a negative number and for a user without a case.
    """
    if choice not in get_args(Choice):
        raise InputError(f"choice {choice!r} is not known; give {', '.join(get_args(Choice))}")
    owners = [case["user_id"] for case in report["cases"]]
    if not isinstance(users, int):
        return _of(_known(users, owners), owners)
    if users < 0:
        raise InputError(f"users={users} is no number of users; give 0 or more")
    reached = [_value(case["metrics"].get(metric)) for case in report["rankers"][by]["cases"]]
    sign = {"worst": 1, "best": -1, "random": 0}[choice]
    order = sorted(
        range(len(owners)), key=lambda place: (sign * reached[place], stable_hash("page", seed, owners[place]), place)
    )
    wanted = list(dict.fromkeys(owners[place] for place in order))[:users]
    return _of(wanted, owners)


def _known(wanted: Sequence[str], owners: Sequence[str]) -> list[str]:
    """Ids, each once, of users that have a case."""
    if isinstance(wanted, str):
        raise InputError(f"users={wanted!r} is one text; give a list of ids, or a number")
    strange = next((user_id for user_id in wanted if user_id not in owners), None)
    if strange is not None:
        raise InputError(
            f"user {strange!r} has no case in the run; it has those of {', '.join(sorted(set(owners))[:3])} …"
        )
    return list(dict.fromkeys(wanted))


def _of(wanted: Sequence[str], owners: Sequence[str]) -> list[int]:
    places: dict[str, list[int]] = {user_id: [] for user_id in wanted}
    for place, user_id in enumerate(owners):
        if user_id in places:
            places[user_id].append(place)
    return [place for user_id in wanted for place in places[user_id]]


def _value(metric: float | None) -> float:
    """What is no number is as bad as can be."""
    return 0.0 if metric is None or math.isnan(metric) else metric
