"""How good it is: rankers on the same cases, or each stage against a truth that is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srec import show
from srec.cli import named
from srec.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_RANKERS,
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
    StoreFolder,
    Strict,
    Task,
    Users,
    View,
    WindowSize,
    Workers,
)
from srec.cli.outcome import end, print_report, tell_rejected, unscored
from srec.errors import InputError
from srec.exits import notice

if TYPE_CHECKING:
    from srec.data.cases import CaseSet
    from srec.recommender import MLLMSRec


def evaluate(
    data: Data,
    *,
    ranker: Annotated[
        str, typer.Option(help=f"program, {DEFAULT_RANKERS.replace(',', ', ')}, run:FILE; several by commas.")
    ] = DEFAULT_RANKERS,
    model: Model = DEFAULT_MODEL,
    task: Task = "next",
    protocol: Protocol = "leave-last-out",
    candidates: Candidates = "full",
    users: Users = None,
    seed: Seed = 0,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    program_name: ProgramName = None,
    store: StoreFolder = None,
    workers: Workers = 16,
    json_to: Json = None,
    runs: Annotated[Path | None, typer.Option(help="Write the rankings here, in TREC's format.")] = None,
    write_candidates: Annotated[Path | None, typer.Option(help="Write the candidates, for file:PATH.")] = None,
    strict: Strict = False,
    stages: Annotated[bool, typer.Option("--stages", help="Hold each stage against a toy shop's truth.")] = False,
) -> None:
    """Measure rankers on the same cases: a table with intervals, and what it cost."""
    from srec import cases
    from srec import evaluate as run
    from srec.evaluation.rankers import BASELINES

    out, names = show.console(json_to), named.several(ranker) or []
    for name in names:
        if name not in (*BASELINES, "program") and not name.startswith("run:"):
            raise InputError(f"ranker {name!r} is not known; give program, {', '.join(BASELINES)} or run:FILE")
    program = named.program(
        named.fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    if stages:
        _evaluate_stages(data, program, model=model, users=users, store=store, workers=workers, json_to=json_to)
        return
    source = named.dataset(data, strict=strict)
    chosen = cases(source, task=task, protocol=protocol, candidates=candidates, users=users, seed=seed)
    if program_name is not None:
        program = named.saved(program, program_name, source)
        chosen = _unlearned(chosen, program_name)
    if write_candidates is not None:
        chosen.write(write_candidates)
    lm = named.lm(model, out, connections=workers) if "program" in names else None
    kept_in = named.store(store, source) if "program" in names else None
    entries: dict[str, Any] = {name: program if name == "program" else name for name in names}
    report = run(chosen, entries, seed=seed, workers=workers, lm=lm, store=kept_in, runs_folder=runs)
    tell_rejected(source)
    print_report(report, out)
    show.write_json(report.to_json(), json_to)
    end(unscored(report), "the program left candidates without a score; the table's notes say why")


def _evaluate_stages(
    data: str,
    program: MLLMSRec,
    *,
    model: str,
    users: int | None,
    store: Path | None,
    workers: int,
    json_to: str | None,
) -> None:
    """Print what every stage reached in a toy shop; all that decides it is the name of the shop, model and program."""
    from srec.evaluation.stages.run import run

    asked = named.toy_shop(data)
    if asked is None:
        raise InputError(f"--stages needs a world whose truth is known, not {data!r}; give toyshop:ITEMSxUSERS@SEED")
    out = show.console(json_to)
    items, shoppers, seed = asked
    report = run(
        named.lm(model, out, connections=workers),
        items=items,
        users=min(shoppers, users or shoppers),
        seed=seed,
        program=program,
        store=store or Path("runs") / "toyshop",
        workers=workers,
    )
    print_report(report, out)
    show.write_json(report.to_json(), json_to)
    end(sum(report.failed.values()), "some calls failed and count as wrong; the table's notes say why")


def _unlearned(chosen: CaseSet, name: str) -> CaseSet:
    """The cases of users that a program neither learned from nor was chosen by."""
    from srec.artifact import card_of
    from srec.learn.optimize import user_hash

    split = card_of(name).get("split", {})
    known = {*split.get("train", ()), *split.get("dev", ())}
    users = {spec.user_id for fold in chosen.folds for spec in fold.specs}
    learned = {user_id for user_id in users if user_hash(user_id) in known}
    if learned:
        notice(f"{len(learned)} users are left out, since the program {name} was made with them")
    return chosen.without(learned)
