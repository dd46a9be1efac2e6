"""Which items a case ranks.

A rule says how candidates are chosen: `full`, `uniform:20`, `popularity:99`, `rated` for what the user rated in the
time asked about, `retriever:item-knn:200` (the names are in `srec.data.retrievers`) or `retriever:50` for one that is
handed in, or `file:PATH` for what an earlier run wrote. A draw depends on the seed, the user and the case's second
alone: not on which other users take part, and not on the order of the catalogue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srec.data.interactions import Interactions
from srec.errors import CandidateError, InputError
from srec.types import History

Codes = NDArray[np.int32]  # item codes of an `Interactions`, in the order of the item ids
Weights = NDArray[np.float64]  # one per item code: how likely it is drawn, 0 for never
Retriever = Callable[[History, int], Sequence[str]]  # item ids, best first, at most as many as asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How candidates are chosen: with `n` negatives, as `n` of a retriever with a `name` or without, or from a file."""

    kind: Literal["full", "uniform", "popularity", "rated", "retriever", "file"]
    n: int = 0
    path: Path = Path()
    name: str = ""

    @classmethod
    def of(cls, spelling: str) -> Rule:
        """The rule that `spelling` names; `InputError` for an unknown one."""
        kind, _, value = spelling.partition(":")
        name, _, value = value.rpartition(":") if kind == "retriever" else ("", "", value)
        counted = re.fullmatch("[1-9][0-9]{0,8}", value) is not None and "::" not in spelling
        match kind:
            case "full" | "rated" if spelling == kind:
                return cls(kind=kind)
            case "file" if value:
                return cls(kind=kind, path=Path(value))
            case "uniform" | "popularity" | "retriever" if counted:
                return cls(kind=kind, n=int(value), name=name)
        raise InputError(
            f"candidates {spelling!r} are not known; give 'full', 'uniform:20', 'popularity:99', 'rated', "
            "'retriever:item-knn:200', 'retriever:50' or 'file:PATH', the number being yours"
        )

    def __str__(self) -> str:
        named = f"{self.kind}:{self.name}:{self.n}" if self.name else f"{self.kind}:{self.n}"
        return {"full": "full", "rated": "rated", "file": f"file:{self.path}"}.get(self.kind, named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One case before its items are looked up.

    Rows `start` to `stop` of the log are the user's, those before `wall` are earlier than `at`, and those from there to
    `until` are of the period that is asked about. `targets` are item codes in the order of their ids.
    """

    user_id: str
    at: int
    start: int
    wall: int
    until: int
    stop: int
    targets: tuple[int, ...]
    tied: bool

    @property
    def case_id(self) -> str:
        """The same as that of the `Case` made from this."""
        return f"{self.user_id}@{self.at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What candidates are chosen from: a log with its catalogue.

    `code` finds an item by its id, `place[code]` is where it stands when all are ordered by id.
    """

    log: Interactions = field(repr=False)
    code: Mapping[str, int] = field(repr=False)
    place: NDArray[np.int32] = field(repr=False)

    @classmethod
    def of(cls, log: Interactions) -> Pool:
        """The pool of all items of the catalogue."""
        code = {item_id: code for code, item_id in enumerate(log.item_ids)}
        place = np.empty(len(code), dtype=np.int32)
        place[[code[item_id] for item_id in sorted(code)]] = np.arange(len(code), dtype=np.int32)
        return cls(log=log, code=code, place=place)

    def by_id(self, codes: NDArray[np.integer]) -> Codes:
        """`codes` in the order of their item ids."""
        return codes[np.argsort(self.place[codes])].astype(np.int32)

    def ids(self, codes: Iterable[int]) -> tuple[str, ...]:
        """The item ids of `codes`."""
        return tuple(self.log.item_ids[code] for code in codes)

    def seen(self, spec: Spec) -> Codes:
        """Distinct items of the user before the case."""
        return np.unique(self.log.item[spec.start : spec.wall])

    def touched(self, spec: Spec) -> Codes:
        """Distinct items of the user, before the case and after."""
        return np.unique(self.log.item[spec.start : spec.stop])


def full(pool: Pool, spec: Spec) -> Codes:
    """The whole catalogue less what the user saw before the case."""
    unseen = np.setdiff1d(np.arange(len(pool.place), dtype=np.int32), pool.seen(spec), assume_unique=True)
    return pool.by_id(unseen)


def rated(pool: Pool, spec: Spec) -> Codes:
    """What the user rated in the period and had not seen before it: the targets, and what was not liked."""
    rows = slice(spec.wall, spec.until)
    items = np.unique(pool.log.item[rows][~np.isnan(pool.log.rating[rows])])
    return pool.by_id(np.setdiff1d(items, pool.seen(spec), assume_unique=True))


def even_weights(train: Interactions) -> Weights:
    """Every item is drawn alike."""
    return np.ones(len(train.item_ids))


def popularity_weights(train: Interactions) -> Weights:
    """An item is drawn in proportion to its events in `train`; one without any is never drawn."""
    return np.bincount(train.item, minlength=len(train.item_ids)).astype(np.float64)


def check_enough(pool: Pool, specs: Iterable[Spec], *, n: int, weights: Weights) -> None:
    """Raise `CandidateError` for the first case that leaves fewer than `n` items to draw."""
    drawable = int(np.count_nonzero(weights))
    for spec in specs:
        touched = int(np.count_nonzero(weights[pool.touched(spec)]))
        if drawable - touched < n:
            raise CandidateError(
                f"case {spec.case_id}: {n} negatives asked for, {drawable - touched} are left; of {len(weights)} items "
                f"{drawable} can be drawn, the user interacted with {touched} of those; ask for fewer, or for 'full'"
            )


def drawn(pool: Pool, spec: Spec, *, n: int, weights: Weights, seed: int) -> Codes:
    """The targets and `n` items that the user never interacted with, drawn by `weights` without replacement.

    Every item runs an exponential race at the speed of its weight; the first `n` to finish are what drawing one after
    the other gives (Efraimidis & Spirakis 2006).
    """
    uniform = _uniform(len(weights), key=stable_hash("negatives", seed, spec.user_id, spec.at))[pool.place]
    finish = np.full(len(weights), np.inf)
    np.divide(-np.log(uniform), weights, out=finish, where=weights > 0)
    finish[pool.touched(spec)] = np.inf
    negatives = np.argpartition(finish, n - 1)[:n]
    return pool.by_id(np.concatenate([negatives, np.array(spec.targets, dtype=np.int32)]))


def _uniform(n: int, *, key: bytes) -> NDArray[np.float64]:
    """`n` numbers in (0, 1], made from raw bits because numpy promises those, and only those, to stay the same."""
    bits: NDArray[np.uint64] = np.random.Philox(key=int.from_bytes(key[:16])).random_raw(n)
    return ((bits >> np.uint64(11)).astype(np.float64) + 1) / 2**53


def stable_hash(*parts: str | int) -> bytes:
    """32 bytes that are the same in every process and on every machine."""
    return sha256(json.dumps(parts).encode()).digest()


def retrieved(pool: Pool, spec: Spec, *, n: int, history: History, retriever: Retriever) -> Codes:
    """The first `n` items of the retriever that the user had not seen; a target is among them only if it was found.

    The retriever is asked for as many more as the user has seen, so that one which returns those too still fills up.
    """
    seen = set(pool.ids(pool.seen(spec)))
    found = list(retriever(history, n + len(seen)))
    for item_id in found:
        if item_id not in pool.code:
            raise CandidateError(
                f"case {spec.case_id}: the retriever returned {item_id!r}, which is not in the catalogue"
            )
    if len(set(found)) < len(found):
        raise CandidateError(f"case {spec.case_id}: the retriever returned an item twice; return each once, best first")
    unseen = [pool.code[item_id] for item_id in found if item_id not in seen]
    return pool.by_id(np.array(unseen[:n], dtype=np.int32))
