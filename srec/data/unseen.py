"""What a user can be recommended now: items that are not in the whole of their history."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from srec.data.candidates import (
    Pool,
    Rule,
    Spec,
    check_enough,
    drawn,
    even_weights,
    full,
    popularity_weights,
    retrieved,
)
from srec.data.folder import Dataset
from srec.data.retrievers import retriever_named
from srec.errors import CandidateError, InputError
from srec.place import place
from srec.text import clean
from srec.types import Item

KINDS = ("full", "uniform", "popularity", "retriever", "file")
FEW = 5  # ids that an error names
MAX_ID_CHARS = 80  # of an id in an error


def unseen(data: Dataset, user_id: str, *, candidates: str = "full", seed: int = 0) -> tuple[Item, ...]:
    """The candidates of one user, ordered by item id.

    `candidates` is `full`, `uniform:20`, `popularity:99` (drawn among what the user never saw),
    `retriever:item-knn:200` as in `srec.cases`, `file:PATH` for a text file with one item id a line, or the ids
    themselves, separated by commas.

    Raises:
        InputError: the user is unknown.
        CandidateError: an id is unknown, twice there, or of an item that the user saw; or too few are left to draw.
    """
    check_user(data, user_id)
    pool = Pool.of(data.interactions)
    spec = _now(pool, user_id)
    if candidates.partition(":")[0] not in KINDS:
        return _listed(data, pool, spec, ids=_split(candidates))
    rule = Rule.of(candidates)
    if rule.kind == "file":
        return _listed(data, pool, spec, ids=_read(rule.path))
    if rule.kind == "full":
        codes = full(pool, spec)
    elif rule.kind == "retriever":
        retriever = retriever_named(rule.name).fit(data.interactions, items=data.items)
        codes = retrieved(pool, spec, n=rule.n, history=data.history(user_id), retriever=retriever)
    else:
        weights = (even_weights if rule.kind == "uniform" else popularity_weights)(pool.log)
        check_enough(pool, [spec], n=rule.n, weights=weights)
        codes = drawn(pool, spec, n=rule.n, weights=weights, seed=seed)
    return tuple(data.items[item_id] for item_id in pool.ids(codes))


def check_user(data: Dataset, user_id: str) -> None:
    """Raise `InputError`, with a few ids that are known, unless the user has interactions."""
    users = data.users
    if not users:
        raise InputError(f"dataset {data.name!r} has no interactions, so there is no user to rank for")
    if user_id not in users:
        raise InputError(f"user {_shown(user_id)} has no interactions in {data.name!r}; known users: {_few(users)}")


def _now(pool: Pool, user_id: str) -> Spec:
    """The moment after the user's last event, as a case without a target."""
    rows = pool.log.rows_of(user_id)
    at = int(pool.log.at[rows].max()) + 1
    return Spec(
        user_id=user_id,
        at=at,
        start=rows.start,
        wall=rows.stop,
        until=rows.stop,
        stop=rows.stop,
        targets=(),
        tied=False,
    )


def _split(listed: str) -> list[str]:
    return [part.strip() for part in listed.split(",") if part.strip()]


def _read(path: Path) -> list[str]:
    try:
        lines = place(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise CandidateError(f"cannot read {path}: {error.strerror}; check the path after 'file:'") from error
    except UnicodeDecodeError as error:
        raise CandidateError(f"{path} is not UTF-8 text; write it with one item id a line") from error
    if lines and lines[0].startswith("{"):
        raise CandidateError(f"{path} holds the candidates of evaluation cases; give a file with one item id a line")
    return [line.strip() for line in lines if line.strip()]


def _listed(data: Dataset, pool: Pool, spec: Spec, *, ids: list[str]) -> tuple[Item, ...]:
    if not ids:
        raise CandidateError("no candidate is named; give item ids, or 'full' for the whole catalogue")
    for item_id in ids:
        if item_id not in data.items:
            raise CandidateError(
                f"candidate {_shown(item_id)} is not an item of {data.name!r}; give ids such as {_few(data.items.ids)}"
                ", or 'full', 'uniform:20', 'popularity:99', 'file:PATH'"
            )
    if len(set(ids)) < len(ids):
        twice = next(item_id for item_id in ids if ids.count(item_id) > 1)
        raise CandidateError(f"candidate {_shown(twice)} is named twice; name each item once")
    seen = sorted(set(ids).intersection(pool.ids(pool.seen(spec))))
    if seen:
        raise CandidateError(f"user {_shown(spec.user_id)} saw candidate {_shown(seen[0])} before; leave it out")
    codes = np.array([pool.code[item_id] for item_id in ids], dtype=np.int32)
    return tuple(data.items[item_id] for item_id in pool.ids(pool.by_id(codes)))


def _few(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - FEW:,} more" if len(ids) > FEW else ""
    return ", ".join(map(_shown, ids[:FEW])) + more


def _shown(name: str) -> str:
    return repr(clean(name, max_chars=MAX_ID_CHARS))
