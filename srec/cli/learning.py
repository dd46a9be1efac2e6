"""Better prompts, rows from a teacher, and a LoRA trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srec import show
from srec.cli import named
from srec.cli.options import (
    DEFAULT_MODEL,
    Candidates,
    Data,
    Json,
    Model,
    ProgramName,
    Protocol,
    Reasoning,
    Recent,
    Seed,
    Step,
    Task,
    Users,
    View,
    WindowSize,
    Workers,
)
from srec.cli.outcome import end, write_object
from srec.errors import InputError

if TYPE_CHECKING:
    from srec.data.folder import Dataset
    from srec.learn.optimizers import Optimizer
    from srec.types import Case


def optimize(
    context: typer.Context,
    data: Data,
    *,
    calls: Annotated[int, typer.Option(min=1, help="The most LM calls that may be made, all counted.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the program to write; a killed run goes on.")],
    optimizer: Annotated[str, typer.Option(help="gepa, bootstrap (demos) or instructions.")] = "gepa",
    metric: Annotated[str, typer.Option(help="ndcg@K, recall@K, mrr@K, auc or pairwise.")] = "ndcg@10",
    stages: Annotated[str, typer.Option(help="joint, or stages by commas: one after the other.")] = "joint",
    model: Model = DEFAULT_MODEL,
    reflection_model: Annotated[str | None, typer.Option(help="Who writes instructions; by default --model.")] = None,
    reflection_images: Annotated[
        bool, typer.Option("--reflection-images", help="Of gepa: who writes instructions sees the pictures too.")
    ] = False,
    train: Annotated[int, typer.Option(min=1, help="Users to learn from.")] = 16,
    dev: Annotated[int, typer.Option(min=1, help="Other users, to decide by.")] = 16,
    task: Task = "next",
    protocol: Protocol = "leave-last-out",
    candidates: Candidates = "uniform:10",
    seed: Seed = 0,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    program_name: ProgramName = None,
    workers: Annotated[int, typer.Option(min=1, help="Cases at once.")] = 4,
    json_to: Json = None,
) -> None:
    """Search for better prompts within a budget of LM calls; they are kept if they are not worse on other users."""
    from srec import cases
    from srec import optimize as run
    from srec.learn.objective import metric_named

    way, _ = _way(optimizer, images=reflection_images), metric_named(metric)  # said before a model is loaded
    source, out = named.dataset(data), show.console(json_to)
    with named.keeping_texts(candidates, None, source):
        chosen = cases(source, task=task, protocol=protocol, candidates=candidates, users=train + dev, seed=seed)
    learned, held = _by_user(list(chosen), train, dev, name=source.name)
    program = named.program(
        named.fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=16
    )
    program = named.saved(program, program_name, source, context)
    lm = named.lm(model, out, connections=16 * workers)
    writer = lm if reflection_model is None else named.lm(reflection_model, out)
    result = run(
        program,
        learned,
        held,
        optimizer=way,
        metric=metric,
        lm=lm,
        reflection_lm=writer,
        calls=calls,
        stages=stages if stages == "joint" else named.several(stages) or [],
        out=out_folder,
        about={
            "dataset": source.name,
            "task": task,
            "protocol": protocol,
            "candidates": candidates,
            "cases_seed": seed,
        },
        seed=seed,
        workers=workers,
    )
    out.print(str(result), markup=False)
    out.print(f"written to {out_folder}; read {out_folder / 'prompts.md'}", markup=False)
    write_object({"data": source.name, "model": lm.model, **result.to_object()}, json_to)


def distill(
    context: typer.Context,
    data: Data,
    *,
    out: Annotated[Path, typer.Option(help="The folder for rows.jsonl, images/ and what was asked.")],
    model: Model = DEFAULT_MODEL,
    keep: Annotated[
        float | None, typer.Option(help="Keep the rows of cases of this outcome or more, from 0 to 1; without it all.")
    ] = None,
    metric: Annotated[str, typer.Option(help="The outcome: auc, ndcg@10, recall@10, mrr@10.")] = "auc",
    show_answer: Annotated[
        bool, typer.Option("--show-answer", help="Tell the teacher's reasoning what was taken; its rows are marked.")
    ] = False,
    verdicts: Annotated[
        str | None, typer.Option(help="Write verdicts.jsonl from real labels too: 1:1, 1:4 or all negatives.")
    ] = None,
    sampling: Annotated[
        str, typer.Option(help="Negatives of verdicts: uniform, popularity, or the hardest for a ranker: item-knn.")
    ] = "uniform",
    label: Annotated[
        str, typer.Option(help="What verdicts go by: interaction, or rating:4.0 from which an item is liked.")
    ] = "interaction",
    training_users: Annotated[
        Path | None,
        typer.Option(help="A file of user ids, one a line; by default all, of a toyshop its training users."),
    ] = None,
    task: Task = "next",
    protocol: Protocol = "leave-last-out",
    candidates: Candidates = "uniform:20",
    users: Users = None,
    seed: Seed = 0,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    program_name: ProgramName = None,
    workers: Workers = 16,
    json_to: Json = None,
) -> None:
    """Run the program with a teacher over training cases; each of its calls becomes a row to learn from."""
    from srec import cases, verdict_rows
    from srec import distill as run
    from srec.learn.verdicts import check_choice

    check_choice(verdicts or "all", sampling, label)  # what is misspelled is said before a teacher is asked
    screen = show.console(json_to)
    source = _training_part(data, training_users)
    with named.keeping_texts(candidates, None, source):
        chosen = cases(source, task=task, protocol=protocol, candidates=candidates, users=users, seed=seed)
    program = named.program(
        named.fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    if program_name is not None:
        whole = named.dataset(data)  # a demo may show a picture of any item
        program = named.saved(program, program_name, whole, context)
    lm = named.lm(model, screen, connections=workers)
    told: dict[str, Any] = {"lm": lm, "out": out, "users": source.users, "show_answer": show_answer}
    told |= {"workers": workers, "seed": seed}
    report = run(program, chosen, keep=keep, metric=metric, **told)
    screen.print(str(report), markup=False)
    found: dict[str, Any] = {"data": source.name, "model": lm.model, **report.to_dict()}
    if verdicts is not None:
        judged = verdict_rows(program, chosen, negatives=verdicts, sampling=sampling, label=label, **told)
        screen.print(str(judged), markup=False)
        found["verdicts"] = judged.to_dict()
    write_object(found, json_to)
    end(report.cases_failed, f"{report.cases_failed:,} of {report.cases:,} cases failed; run again to try these again")


def train(
    rows: Annotated[Path, typer.Argument(help="A file of rows, images/ beside it.")],
    *,
    base: Annotated[str, typer.Option(help="The local model to train: local:NAME or local:FOLDER.")] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="A folder of its own for the LoRA; a killed training goes on there.")],
    dev: Annotated[Path | None, typer.Option(help="Verdict rows of other users: when to stop, what to keep.")] = None,
    start: Annotated[Path | None, typer.Option(help="A LoRA of the same base and rank to go on from.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often each row is seen.")] = 3,
    rank: Annotated[int, typer.Option(min=1, help="Width of the LoRA.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="The highest; it falls as a cosine.")] = 2e-4,
    ranking: Annotated[float, typer.Option(min=0.0, help="Weight of the loss over a user's candidates.")] = 0.0,
    stage: Annotated[
        list[str] | None, typer.Option(metavar="NAME=WEIGHT", help="How much rows of a stage count; 0 leaves it out.")
    ] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="Most rows computed at once.")] = 32,
    batch_positions: Annotated[int, typer.Option(min=1, help="Most tokens computed at once; memory follows.")] = 4096,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches to one step.")] = 1,
    patience: Annotated[int, typer.Option(min=1, help="Looks at --dev without a better AUC that end it.")] = 3,
    merge: Annotated[bool, typer.Option("--merge", help="Write a whole model in place of a LoRA.")] = False,
    seed: Seed = 0,
    json_to: Json = None,
) -> None:
    """Train a LoRA of a local model on rows, and write it with a card."""
    from dataclasses import asdict

    from srec import TrainConfig
    from srec import train as run

    named.check_model(base)
    config = TrainConfig(
        epochs=epochs,
        rank=rank,
        learning_rate=learning_rate,
        ranking=ranking,
        stages=_weights(stage or []),
        batch_rows=batch_rows,
        batch_positions=batch_positions,
        accumulate=accumulate,
        patience=patience,
        merge=merge,
        seed=seed,
    )
    made = run(rows, base=base, out=out, config=config, dev=dev, start=start)
    told = ", ".join(f"{name} {number:g}" for name, number in made.metrics.items())
    show.console(json_to).print(f"{made.base} -> {made.folder}: {told}", markup=False)
    write_object({**asdict(made), "folder": str(made.folder)}, json_to)


def merge(
    lora: Annotated[str, typer.Argument(help="The folder of a LoRA, or the name of one that comes with srec.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the whole model.")],
    *,
    base: Annotated[str, typer.Option(help="The model that the LoRA was trained on.")] = DEFAULT_MODEL,
) -> None:
    """Write the whole model that a LoRA makes of its base, for whatever loads models."""
    from srec import merge as run

    named.check_model(base)
    named.check_lora(lora)
    show.console().print(f"{base} with {lora} -> {run(lora, base=base, out=out)}", markup=False)


def _way(optimizer: str, *, images: bool) -> Optimizer:
    """The way to optimize, with pictures for who writes instructions if they are asked for."""
    from srec.learn.optimizers import gepa, optimizer_of

    if not images:
        return optimizer_of(optimizer)
    if optimizer != "gepa":
        raise InputError(f"--reflection-images is for gepa, {optimizer!r} shows nobody pictures; leave it out")
    return gepa(images=True)


def _weights(given: list[str]) -> dict[str, float]:
    """Weights by stage."""
    found = {}
    for one in given:
        name, _, weight = one.partition("=")
        try:
            found[name.strip()] = float(weight)
        except ValueError:
            raise InputError(f"--stage {one!r} is no name with a weight; write it as scoring.judge=2") from None
    return found


def _by_user(found: list[Case], train: int, dev: int, *, name: str) -> tuple[list[Case], list[Case]]:
    """The cases of the first users, and those of as many others; a user may have a case in several folds."""
    users = list(dict.fromkeys(case.user_id for case in found))
    if len(users) < train + dev:
        raise InputError(
            f"{name!r} has {len(users)} users with a case, {train} and {dev} are asked for; lower --train or --dev"
        )
    learned = set(users[:train])
    return [case for case in found if case.user_id in learned], [case for case in found if case.user_id not in learned]


def _training_part(data: str, users: Path | None) -> Dataset:
    """The dataset that an argument names, of its training users alone, and of a toy shop's training items."""
    from srec import toyshop
    from srec.data.part import part

    listed = None if users is None else _lines(users)
    asked = named.toy_shop(data)
    if asked is None:
        source = named.dataset(data)
        return source if listed is None else part(source, users=listed)
    items, shoppers, seed = asked
    shop = toyshop(items=items, users=shoppers, seed=seed)
    held_out = sorted(set(listed or ()) & set(shop.held_out_users))
    if held_out:
        raise InputError(
            f"user {held_out[0]!r} is held out of all training in this toy shop; leave them out of {users}"
        )
    return part(shop.data, users=listed or shop.training_users, items=shop.training_items)


def _lines(file: Path) -> list[str]:
    """The lines of a file that are not blank; at least one."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; name a file of user ids") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error.reason}); name a file of user ids") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"{file} names no user; write an id a line, or leave the option out for all")
    return found
