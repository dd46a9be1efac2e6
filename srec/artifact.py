"""A program on disk: the prompts of every predictor, and nothing that could run, be looked at, or be called.

    programs/<name>/program.json   instructions and demos of every predictor, and the fields they were made for
                    card.toml      where they come from and what they reached
                    prompts.md     the same prompts to read, written so that a diff can be read

A picture in a demo is kept as the id of its item and a digest. No LM, no address and no pickle is in any of the files.
"""

from __future__ import annotations

import json
import platform
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib import resources
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path
from typing import Any

import dspy
from pydantic import TypeAdapter, ValidationError

from srec.card import card_text, read_card, write_text
from srec.digest import digest
from srec.errors import InputError, ProgramError
from srec.lm.adapters import picture
from srec.place import place
from srec.recommender import MLLMSRec
from srec.stages.fusion import ItemFusion
from srec.stages.preference import TemporalPreference
from srec.stages.profile import UserProfiling
from srec.stages.question import Question
from srec.stages.scoring import CoTScoring
from srec.text import clean
from srec.types import Item

FORMAT = 1
PROGRAM, CARD, PROMPTS = "program.json", "card.toml", "prompts.md"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
MOST_CHARS = 100  # of the name of a shipped program
PIXELS = ";base64,"
Fields = dict[str, tuple[str, str, str, str]]
"""By name of a field: input or output, type, prefix, description."""
STOCK = {
    "fusion": ItemFusion,
    "preference": TemporalPreference,
    "profiling": UserProfiling,
    "scoring": CoTScoring,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What an optimizer may change of one predictor."""

    instructions: str
    demos: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOf:
    """Stands in a saved demo for a picture: whose it is, and the SHA-256 of its bytes."""

    picture_of: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPredictor:
    """One predictor in `program.json`."""

    fields: Fields
    instructions: str
    demos: tuple[dict[str, PictureOf | str | list[str] | bool | int | float | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedQuestion:
    """A `Question` of the fusion."""

    aspect: str
    text: str
    choices: dict[str, tuple[str, ...]]
    of: str
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedStages:
    """How srec's own four stages were set, so that the program can be built again."""

    recent: int | None
    questions: tuple[SavedQuestion, ...]
    write: str
    doubt: float
    attributes: tuple[str, ...] | None
    window: int
    step: int
    reasoning: str
    view: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedProgram:
    """The whole of `program.json`; `stages` is None where a stage is not srec's own."""

    format: int
    signature: str
    predictors: dict[str, SavedPredictor] = field(default_factory=dict)
    stages: SavedStages | None = None


_SAVED: TypeAdapter[SavedProgram] = TypeAdapter(SavedProgram)


def predictors_of(program: dspy.Module) -> dict[str, dspy.Predict]:
    """Every predictor by its name, as `scoring.judge`; also those of stages that DSPy calls compiled and skips."""
    found = program.named_sub_modules(dspy.Predict)
    return {name.removeprefix("self."): predictor for name, predictor in found}


def prompts_of(program: dspy.Module) -> dict[str, Prompt]:
    """What an optimizer may change, by the name of the predictor."""
    return {
        name: Prompt(instructions=cleandoc(predictor.signature.instructions), demos=tuple(predictor.demos))
        for name, predictor in predictors_of(program).items()
    }


def with_prompts(program: dspy.Module, prompts: Mapping[str, Prompt]) -> Any:
    """A copy of `program` with other prompts; its LMs stay, and no stage of it counts as compiled."""
    copied = program.deepcopy()
    for _, module in copied.named_sub_modules(dspy.Module):
        module._compiled = False  # noqa: SLF001  DSPy skips compiled stages when it names, saves and loads predictors
    for name, predictor in predictors_of(copied).items():
        if name in prompts:
            predictor.demos = list(prompts[name].demos)
            _instruct(predictor, prompts[name].instructions)
    return copied


def _instruct(predictor: dspy.Predict, instructions: str) -> None:
    """Set instructions; equal ones stay to the letter, since results are kept under it."""
    signature = predictor.signature
    if instructions != cleandoc(signature.instructions):
        predictor.signature = signature.with_instructions(instructions)


def signature_digest(program: dspy.Module) -> str:
    """Digest of all that a prompt rests on and no optimizer changes: names, types, prefixes and descriptions."""
    return digest({name: fields_of(predictor.signature) for name, predictor in predictors_of(program).items()})


def fields_of(signature: Any) -> Fields:
    """The fields of a signature, in order."""
    fields: Fields = {}
    for name, one in signature.fields.items():
        extra = one.json_schema_extra or {}
        kind, prefix, desc = (str(extra.get(key, "")) for key in ("__dspy_field_type", "prefix", "desc"))
        fields[name] = (kind, _spelled(one.annotation), prefix, desc)
    return fields


def save_program(
    program: dspy.Module, folder: str | Path, *, card: Mapping[str, Any], items: Iterable[Item] = ()
) -> Path:
    """Write a program into `folder`, which is made if it is missing; returns the folder.

    Args:
        program: What to save: the prompts of its predictors, and how srec's own stages are set.
        folder: By its name the program is called.
        card: What is told of it; the versions and the digest of the signatures are added.
        items: Where the pictures in demos come from; needed only if there are any.

    Raises:
        ProgramError: a demo lacks an answer, or shows a picture that no item has.
        InputError: the card has what TOML cannot hold.
    """
    where = place(folder)
    owners = {item.image.digest: item.item_id for item in items if item.image is not None}
    saved = SavedProgram(
        format=FORMAT,
        signature=signature_digest(program),
        predictors={name: _saved(name, one, owners) for name, one in predictors_of(program).items()},
        stages=_stages(program),
    )
    versions = {"srec": _version(), "dspy": version("dspy"), "python": platform.python_version()}
    told = card_text({**card, "signature": saved.signature, "versions": versions})
    try:
        where.mkdir(parents=True, exist_ok=True)
        write_text(where / PROMPTS, readable(saved, title=where.name))
        write_text(where / CARD, told)
        write_text(where / PROGRAM, json.dumps(asdict(saved), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ProgramError(f"the program cannot be written to {where}: {error}; name another folder") from error
    return where


def load_program(name_or_path: str | Path, *, into: Any = None, items: Mapping[str, Item] | None = None) -> Any:
    """A program with the prompts that were saved, and without an LM (unless `into` has one).

    Args:
        name_or_path: A folder, or the name of a program that srec ships.
        into: The program to set them in, which stays as it is; None builds srec's own stages as they were set.
        items: The catalogue that pictures in demos are taken from; needed only if there are any.

    Raises:
        ProgramError: there is none, it is damaged, or it was made for other signatures.
    """
    folder = find_program(name_or_path)
    saved = _read(folder)
    program = into if into is not None else _built(saved, folder)
    predictors = predictors_of(program)
    _check(saved, predictors, folder)
    prompts = {
        name: Prompt(
            instructions=one.instructions,
            demos=tuple(_demos(name, one.demos, predictors[name].signature, items, folder)),
        )
        for name, one in saved.predictors.items()
    }
    return with_prompts(program, prompts)


def is_whole(name_or_path: str | Path) -> bool:
    """Whether a saved program can be built again without `into`: all of its stages are srec's own.

    Raises:
        ProgramError: there is none, or it is damaged.
    """
    return _read(find_program(name_or_path)).stages is not None


def find_program(name_or_path: str | Path) -> Path:
    """The folder of a program: the one named, or the one that srec ships under the name.

    Raises:
        ProgramError: there is none.
    """
    with suppress(InputError):  # what can be no path may be none
        given = place(Path(name_or_path) / PROGRAM)
        if given.is_file():
            return given.parent
    homes = _homes()
    if isinstance(name_or_path, str) and NAME.fullmatch(name_or_path) and len(name_or_path) <= MOST_CHARS:
        for home in homes:
            if (home / name_or_path / PROGRAM).is_file():
                return home / name_or_path
    shipped = sorted({found.parent.name for home in homes for found in home.glob(f"*/{PROGRAM}")})
    raise ProgramError(
        f"there is no program {str(name_or_path)!r}: no folder of that name has a {PROGRAM}, and srec ships "
        f"{', '.join(shipped) or 'none'}; give a folder that srec.save_program or srec.optimize wrote"
    )


def card_of(name_or_path: str | Path) -> dict[str, Any]:
    """What is told of a saved program."""
    return read_card(find_program(name_or_path) / CARD)


def readable(saved: SavedProgram, *, title: str) -> str:
    """The prompts as Markdown: one heading a predictor, instructions line by line, one line a demo's field."""
    lines = [f"# Prompts of {title}", "", f"Written beside `{PROGRAM}`, to be read; changes here change nothing."]
    for name, one in saved.predictors.items():
        inputs, outputs = ([f for f, row in one.fields.items() if row[0] == kind] for kind in ("input", "output"))
        lines += ["", f"## {name}", "", f"{', '.join(inputs)} -> {', '.join(outputs)}", ""]
        lines += [f"> {line}".rstrip() for line in one.instructions.splitlines()]
        for number, demo in enumerate(one.demos, start=1):
            lines += ["", f"Demo {number}", ""]
            lines += [f"- {key}: {_shown(value)}" for key, value in demo.items()]
    return "\n".join(lines) + "\n"


def unoptimized(program: Any) -> MLLMSRec | None:
    """The same program with the prompts that srec ships; None where one of its stages is not srec's own."""
    stages = _stages(program)
    return _of_stages(stages) if stages is not None else None


def _homes() -> list[Path]:
    """Where shipped programs lie: inside the package, or in a clone beside it."""
    package = Path(str(resources.files("srec")))
    return [package / "programs", package.parent / "programs"]


def _version() -> str:
    from srec import __version__  # noqa: PLC0415 (srec's own names are lazy)

    return __version__


def _spelled(annotation: Any) -> str:
    return (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )


def _saved(name: str, predictor: dspy.Predict, owners: Mapping[str, str]) -> SavedPredictor:
    signature = predictor.signature
    return SavedPredictor(
        fields=fields_of(signature),
        instructions=cleandoc(signature.instructions),
        demos=tuple(_saved_demo(name, signature, demo, owners) for demo in predictor.demos),
    )


def _saved_demo(name: str, signature: Any, demo: Mapping[str, Any], owners: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a demo that have a value; others, such as log-probabilities, are no part of a prompt."""
    if lacking := _unanswered(signature, demo):
        raise ProgramError(
            f"a demo of {name} has no {lacking[0]!r}, so it shows no answer; take demos that were made by running the "
            "program (max_labeled_demos=0 in DSPy's optimizers)"
        )
    values = {field: demo[field] for field in signature.fields if field in demo and demo[field] is not None}
    saved = {
        field: _reference(name, value, owners)
        if isinstance(value, dspy.Image)
        else TypeAdapter(type(value)).dump_python(value, mode="json")
        for field, value in values.items()
    }
    if any(PIXELS in json.dumps(value) for value in saved.values() if not isinstance(value, PictureOf)):
        raise ProgramError(f"a demo of {name} holds a picture as text, which is never saved; give it as a dspy.Image")
    return saved


def _unanswered(signature: Any, demo: Mapping[str, Any]) -> list[str]:
    """The output fields that a demo has no value of."""
    return [output for output in signature.output_fields if demo.get(output) is None]


def _reference(name: str, shown: dspy.Image, owners: Mapping[str, str]) -> PictureOf:
    found = picture_digest(shown)
    if found not in owners:
        raise ProgramError(f"a demo of {name} shows a picture of none of the items given; pass items= to save_program")
    return PictureOf(picture_of=owners[found], sha256=found)


def picture_digest(shown: dspy.Image) -> str:
    """SHA-256 of a picture's bytes; equal to `srec.Image.digest`. Empty for one that is only an address."""
    head, _, data = shown.url.partition(";base64,")
    return sha256(b64decode(data)).hexdigest() if head.startswith("data:") else ""


def _demos(
    name: str, saved: Sequence[Mapping[str, Any]], signature: Any, items: Mapping[str, Item] | None, folder: Path
) -> Iterator[dspy.Example]:
    """The demos of the predictor `name`."""
    for number, demo in enumerate(saved, start=1):
        which = f"{folder / PROGRAM} is damaged: demo {number} of {name}"
        if unknown := [field for field in demo if field not in signature.fields]:
            raise ProgramError(f"{which} has a field {unknown[0]!r} that no prompt has; take it out")
        if lacking := _unanswered(signature, demo):
            raise ProgramError(f"{which} has no {lacking[0]!r}, so it shows no answer; add it, or take the demo out")
        values = {key: _picture(one, items, folder) if isinstance(one, PictureOf) else one for key, one in demo.items()}
        yield dspy.Example(augmented=True, **values)


def _picture(wanted: PictureOf, items: Mapping[str, Item] | None, folder: Path) -> dspy.Image:
    if items is None:
        raise ProgramError(
            f"the program in {folder} has a demo with the picture of item {wanted.picture_of!r}; pass items=, the "
            "catalogue that it was made on"
        )
    item = items.get(wanted.picture_of)
    if item is None or item.image is None or item.image.digest != wanted.sha256:
        what = "is not in" if item is None else "has no picture in" if item.image is None else "has another picture in"
        raise ProgramError(
            f"item {wanted.picture_of!r}, whose picture a demo of {folder} shows, {what} the catalogue given; pass "
            "items= of the dataset that the program was made on"
        )
    return picture(item.image)


def _read(folder: Path) -> SavedProgram:
    path = folder / PROGRAM
    try:
        saved = _SAVED.validate_json(path.read_bytes())
    except OSError as error:
        raise ProgramError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise ProgramError(f"{path} is damaged ({f'{at}: ' if at else ''}{first['msg']}); restore it") from error
    if saved.format != FORMAT:
        raise ProgramError(f"{path} has format {saved.format}, this srec reads {FORMAT}; use the srec that wrote it")
    if saved.signature != digest({name: one.fields for name, one in saved.predictors.items()}):
        raise ProgramError(f"{path} is damaged: its fields are not those of its signature digest; restore it")
    return saved


def _check(saved: SavedProgram, predictors: Mapping[str, dspy.Predict], folder: Path) -> None:
    """Raise unless the program's predictors have the names and fields that the prompts were made for."""
    for name in dict.fromkeys([*saved.predictors, *predictors]):
        made_for = dict(saved.predictors[name].fields) if name in saved.predictors else None
        has = fields_of(predictors[name].signature) if name in predictors else None
        if made_for is None or has is None:
            whose = "the program has, and the saved one has not" if made_for is None else "this program has not"
            raise ProgramError(
                f"the program in {folder} was made for other signatures: {name!r} is a predictor that {whose}; load it "
                "into the program it was made from"
            )
        if list(made_for.items()) != list(has.items()):
            raise ProgramError(
                f"the program in {folder} was made for other signatures: {name} {_difference(made_for, has)}; load it "
                "into the program it was made from, or optimize this one anew"
            )


def _difference(made_for: Fields, has: Fields) -> str:
    if list(made_for) != list(has):
        return f"had the fields {', '.join(made_for)} and has {', '.join(has)}"
    name = next(name for name in made_for if made_for[name] != has[name])
    return f"had {name} as {' '.join(filter(None, made_for[name]))!r} and has {' '.join(filter(None, has[name]))!r}"


def _stages(program: Any) -> SavedStages | None:
    """How the four stages are set; None unless all are srec's own."""
    if type(program) is not MLLMSRec or any(type(getattr(program, name)) is not own for name, own in STOCK.items()):
        return None
    fusion, scoring = program.fusion, program.scoring
    assert isinstance(fusion, ItemFusion)
    assert isinstance(scoring, CoTScoring)
    assert isinstance(program.preference, TemporalPreference)
    return SavedStages(
        recent=program.recent,
        questions=tuple(
            SavedQuestion(
                aspect=one.aspect,
                text=one.text,
                choices={value: tuple(forms) for value, forms in one.forms.items()},
                of=one.of,
                beside=tuple(one.beside),
            )
            for one in fusion.questions
        ),
        write=fusion.write,
        doubt=fusion.doubt,
        attributes=fusion.attributes,
        window=program.preference.window,
        step=program.preference.step,
        reasoning=scoring.reasoning,
        view=scoring.view,
    )


def _built(saved: SavedProgram, folder: Path) -> MLLMSRec:
    """A program set as the saved one was."""
    if saved.stages is None:
        raise ProgramError(f"the program in {folder} has stages that are not srec's own; pass into=, such a program")
    try:
        return _of_stages(saved.stages)
    except ProgramError:
        raise
    except InputError as error:
        raise ProgramError(f"{folder / PROGRAM} is damaged: {error}") from error


def _of_stages(how: Any) -> MLLMSRec:
    """A program whose stages are set so, with the prompts that srec ships."""
    questions = [
        Question(one.aspect, one.text, choices=one.choices, of=one.of, beside=one.beside) for one in how.questions
    ]
    return MLLMSRec(
        fusion=ItemFusion(questions=questions, write=how.write, doubt=how.doubt, attributes=how.attributes),
        preference=TemporalPreference(window=how.window, step=how.step),
        scoring=CoTScoring(reasoning=how.reasoning, view=how.view),
        recent=how.recent,
    )


def _shown(value: Any) -> str:
    """A demo's value on one line."""
    if isinstance(value, PictureOf):
        return f"(the picture of item {value.picture_of})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(clean(str(entry)) for entry in value) or "(none)"
    return clean(str(value)) or "(empty)"


__all__: Sequence[str] = [
    "Prompt",
    "card_of",
    "find_program",
    "load_program",
    "predictors_of",
    "prompts_of",
    "save_program",
    "signature_digest",
    "unoptimized",
    "with_prompts",
]
