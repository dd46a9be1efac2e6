"""Evaluation cases: what is asked of a user at a second, from what was known before it.

Time is a wall. The history of a case ends before its second `at`, and `Fold.train`, all that a ranker may be fitted
on, holds nothing that its users did at or after theirs.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np

from srec.data import candidate_file
from srec.data.candidate_file import Header, Line
from srec.data.candidates import (
    Codes,
    Pool,
    Retriever,
    Rule,
    Spec,
    check_enough,
    drawn,
    even_weights,
    full,
    popularity_weights,
    rated,
    retrieved,
    stable_hash,
)
from srec.data.folder import Dataset
from srec.data.retrievers import Fittable, retriever_named
from srec.data.splits import UNLIKED, Fold, cutoffs_of, global_time, leave_last_out
from srec.errors import InputError
from srec.types import Case, Item

Chooser = Callable[[Spec], Codes]
File = tuple[Header, dict[str, Codes]]
PROTOCOLS = ("leave-last-out", "global-time")


class LeakWarning(UserWarning):
    """Rankers may be fitted on events of other users that are later than the case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSet:
    """Cases in the order of folds and user ids, each built when it is asked for.

    `candidates` is the rule by which they were chosen, also where they were read from a file. `skipped` counts users
    without a case by reason (under global-time once for each cut-off), over all users whatever `users` asked for.
    """

    data: Dataset = field(repr=False)
    folds: tuple[Fold, ...]
    task: str
    protocol: str
    candidates: str
    seed: int
    users: int | None
    skipped: Mapping[str, int]
    pool: Pool = field(repr=False)
    choosers: Mapping[str, Chooser] = field(repr=False)  # by the name of the fold

    def __len__(self) -> int:
        return sum(len(fold) for fold in self.folds)

    def __iter__(self) -> Iterator[Case]:
        for fold in self.folds:
            yield from self.of(fold)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        """One case, or those of a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        for fold in self.folds:
            if 0 <= position < len(fold):
                return self._case(fold, fold.specs[position])
            position -= len(fold)
        raise IndexError(f"case {index} asked for, there are {len(self)}")

    def of(self, fold: Fold) -> Iterator[Case]:
        """The cases of one fold, in the order of the user ids."""
        return (self._case(fold, spec) for spec in fold.specs)

    def without(self, user_ids: Collection[str]) -> CaseSet:
        """The cases of all other users; raises InputError where none is left."""
        folds = tuple(
            replace(fold, specs=tuple(spec for spec in fold.specs if spec.user_id not in user_ids))
            for fold in self.folds
        )
        if not any(len(fold) for fold in folds):
            raise InputError(f"all {len(self)} cases are of users to be left out; ask for more users")
        return replace(self, folds=folds)

    @property
    def items(self) -> Mapping[str, Item]:
        """The whole catalogue."""
        return self.data.items

    @property
    def tied(self) -> int:
        """How many cases have a target that shares its second with another event of the user."""
        return sum(spec.tied for fold in self.folds for spec in fold.specs)

    def asked(self) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Case id, candidates and targets of each case by their ids, without opening an item."""
        return ((line.case_id, line.candidates, line.targets) for line in self._lines())

    def write(self, path: str | Path) -> None:
        """Write the candidates as JSON Lines, to be read back by `candidates="file:PATH"`."""
        header = Header(
            task=self.task, protocol=self.protocol, candidates=self.candidates, seed=self.seed, users=self.users
        )
        candidate_file.write_jsonl(path, self._lines(), header=header)

    def write_trec_qrels(self, path: str | Path) -> None:
        """Write the targets as TREC relevance judgements."""
        candidate_file.write_trec_qrels(path, self._lines(with_candidates=False))

    def write_trec_candidates(self, path: str | Path) -> None:
        """Write the candidates as a TREC run without scores."""
        candidate_file.write_trec_candidates(path, self._lines())

    def _case(self, fold: Fold, spec: Spec) -> Case:
        return Case(
            user_id=spec.user_id,
            at=spec.at,
            history=self.data.history(spec.user_id, before=spec.at),
            candidates=tuple(self.items[item_id] for item_id in self.pool.ids(self.choosers[fold.name](spec))),
            target_ids=self.pool.ids(spec.targets),
            tied=spec.tied,
        )

    def _lines(self, *, with_candidates: bool = True) -> Iterator[Line]:
        for fold in self.folds:
            for spec in fold.specs:
                yield Line(
                    case_id=spec.case_id,
                    user_id=spec.user_id,
                    at=spec.at,
                    targets=self.pool.ids(spec.targets),
                    candidates=self.pool.ids(self.choosers[fold.name](spec)) if with_candidates else (),
                )


