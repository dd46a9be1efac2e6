"""What arguments name: the dataset, its store, the LM, the program."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srec.errors import InputError, ModelError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import typer

    from srec.data.folder import Dataset
    from srec.recommender import MLLMSRec
    from srec.stages.fusion import ItemFusion

DEMONSTRATION = ("smollm2-135m", "srec-tiny")  # models that show that all works, and no more
SETTINGS = ("recent", "window", "step", "reasoning", "view")  # of a program, by their options
TOYSHOP = re.compile(r"toyshop(?::(\d{1,7})x(\d{1,7})(?:@(\d{1,9}))?)?")


def dataset(data: str, *, strict: bool = False) -> Dataset:
    """The dataset that an argument names."""
    from srec import load, toyshop

    asked = toy_shop(data)
    if asked is None:
        return load(data, strict=strict)
    items, users, seed = asked
    return toyshop(items=items, users=users, seed=seed).data


def toy_shop(data: str) -> tuple[int, int, int] | None:
    """Items, users and seed of the toy shop that `data` names; None where it names none."""
    named = TOYSHOP.fullmatch(data)
    if named is None:
        return None
    items, users, seed = named.groups()
    return int(items or 300), int(users or 200), int(seed or 0)


def store(given: Path | None, data: Dataset) -> Path:
    """The folder of results: the one given, else one by the name of the dataset."""
    return given or Path("runs") / (re.sub(r"[^\w.-]+", "_", data.name).strip("._") or "data")


def keeping_texts(candidates: str, given: Path | None, data: Dataset) -> AbstractContextManager[object]:
    """The store, open where texts are embedded to choose the candidates, so that no text is embedded twice."""
    from srec import keep
    from srec.data.retrievers import TEXT_EMBEDDINGS

    asked = candidates.startswith("retriever:") and TEXT_EMBEDDINGS in candidates
    return keep(store(given, data)) if asked else nullcontext()


def lm(model: str, out: Any, *, connections: int = 32) -> Any:
    """The LM, announced with what it is and what it cannot do."""
    from srec.lm.connect import connect, sees

    check_model(model)
    lm = connect(model, max_connections=connections)
    blind = "" if sees(lm) else "; it cannot see, so pictures are passed over and it reads text only"
    size = "; it is of demonstration size" if any(small in lm.model for small in DEMONSTRATION) else ""
    out.print(f"model: {lm.model}{blind}{size}", markup=False)
    return lm


def check_model(model: str) -> None:
    """Raise InputError for a model string that means nothing, before anything is loaded."""
    from srec.lm.checkpoint import whereabouts
    from srec.lm.connect import parse

    try:
        wanted = parse(model)
        if wanted.kind == "local":
            whereabouts(wanted.model)
    except ModelError as error:
        raise InputError(str(error)) from error
    if wanted.lora:
        check_lora(wanted.lora)


def check_base(base: str) -> None:
    """Raise InputError for a base to serve that means nothing, before anything is loaded."""
    from srec.lm.checkpoint import whereabouts
    from srec.lm.connect import base_name

    try:
        whereabouts(base_name(base))
    except ModelError as error:
        raise InputError(str(error)) from error


def check_lora(lora: str) -> None:
    """Raise InputError for what is neither a folder with a LoRA nor the name of one that comes with srec."""
    from srec.lm.lora import check_files

    try:
        check_files(lora)
    except ModelError as error:
        raise InputError(str(error)) from error


def fusion(data: str, *, attributes: list[str] | None = None) -> ItemFusion:
    """Open questions about items; of a generated toy shop, the closed ones that its truth answers."""
    from srec import ItemFusion
    from srec.evaluation.stages.fused import toy_fusion

    return ItemFusion(attributes=attributes) if attributes or toy_shop(data) is None else toy_fusion()


def program(
    fusion: ItemFusion, *, recent: int, window: int, step: int, reasoning: str, view: str, workers: int
) -> MLLMSRec:
    """The program that the options ask for, without an LM."""
    from srec import CoTScoring, MLLMSRec, TemporalPreference

    scoring: Any = {"reasoning": reasoning, "view": view}  # checked by the stage
    return MLLMSRec(
        fusion=fusion,
        preference=TemporalPreference(window=window, step=step),
        scoring=CoTScoring(**scoring, workers=workers),
        recent=recent,
        workers=workers,
    )


def saved(program: MLLMSRec, name: str | None, source: Dataset, context: typer.Context) -> MLLMSRec:
    """The program that was saved under `name`, with its settings; `program` where no name is given.

    One with stages of somebody's own cannot be built again: its prompts are set in `program`. Settings
    that were typed beside one that has its own are refused.
    """
    from srec import CoTScoring, load_program
    from srec.artifact import is_whole

    if name is None:
        return program
    if not is_whole(name):
        custom: MLLMSRec = load_program(name, into=program, items=source.items)
        return custom
    if settings := [option for option in SETTINGS if is_typed(context, option)]:
        raise InputError(f"program {name!r} was saved with its own settings; leave out --{settings[0]}, or --program")
    loaded: MLLMSRec = load_program(name, items=source.items)
    loaded.workers = program.workers
    if isinstance(loaded.scoring, CoTScoring):
        loaded.scoring.workers = program.workers
    return loaded


def is_typed(context: typer.Context, option: str) -> bool:
    """Whether the command line names an option, by the name of its parameter."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def several(text: str | None) -> list[str] | None:
    """What stands between commas; None of None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
