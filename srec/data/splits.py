"""Splits: what rankers may be fitted on, and whom to ask what.

Both protocols put a wall into the log of each user. Events before the wall are the history, those from the wall on are
what is asked for, and no ranker may be fitted on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from srec.data.candidates import Pool, Spec
from srec.data.folder import Dataset
from srec.data.interactions import Interactions
from srec.errors import InputError

Rows = NDArray[np.int64]  # positions in the columns of a log
QUANTILES = (0.7, 0.8, 0.9)  # of the event times: the cut-offs of global-time where none are given
UNLIKED = "nothing liked after"  # why a user has no case of `like`
PERIOD = 5  # `like` under leave-last-out asks for the last fifth of a user's events


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Cases that share what rankers may be fitted on, `train`; `specs` are those cases, by user id."""

    name: str
    train: Interactions = field(repr=False)
    specs: tuple[Spec, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.specs)


def cutoffs_of(data: Dataset, given: Sequence[int] | None) -> list[int]:
    """The cut-offs in order, each once: those given, or the second of the first event after each of `QUANTILES`."""
    at = np.sort(data.interactions.at)
    if given is None:
        return sorted({int(at[int(share * len(at))]) for share in QUANTILES})
    for cutoff in given:
        if not at[0] < cutoff <= at[-1]:
            raise InputError(
                f"cut-off {cutoff} has no event before it or none after it; {data.name!r} reaches from {at[0]} to "
                f"{at[-1]} (Unix seconds)"
            )
    if not given:
        raise InputError("no cut-off was given; give Unix seconds, or None for the default ones")
    return sorted({int(cutoff) for cutoff in given})


def leave_last_out(pool: Pool, *, threshold: float | None) -> tuple[tuple[Fold, ...], Counter[str]]:
    """One fold; the wall of a user stands at the second of the first event asked for."""
    log, tied = pool.log, pool.log.tied()
    train = np.ones(len(log), dtype=np.bool_)
    specs: list[Spec] = []
    skipped = Counter[str]()
    for user_id, start, stop in _users(log):
        asked = 1 if threshold is None else max(1, (stop - start) // PERIOD)
        at = int(log.at[stop - asked])
        wall = start + int(np.searchsorted(log.at[start:stop], at))
        train[wall:stop] = False
        rows = np.array([stop - 1]) if threshold is None else _liked(log, wall, stop, threshold=threshold)
        spec = Spec(user_id=user_id, at=at, start=start, wall=wall, until=stop, stop=stop, targets=(), tied=False)
        _add(specs, skipped, _aim(pool, spec, rows, tied=tied))
    return (Fold(name="leave-last-out", train=log.where(train), specs=tuple(specs)),), skipped


def global_time(
    pool: Pool, *, threshold: float | None, cutoffs: Sequence[int]
) -> tuple[tuple[Fold, ...], Counter[str]]:
    """One fold per cut-off, which is the wall of all users; it asks about the time to the next cut-off.

    So no event is asked for twice: a user who does nothing between two cut-offs has a case for the later one only.
    """
    log, tied = pool.log, pool.log.tied()
    folds, skipped = [], Counter[str]()
    for at, following in zip_longest(cutoffs, cutoffs[1:]):
        specs: list[Spec] = []
        for user_id, start, stop in _users(log):
            wall = start + int(np.searchsorted(log.at[start:stop], at))
            until = stop if following is None else start + int(np.searchsorted(log.at[start:stop], following))
            rows = _first(log, wall, until) if threshold is None else _liked(log, wall, until, threshold=threshold)
            spec = Spec(user_id=user_id, at=at, start=start, wall=wall, until=until, stop=stop, targets=(), tied=False)
            _add(specs, skipped, _aim(pool, spec, rows, tied=tied))
        folds.append(Fold(name=f"before {at}", train=log.before(at), specs=tuple(specs)))
    return tuple(folds), skipped


def _users(log: Interactions) -> Iterator[tuple[str, int, int]]:
    """Each user with events, and the rows of the log from start to stop that are theirs."""
    edges = np.searchsorted(log.user, np.arange(len(log.user_ids) + 1)).tolist()
    for user_id, start, stop in zip(log.user_ids, edges, edges[1:], strict=False):
        if start < stop:
            yield user_id, start, stop


def _first(log: Interactions, wall: int, stop: int) -> Rows:
    """The rows of the first second from the wall on."""
    if wall == stop:
        return np.arange(0)
    return np.arange(wall, wall + int(np.searchsorted(log.at[wall:stop], log.at[wall], side="right")))


def _liked(log: Interactions, wall: int, stop: int, *, threshold: float) -> Rows:
    """The rows from the wall on that are rated `threshold` or higher."""
    return wall + np.flatnonzero(log.rating[wall:stop] >= np.float32(threshold))


def _aim(pool: Pool, spec: Spec, rows: Rows, *, tied: NDArray[np.bool_]) -> Spec | str:
    """`spec` with the targets among the log's `rows`, or the reason why it has none."""
    if spec.stop - spec.start == 1:
        return "one event"
    if spec.wall == spec.start:
        return "no event before"
    if spec.wall == spec.until:
        return "no event after" if spec.wall == spec.stop else "no event before the next cut-off"
    if not len(rows):
        return UNLIKED
    new = rows[~np.isin(pool.log.item[rows], pool.seen(spec))]
    if not len(new):
        return "target seen before"
    targets = pool.by_id(np.unique(pool.log.item[new]))
    return replace(spec, targets=tuple(targets.tolist()), tied=bool(tied[new].any()))


def _add(specs: list[Spec], skipped: Counter[str], outcome: Spec | str) -> None:
    if isinstance(outcome, str):
        skipped[outcome] += 1
    else:
        specs.append(outcome)