def cases(
    data: Dataset,
    *,
    task: str = "next",
    protocol: str = "leave-last-out",
    candidates: str = "full",
    users: int | None = None,
    seed: int = 0,
    cutoffs: Sequence[int] | None = None,
    retriever: Retriever | Fittable | None = None,
) -> CaseSet:
    """The evaluation cases of a dataset.

    A target is always an item that the user had not seen before the case; who has none is skipped and counted, and so
    is who has no history.

    `protocol="leave-last-out"`, one case per user:
        `next`: the target is the user's last event by (time, item id), `at` is its second.
        `like:4.0`: the target period is the last fifth of the user's events (at least one), `at` is the second of its
        first event; targets are the items rated 4.0 or higher from then on.
        `Fold.train` is all interactions but those of each user from `at` on, also of users without a case. It holds
        other users' future, of which a `LeakWarning` tells.
    `protocol="global-time"`, one fold per cut-off and one case per user active before it and from it to the next:
        `at` is the cut-off; targets are the first event from then on, with all of the same second (`next`), or the
        items rated 4.0 or higher from then on (`like:4.0`), in both tasks before the next cut-off, so that nothing is
        asked for twice. `Fold.train` is all interactions before the cut-off.
        `cutoffs` are Unix seconds; by default those that 70, 80 and 90 % of the events precede.

    `candidates`, ordered by item id:
        `full`: the catalogue less what the user saw before the case. `uniform:20`, `popularity:99`: the targets and
        that many items the user never interacted with, drawn alike or by their events in `Fold.train`.
        `rated`, for `like` alone: what the user rated from `at` on and had not seen before, liked or not. It asks for
        taste alone, where all others also ask what a user comes to rate at all; who liked all of it or nothing is
        skipped.
        `retriever:item-knn:200`: the first 200 unseen items that a named retriever of `srec.data.retrievers` finds,
        fitted on each `Fold.train`; a target it misses is not a candidate. Others are `content-knn`, `text-embeddings`
        by MiniLM, `text-embeddings@FOLDER` by another encoder, and fusions: `retriever:item-knn+text-embeddings:200`.
        Each text is embedded once in the store of `srec.keep`, or once in this process.
        `retriever:50`: the first 50 of a retriever of your own. One with a `fit` is fitted on each `Fold.train`; one
        that is a function `retriever(history, k)` you fit yourself, on `Fold.train` alone, so ask for one cut-off at a
        time.
        `file:PATH`: those written by `CaseSet.write` with the same task, protocol and seed.
    `users` is how many users to take at most, drawn by `seed`; a larger number only adds users.

    Raises `InputError` for an unknown spelling, for `like` without ratings and where no case is left, `CandidateError`
    for too few negatives and for a candidate file that does not fit.
    """
    rule, threshold = Rule.of(candidates), _threshold(task)
    if rule.name and retriever is not None:
        raise InputError(f"a retriever was passed beside candidates '{rule}'; give 'retriever:{rule.n}' to use it")
    retriever = retriever_named(rule.name) if rule.name else retriever
    _check(data, rule, threshold=threshold, protocol=protocol, users=users, cutoffs=cutoffs, retriever=retriever)
    pool = Pool.of(data.interactions)
    if protocol == "leave-last-out":
        folds, skipped = leave_last_out(pool, threshold=threshold)
    else:
        folds, skipped = global_time(pool, threshold=threshold, cutoffs=cutoffs_of(data, cutoffs))
    _check_any(folds, skipped, data=data, task=task, protocol=protocol)
    asked = Header(task=_spelled(threshold), protocol=protocol, candidates=str(rule), seed=seed, users=users)
    filed: File | None = None
    if rule.kind == "file":
        specs = {spec.case_id: spec for fold in folds for spec in fold.specs}
        filed = candidate_file.read_jsonl(rule.path, asked=asked, pool=pool, specs=specs)
        asked = replace(asked, candidates=filed[0].candidates)
    if asked.candidates == "rated":
        folds = tuple(_undecided(pool, fold, skipped) for fold in folds)
        _check_any(folds, skipped, data=data, task=task, protocol=protocol)
    kept = _sample(folds, users=users, seed=seed)
    if filed is not None:
        choosers = _filed(filed, rule.path, kept)
    else:
        choosers = {fold.name: _chooser(rule, data, pool, fold, seed=seed, retriever=retriever) for fold in kept}
    if protocol == "leave-last-out":
        _warn_of_leak(kept[0])
    return CaseSet(
        data=data,
        folds=kept,
        task=asked.task,
        protocol=protocol,
        candidates=asked.candidates,
        seed=seed,
        users=users,
        skipped=skipped,
        pool=pool,
        choosers=choosers,
    )


def _check_any(folds: Sequence[Fold], skipped: Mapping[str, int], *, data: Dataset, task: str, protocol: str) -> None:
    if not any(folds):
        met = {reason: count for reason, count in skipped.items() if count}
        reasons = ", ".join(f"{reason}: {count}" for reason, count in met.items())
        helps = (
            "give a lower rating" if max(met, key=met.__getitem__, default="") == UNLIKED else "give longer histories"
        )
        raise InputError(f"dataset {data.name!r} has no case for {task!r} under {protocol} ({reasons}); {helps}")


