"""Keep a run while it goes: nothing is asked anew for it, and the folder is a run only once all of it is there."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import dspy
from PIL import Image as Pillow
from pydantic import TypeAdapter

from srec.artifact import fields_of, predictors_of, prompts_of, unoptimized
from srec.data.candidate_file import replace_file
from srec.errors import InputError
from srec.evaluation.run_folder import (
    FILES,
    FORMAT,
    IMAGES,
    ITEMS,
    PROMPTS,
    REPORT,
    RUN,
    USERS,
    KeptCase,
    Made,
    Manifest,
    Prompts,
    Reasoned,
    SeenEvent,
    SeenItem,
    Shared,
)
from srec.explanation import Explanation, explain
from srec.place import place
from srec.recommender import MLLMSRec, Recommendation

if TYPE_CHECKING:
    from srec.evaluation.ranked import Ranked
    from srec.evaluation.report import Report
    from srec.types import Case, Image, Item

SIDE_PX = 96  # of a thumbnail, at most
QUALITY = 75
EVENTS = 50  # the last of a history
FIRST = 10  # of a ranking
MADE = "made:"  # before the name of a program whose lines wait


@dataclass(slots=True, kw_only=True)
class RunWriter:
    """Takes what rankers make of cases, ranker after ranker and each in the order of the cases.

    Lines wait in files `aside`, one file for the cases and one for each of `programs`, so that a long run is not held.
    """

    folder: Path
    catalogue: Mapping[str, Item]
    programs: Mapping[str, MLLMSRec]
    aside: Mapping[str, IO[str]]
    _seen: set[str] = field(default_factory=set)
    _first: str | None = None

    def add(self, name: str, case: Case, ranked: Ranked, made: Recommendation | None) -> None:
        """Keep one case of the ranker `name`; `made` is None where it failed or is no program."""
        self._first = name if self._first is None else self._first
        if name == self._first:
            self._line(USERS, KeptCase, _case(case))
        if name in self.programs:
            self._line(MADE + name, Made | None, _made(made, case.target_ids) if made else None)
        events = (event.item.item_id for event in case.history.events[-EVENTS:])
        for item_id in (*events, *ranked.item_ids[:FIRST], *case.target_ids):
            if item_id not in self._seen:
                self._seen.add(item_id)
                self._item(self.catalogue[item_id])

    def finish(self, report: Report) -> None:
        """Write the files in place of those of an older run, and last what makes a run of them."""
        from srec import __version__  # noqa: PLC0415 (srec's own names are lazy)

        told = report.to_dict() | {"shown_k": report.shown_k, "notes": report.notes()}
        prompts = {name: _prompts(program) for name, program in self.programs.items()}
        replace_file(self.folder / REPORT, [json.dumps(told), "\n"])
        replace_file(self.folder / USERS, self._users())
        replace_file(self.folder / ITEMS, self._lines(ITEMS))
        replace_file(self.folder / PROMPTS, [_json(dict[str, dict[str, Prompts]], prompts), "\n"])
        digests = {name: sha256((self.folder / name).read_bytes()).hexdigest() for name in FILES}
        manifest = Manifest(format=FORMAT, srec=__version__, files=digests)
        replace_file(self.folder / RUN, [_json(Manifest, manifest), "\n"])

    def _item(self, item: Item) -> None:
        image = item.image.digest if item.image else ""
        self._line(ITEMS, SeenItem, SeenItem(item_id=item.item_id, title=item.title, image=image))
        path = self.folder / IMAGES / f"{image}.webp"
        if item.image and not path.exists():
            with _writing(self.folder):
                path.parent.mkdir(exist_ok=True)
                draft = path.with_suffix(".part")
                draft.write_bytes(thumbnail(item.image))
                draft.replace(path)

    def _line(self, file: str, kind: Any, value: Any) -> None:
        self.aside[file].write(_json(kind, value) + "\n")

    def _lines(self, file: str) -> Iterator[str]:
        self.aside[file].seek(0)
        return iter(self.aside[file])

    def _users(self) -> Iterator[str]:
        """Each case with what every program made of it."""
        for line, *made in zip(self._lines(USERS), *(self._lines(MADE + name) for name in self.programs), strict=True):
            named = {name: json.loads(one) for name, one in zip(self.programs, made, strict=True)}
            case = json.loads(line) | {"made": {name: one for name, one in named.items() if one is not None}}
            yield json.dumps(case) + "\n"


@contextmanager
def keeping(
    folder: str | Path,
    *,
    catalogue: Mapping[str, Item],
    programs: Mapping[str, MLLMSRec],
    asked: Mapping[str, str | int],
    rankers: Collection[str],
) -> Iterator[RunWriter]:
    """A writer for the run folder `folder`, which is made if it is missing.

    `asked` is what the report will say of the cases and the model, `rankers` the names of all that rank.

    Raises:
        InputError: the folder cannot be written, or it holds a run that this one does not repeat.
    """
    where = place(folder)
    _spare(where, asked=asked, rankers=rankers)
    with _writing(where):
        where.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=where).close()  # said before hours of ranking, not after
    with TemporaryDirectory(prefix="srec-") as aside, ExitStack() as stack:
        files = {
            name: stack.enter_context((Path(aside) / str(number)).open("w+", encoding="utf-8", newline="\n"))
            for number, name in enumerate((USERS, ITEMS, *(MADE + name for name in programs)))
        }
        yield RunWriter(folder=where, catalogue=catalogue, programs=programs, aside=files)


def _spare(where: Path, *, asked: Mapping[str, str | int], rankers: Collection[str]) -> None:
    """Raise InputError where a run of something else would be lost; half a run, or a damaged one, is not spared."""
    try:
        older = json.loads((where / REPORT).read_bytes()) if (where / RUN).is_file() else {}
        gone = sorted(set(older.get("rankers", {})) - set(rankers))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return
    other = [f"{name} {older.get(name)!r}, not {value!r}" for name, value in asked.items() if older.get(name) != value]
    if older and (other or gone):
        why = other[0] if other else f"it has {', '.join(map(repr, gone))}"
        raise InputError(
            f"{where} holds a run of something else ({why}), which would be lost; name another folder, or delete it"
        )


def thumbnail(image: Image) -> bytes:
    """A picture as WebP of at most 96 pixels a side, encoded anew, so that nothing else is in its bytes."""
    with Pillow.open(io.BytesIO(image.data)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=QUALITY, method=4)
    return encoded.getvalue()


def _case(case: Case) -> KeptCase:
    events = case.history.events[-EVENTS:]
    return KeptCase(
        case_id=case.case_id,
        user_id=case.user_id,
        at=case.at,
        history=len(case.history),
        events=tuple(SeenEvent(item_id=one.item.item_id, at=one.at, rating=one.rating) for one in events),
        target_ids=case.target_ids,
    )


def _made(made: Recommendation, target_ids: Sequence[str]) -> Made:
    """The first of a program's ranking and the targets among its candidates, explained."""
    ranking = enumerate(made.ranking.scores, start=1)
    shown = {rank: score for rank, score in ranking if rank <= FIRST or score.item_id in target_ids}
    explained = explain(replace(made, scores=tuple(shown.values())), top=len(shown))
    reasons = {score.reason for score in made.scores}
    once = next(iter(reasons)) if len(reasons) == 1 else ""
    return Made(
        read=len(made.history),
        summaries=made.summaries,
        profile=made.profile,
        reason=once,
        ranked=tuple(_reasoned(rank, one, once=once) for rank, one in zip(shown, explained, strict=True)),
    )


