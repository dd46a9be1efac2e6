"""Candidates on disk: a JSON Lines file that is read back, and TREC files for other tools.

The first line of a candidate file is its header, each further line one case:

    {"format": "srec-candidates-1", "task": "next", "protocol": "global-time", "candidates": "uniform:2", "seed": 0, …}
    {"case_id": "7@99", "user_id": "7", "at": 99, "targets": ["b"], "candidates": ["a", "b", "c"]}
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from os import fsync
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote, unquote

import numpy as np
from pydantic import TypeAdapter, ValidationError

from srec.data.candidates import Codes, Pool, Spec
from srec.errors import CandidateError
from srec.place import place

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the cases of a file were made with; `users` is how many were asked for, None for all."""

    format: Literal["srec-candidates-1"] = "srec-candidates-1"
    task: str
    protocol: str
    candidates: str
    seed: int
    users: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One case by its ids, as a line of the file."""

    case_id: str
    user_id: str
    at: int
    targets: tuple[str, ...]
    candidates: tuple[str, ...]


HEADER = TypeAdapter(Header)
LINE = TypeAdapter(Line)


def write_jsonl(path: str | Path, lines: Iterable[Line], *, header: Header) -> None:
    """Write a candidate file; an older one stays as it is until the new one is complete."""
    replace_file(path, chain([_json(header)], map(_json, lines)))


def _json(row: Header | Line) -> str:
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def read_jsonl(path: Path, *, asked: Header, pool: Pool, specs: Mapping[str, Spec]) -> tuple[Header, dict[str, Codes]]:
    """The header of a candidate file and, by case id, the candidates.

    Every line must fit `specs`, which are all the cases that the dataset has under `asked`. `CandidateError` names file
    and line of what does not: another task, protocol or seed, an unknown user, item or case, other targets, an item
    that the user had seen.
    """
    header: Header | None = None
    found: dict[str, Codes] = {}
    path = place(path)
    where = str(path)
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                where = f"{path} line {number}"
                if header is None:
                    header = _header(raw, asked=asked, where=where)
                    continue
                line = _parse(LINE, raw, what="a case", where=where)
                if line.case_id in found:
                    raise CandidateError(f"{where}: case {line.case_id!r} is there twice; remove one of the two")
                found[line.case_id] = _codes(line, header=header, pool=pool, specs=specs, where=where)
    except OSError as error:
        raise CandidateError(
            f"cannot read candidate file {path}: {error.strerror}; check the path after 'file:'"
        ) from error
    if header is None:
        raise CandidateError(f"{path}: the file is empty; write it again")
    return header, found


def only_of(found: Mapping[str, Codes], wanted: Collection[str], *, path: Path, users: int | None) -> dict[str, Codes]:
    """The candidates of the `wanted` cases; a file of `users` users may hold more cases, not fewer."""
    missing = [case_id for case_id in wanted if case_id not in found]
    if missing:
        raise CandidateError(
            f"{path} line {len(found) + 1}: the file ends here without {len(missing)} of {len(wanted)} cases, first "
            f"{missing[0]!r}; it was written with users={users}: ask for no more than that, or write it again"
        )
    return {case_id: found[case_id] for case_id in wanted}


def _header(raw: bytes, *, asked: Header, where: str) -> Header:
    header = _parse(HEADER, raw, what="the header", where=where)
    for name in ("task", "protocol", "seed"):
        theirs, ours = getattr(header, name), getattr(asked, name)
        if theirs != ours:
            raise CandidateError(
                f"{where}: the file was written with {name}={theirs!r}, asked for is {name}={ours!r}; "
                f"ask for {theirs!r}, or write the file again"
            )
    return header


def _parse(adapter: TypeAdapter[T], raw: bytes, *, what: str, where: str) -> T:
    try:
        return adapter.validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise CandidateError(f"{where} is not {what} of a candidate file ({reason}); write the file again") from None


def _codes(line: Line, *, header: Header, pool: Pool, specs: Mapping[str, Spec], where: str) -> Codes:
    """The candidates of one line as item codes in id order, after every check against the dataset."""
    spec = _spec_of(line, pool=pool, specs=specs, where=where)
    for item_id in (*line.targets, *line.candidates):
        if item_id not in pool.code:
            raise CandidateError(
                f"{where}: item {item_id!r} is not in the dataset; use the dataset that the file was made from"
            )
    if sorted(line.targets) != sorted(pool.ids(spec.targets)):
        raise CandidateError(
            f"{where}: the targets of case {line.case_id!r} are {list(line.targets)}, the dataset says "
            f"{list(pool.ids(spec.targets))}; use the dataset that the file was made from"
        )
    listed = set(line.candidates)
    if len(listed) < len(line.candidates):
        raise CandidateError(f"{where}: a candidate of case {line.case_id!r} is there twice; list each item once")
    seen = sorted(listed.intersection(pool.ids(pool.seen(spec))))
    if seen:
        raise CandidateError(f"{where}: the user of case {line.case_id!r} saw candidate {seen[0]!r} before; remove it")
    if not header.candidates.startswith("retriever:") and not listed.issuperset(line.targets):
        raise CandidateError(f"{where}: a target of case {line.case_id!r} is not among its candidates; add it")
    return pool.by_id(np.array([pool.code[item_id] for item_id in line.candidates], dtype=np.int32))


def _spec_of(line: Line, *, pool: Pool, specs: Mapping[str, Spec], where: str) -> Spec:
    spec = specs.get(line.case_id)
    if spec is not None and (spec.user_id, spec.at) == (line.user_id, line.at):
        return spec
    if line.user_id not in pool.log.user_ids:
        raise CandidateError(
            f"{where}: user {line.user_id!r} is not in the dataset; use the dataset that the file was made from"
        )
    raise CandidateError(
        f"{where}: the dataset has no case {line.case_id!r} of user {line.user_id!r} at {line.at}; use the dataset "
        "and the cut-offs that the file was made from"
    )


def write_trec_qrels(path: str | Path, lines: Iterable[Line]) -> None:
    """Write the targets as TREC relevance judgements, `case_id 0 item_id 1`."""
    replace_file(
        path, (f"{to_trec(line.case_id)} 0 {to_trec(item_id)} 1\n" for line in lines for item_id in line.targets)
    )


def write_trec_candidates(path: str | Path, lines: Iterable[Line]) -> None:
    """Write the candidates as a TREC run in which all have score 0, for other systems to re-rank."""
    replace_file(
        path,
        (
            f"{to_trec(line.case_id)} Q0 {to_trec(item_id)} {rank} 0 candidates\n"
            for line in lines
            for rank, item_id in enumerate(line.candidates, start=1)
        ),
    )


def to_trec(name: str) -> str:
    """`name` as one word, as TREC files need it: white space and `%` become `%20`, `%25` and so on."""
    return re.sub(r"[\s%]", lambda found: quote(found[0], safe=""), name)


def from_trec(word: str) -> str:
    """The name that `to_trec` made `word` from."""
    return unquote(word, errors="strict") if "%" in word else word


def replace_file(path: str | Path, lines: Iterable[str]) -> None:
    """Write `lines` to a file that takes the place of `path` only once it is complete.

    A device or a pipe, such as /dev/null, stays what it is and is written to.
    """
    path = _file_place(path)
    if _is_device(path):
        with _reported(path), path.open("w", encoding="utf-8", newline="\n") as device:
            device.writelines(lines)
        return
    draft = _draft_of(path)
    with _reported(path):
        file = draft.open("x", encoding="utf-8", newline="\n")
    try:
        for line in lines:
            with _reported(path):
                file.write(line)
        with _reported(path):
            file.flush()
            fsync(file.fileno())
            draft.replace(path)
    finally:
        with suppress(OSError):  # whatever had to reach the disk was synced above
            file.close()
            draft.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Refuse now what `replace_file` would refuse at the end of a long computation; its folder is made.

    Raises:
        CandidateError: the path is a folder, or nothing can be written there.
    """
    path = _file_place(path)
    if not _is_device(path):
        draft = _draft_of(path)
        with _reported(path):
            draft.touch()
            draft.unlink()


def _file_place(path: str | Path) -> Path:
    path = place(path)
    if not path.name or path.is_dir():
        raise CandidateError(f"cannot write {str(path)!r}: it is a folder; name a file in it")
    return path


def _draft_of(path: Path) -> Path:
    """A file beside `path`, in its folder."""
    with _reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _is_device(path: Path) -> bool:
    """Whether a path is no file of its own: a pipe, a device, or what stands in /dev for an open file."""
    stands_for = str(path.absolute()).startswith(("/dev/", "/proc/"))
    return path.exists() and not path.is_dir() and (stands_for or not path.is_file())


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """A failing disk becomes a sentence; what the lines themselves raise stays as it is."""
    try:
        yield
    except OSError as error:
        raise CandidateError(f"cannot write {path}: {error.strerror}; check the folder and its free space") from error