def _threshold(task: str) -> float | None:
    """The rating from which `task` calls an item liked; None for `next`."""
    if task == "next":
        return None
    if re.fullmatch(r"like:-?[0-9]{1,6}(\.[0-9]{1,6})?", task):
        return float(task.removeprefix("like:"))
    raise InputError(
        f"task {task!r} is not known; give 'next', or 'like:4.0' with your rating from which an item is liked"
    )


def _spelled(threshold: float | None) -> str:
    return "next" if threshold is None else f"like:{threshold}"


def _check(
    data: Dataset,
    rule: Rule,
    *,
    threshold: float | None,
    protocol: str,
    users: int | None,
    cutoffs: Sequence[int] | None,
    retriever: Retriever | Fittable | None,
) -> None:
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r} is not known; give 'leave-last-out' or 'global-time'")
    if users is not None and users < 1:
        raise InputError(f"users={users} leaves no user; give 1 or more, or None for all")
    if cutoffs is not None and protocol != "global-time":
        raise InputError(f"cut-offs mean nothing under {protocol}; leave them out, or take protocol='global-time'")
    if rule.kind == "rated" and threshold is None:
        raise InputError("candidates 'rated' need a task that tells them apart; give task='like:4.0'")
    if rule.kind == "retriever" and retriever is None:
        raise InputError(
            f"candidates '{rule}' need a retriever; pass retriever=, a function of a history and a number, "
            "or name one: 'retriever:item-knn:50'"
        )
    if rule.kind != "retriever" and retriever is not None:
        raise InputError(
            f"a retriever was passed, but candidates are '{rule}'; give candidates='retriever:50' for its first 50"
        )
    if not len(data.interactions):
        raise InputError(f"dataset {data.name!r} has no interactions; cases need users with at least two events")
    if threshold is not None and np.isnan(data.interactions.rating).all():
        raise InputError(f"dataset {data.name!r} has no ratings, so nobody is known to like anything; give task='next'")


def _sample(folds: Sequence[Fold], *, users: int | None, seed: int) -> tuple[Fold, ...]:
    """The cases of `users` users that have one; a user's place in the draw does not depend on the others."""
    if users is None:
        return tuple(folds)
    eligible = {spec.user_id for fold in folds for spec in fold.specs}
    chosen = set(sorted(eligible, key=lambda user_id: stable_hash("users", seed, user_id))[:users])
    return tuple(replace(fold, specs=tuple(spec for spec in fold.specs if spec.user_id in chosen)) for fold in folds)


def _undecided(pool: Pool, fold: Fold, skipped: Counter[str]) -> Fold:
    """The cases of a fold in which something that was rated was not liked."""
    kept = tuple(spec for spec in fold.specs if len(rated(pool, spec)) > len(spec.targets))
    skipped["all that was rated is liked"] += len(fold) - len(kept)
    return replace(fold, specs=kept)


def _chooser(
    rule: Rule, data: Dataset, pool: Pool, fold: Fold, *, seed: int, retriever: Retriever | Fittable | None
) -> Chooser:
    if rule.kind == "full":
        return partial(full, pool)
    if rule.kind == "rated":
        return partial(rated, pool)
    if retriever is not None:
        retrieve = retriever.fit(fold.train, items=data.items) if isinstance(retriever, Fittable) else retriever
        return lambda spec: retrieved(
            pool, spec, n=rule.n, history=data.history(spec.user_id, before=spec.at), retriever=retrieve
        )
    weights = even_weights(fold.train) if rule.kind == "uniform" else popularity_weights(fold.train)
    check_enough(pool, fold.specs, n=rule.n, weights=weights)
    return partial(drawn, pool, n=rule.n, weights=weights, seed=seed)


def _filed(filed: File, path: Path, kept: Sequence[Fold]) -> dict[str, Chooser]:
    """The candidates of a file for the cases of `kept`."""
    header, found = filed
    wanted = [spec.case_id for fold in kept for spec in fold.specs]
    of_kept = candidate_file.only_of(found, wanted, path=path, users=header.users)
    return {fold.name: lambda spec: of_kept[spec.case_id] for fold in kept}


def _warn_of_leak(fold: Fold) -> None:
    times = np.sort(fold.train.at)
    later = 1 - np.searchsorted(times, [spec.at for spec in fold.specs]).mean() / max(1, len(times))
    if later <= 0:
        return
    share = f"{later:.1%}"
    warnings.warn(
        f"leave-last-out: of the events that rankers may be fitted on, {share} are later than the case, being "
        "other users' future; protocol='global-time' has none of those",
        LeakWarning,
        stacklevel=3,
    )
