"""A run on disk: what `evaluate(out=RUN)` keeps of it, and what a page about it is made of.

RUN/run.json      what wrote it, and the SHA-256 of the other files; written last
    report.json   the report with its cases, comparisons and slices
    users.jsonl   one case a line: history, targets, and what each program made of it
    items.jsonl   one item a line, of those that are shown
    prompts.json  the prompts of each program beside those that srec ships
    images/       thumbnails by the SHA-256 of the picture they show
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from srec.errors import InputError
from srec.evaluation.told import TOLD
from srec.place import place
from srec.types import PreferenceSummary, UserProfile

T = TypeVar("T")

FORMAT = 1
RUN, REPORT, USERS, ITEMS, PROMPTS, IMAGES = (
    "run.json",
    "report.json",
    "users.jsonl",
    "items.jsonl",
    "prompts.json",
    "images",
)
FILES = (REPORT, USERS, ITEMS, PROMPTS)
DIGEST = re.compile(r"[0-9a-f]{64}")
MOST_BYTES = 100_000  # of a thumbnail; 96 pixels a side take a few thousand


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenItem:
    """An item as a page shows it; `image` is the SHA-256 of its picture, empty where it has none."""

    item_id: str
    title: str
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """One event of a user; `at` in Unix seconds."""

    item_id: str
    at: int
    rating: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """An event that speaks for an item, and the facts that the two have in common, as `colour: teal`."""

    item_id: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoned:
    """One item of a program's ranking with its reasons; `rank` counts from 1, equal scores by item id."""

    rank: int
    item_id: str
    score: float | None
    reason: str = ""
    error: str = ""
    evidence: tuple[Shared, ...] = ()
    tastes: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a program made of one case.

    `summaries`, oldest first, are of the last `read` events; `ranked` has its first items, and the targets wherever
    they are; `reason` is what it wrote once for all candidates.
    """

    read: int
    summaries: tuple[PreferenceSummary, ...]
    profile: UserProfile
    reason: str
    ranked: tuple[Reasoned, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCase:
    """One case: the last `events` of a history of `history` events, and what programs made of it, by their names."""

    case_id: str
    user_id: str
    at: int
    history: int
    events: tuple[SeenEvent, ...]
    target_ids: tuple[str, ...]
    made: Mapping[str, Made] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompt of one predictor; `plain` is the instruction that srec ships, None where the stage is not its own."""

    fields: str
    instructions: str
    plain: str | None
    demos: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A kept run, read. `prompts` are by ranker and predictor."""

    folder: Path
    version: str
    report: Mapping[str, Any]
    cases: tuple[KeptCase, ...]
    items: Mapping[str, SeenItem]
    prompts: dict[str, dict[str, Prompts]]

    def thumbnail(self, item: SeenItem) -> bytes | None:
        """The WebP bytes of an item's picture; None where there is none.

        Raises InputError for a link, which could show any file of this machine, and for what is no thumbnail.
        """
        path = self.folder / IMAGES / f"{item.image}.webp"
        if not DIGEST.fullmatch(item.image) or not path.is_file():
            return None
        if path.is_symlink() or path.parent.is_symlink():
            raise InputError(f"{path} is a link, not a picture of the run; evaluate again with the same --out")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
            raise InputError(f"{path} is no thumbnail that srec wrote; evaluate again with the same --out")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`run.json`: the format, the srec that wrote it, and the digests of the files beside it."""

    format: int
    srec: str
    files: Mapping[str, str]


_CASE: TypeAdapter[KeptCase] = TypeAdapter(KeptCase)
_ITEM: TypeAdapter[SeenItem] = TypeAdapter(SeenItem)
_PROMPTS: TypeAdapter[dict[str, dict[str, Prompts]]] = TypeAdapter(dict[str, dict[str, Prompts]])
_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def read_run_folder(folder: str | Path) -> RunFolder:
    """Read what `evaluate(out=folder)` kept.

    Raises:
        InputError: it is no run folder, a newer srec wrote it, or one of its files has changed since.
    """
    where = place(folder)
    manifest = _manifest(where)
    texts = {name: _checked(where / name, manifest.files.get(name, "")) for name in FILES}
    items = [_parsed(_ITEM, line, where / ITEMS) for line in texts[ITEMS].splitlines()]
    cases = tuple(_parsed(_CASE, line, where / USERS) for line in texts[USERS].splitlines())
    report = _parsed(TOLD, texts[REPORT], where / REPORT)
    if [(case.case_id, case.user_id) for case in cases] != [(case.case_id, case.user_id) for case in report.cases]:
        raise InputError(f"{where / USERS} has other cases than {REPORT} beside it; evaluate again with the same --out")
    return RunFolder(
        folder=where,
        version=manifest.srec,
        report=json.loads(texts[REPORT]),
        cases=cases,
        items={item.item_id: item for item in items},
        prompts=_parsed(_PROMPTS, texts[PROMPTS], where / PROMPTS),
    )


def _manifest(where: Path) -> Manifest:
    path = where / RUN
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{where} is not a run folder: {RUN} cannot be read ({error.strerror}); {_instead(where)}"
        ) from error
    found = _parsed(_MANIFEST, text, path)
    if found.format != FORMAT:
        raise InputError(
            f"{where} was written by srec {found.srec} in format {found.format}, this one reads {FORMAT}; "
            "use that srec, or evaluate again"
        )
    return found


def _instead(where: Path) -> str:
    """What to name in place of a folder that is no run."""
    inside = sorted(found.parent.name for found in where.glob(f"*/{RUN}"))
    if inside:
        return f"it holds runs; name one of {', '.join(str(where / name) for name in inside)}"
    return "make one with srec evaluate --out, or srec.evaluate(out=)"


def _checked(path: Path, digest: str) -> bytes:
    """The bytes of a file that has not changed since it was written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); evaluate again with the same --out") from error
    if sha256(data).hexdigest() != digest:
        raise InputError(f"{path} is not as {RUN} beside it says; evaluate again with the same --out")
    return data


def _parsed(adapter: TypeAdapter[T], text: bytes, path: Path) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is damaged ({f'{at}: ' if at else ''}{first['msg']}); evaluate again with the same --out"
        ) from error