def _reasoned(rank: int, why: Explanation, *, once: str) -> Reasoned:
    return Reasoned(
        rank=rank,
        item_id=why.item.item_id,
        score=why.score.value,
        reason="" if once else why.score.reason,
        error=why.score.error,
        evidence=tuple(
            Shared(
                item_id=one.event.item.item_id,
                facts=tuple(f"{fact.aspect}: {fact.value}" for fact in one.shared),
            )
            for one in why.evidence
        ),
        tastes=why.tastes,
        contradictions=why.contradictions,
    )


def _prompts(program: MLLMSRec) -> dict[str, Prompts]:
    """The prompts of a program by predictor, beside those of the same program as srec ships it."""
    shipped = unoptimized(program)
    plain = prompts_of(shipped) if shipped is not None else {}
    signatures = {name: predictor.signature for name, predictor in predictors_of(program).items()}
    return {
        name: Prompts(
            fields=_fields(signatures[name]),
            instructions=prompt.instructions,
            plain=plain[name].instructions if name in plain else None,
            demos=tuple({key: _told(value) for key, value in dict(demo).items()} for demo in prompt.demos),
        )
        for name, prompt in prompts_of(program).items()
    }


def _fields(signature: Any) -> str:
    """`profile, preference -> answer`."""
    kinds = {name: kind for name, (kind, *_) in fields_of(signature).items()}
    sides = ([name for name, kind in kinds.items() if kind == wanted] for wanted in ("input", "output"))
    return " -> ".join(", ".join(names) for names in sides)


def _told(value: Any) -> str:
    """A field of a demo as text."""
    if isinstance(value, dspy.Image):
        return "(a picture)"
    return "; ".join(map(_told, value)) if isinstance(value, (list, tuple)) else str(value)


def _json(kind: Any, value: Any) -> str:
    """One line; half of a surrogate pair, which no file can hold, becomes a question mark."""
    text = json.dumps(_adapter(kind).dump_python(value), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"the run cannot be kept in {folder} ({error.strerror}); name another folder") from error
