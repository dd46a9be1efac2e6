"""How good it is, and what it rests on: rankers on the same cases, stages against a known truth, probes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srec import show
from srec.cli import named
from srec.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_RANKERS,
    Candidates,
    Cutoffs,
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
from srec.cli.outcome import end, print_report, tell_rejected, unscored, write_object
from srec.cli.parts import check_outputs, need, numbers, of_cases, projections, refuse, told_of
from srec.errors import InputError
from srec.exits import notice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from srec.data.cases import CaseSet
    from srec.evaluation.seeds import SeedReport
    from srec.recommender import MLLMSRec


BESIDE_STAGES = frozenset(
    {"data", "stages", "model", "users", "store", "workers", "json_to", "recent", "window", "step", "reasoning", "view"}
)
"""What `srec evaluate --stages` goes by; all else is for rankers on cases."""
OF_A_PROGRAM = frozenset({"model", "recent", "window", "step", "reasoning", "view"})
"""What says nothing where no ranker is a program; a saved one also says which users are left out."""


def evaluate(
    context: typer.Context,
    data: Data,
    *,
    ranker: Annotated[
        str,
        typer.Option(
            help=f"program, ablated:PROBE, {DEFAULT_RANKERS.replace(',', ', ')}, run:FILE, blend:NAME+NAME; by commas."
        ),
    ] = DEFAULT_RANKERS,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A TREC run file of any system, as one more ranker; as many as you like."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    task: Task = "next",
    protocol: Protocol = "leave-last-out",
    cutoffs: Cutoffs = None,
    candidates: Candidates = "full",
    users: Users = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Once for each of so many seeds, from --seed on.")] = 1,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What pairs, slices and page compare by: auc, ndcg@K, recall@K, mrr@K; the table too is at K."
        ),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="METRIC", help="--metric METRIC, and test every pair of rankers.")
    ] = None,
    slices: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Metrics on parts: item,history,image,tie,gap, or all.")
    ] = None,
    beyond: Annotated[bool, typer.Option("--beyond", help="Coverage, Gini, popularity of what comes first.")] = False,
    calibration: Annotated[
        bool,
        typer.Option(
            "--calibration", help="Of what is given 30 %, do 30 % come true? For each ranker of probabilities."
        ),
    ] = False,
    blend_users: Annotated[
        int, typer.Option(min=1, help="Validation cases of a blend, each with candidates as asked for, at most.")
    ] = 200,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    program_name: ProgramName = None,
    store: StoreFolder = None,
    workers: Workers = 16,
    json_to: Json = None,
    write_runs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the rankings as TREC run files, for --run FILE.")
    ] = None,
    costs: Annotated[bool, typer.Option("--costs", help="What each stage and a recommendation took.")] = False,
    project: Annotated[
        str | None,
        typer.Option(metavar="ITEMSxUSERS", help="What the program would take for so many; xCANDIDATES at will."),
    ] = None,
    price: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Money for a million tokens in and out, for --project.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep the run in this folder, for srec report; it may hold other things.")
    ] = None,
    per_case: Annotated[bool, typer.Option("--per-case", help="With --json, the ranking of each case too.")] = False,
    write_candidates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the candidates, for --candidates file:PATH.")
    ] = None,
    strict: Strict = False,
    stages: Annotated[bool, typer.Option("--stages", help="Hold each stage against a toy shop's truth.")] = False,
) -> None:
    """Measure rankers on the same cases: a table with intervals, and what it cost."""
    from srec import cases, evaluate_seeds
    from srec.evaluation.named import RUN, check_name, means_program
    from srec.evaluation.named import named as rankers
    from srec.evaluation.slices import named_slicings

    if stages:
        why = "--stages goes by the name of the shop, the model and the program alone"
        refuse(context, lambda name: name not in BESIDE_STAGES, why=why)
    need("--price", price, beside="--project ITEMSxUSERS", given=project)
    need("--per-case", per_case or None, beside="--json OUT", given=json_to)
    console, names = show.console(json_to), [*(named.several(ranker) or []), *(f"{RUN}{file}" for file in run or [])]
    for name in names:
        check_name(name)
    asks = any(map(means_program, names))
    need("--project", project, beside="a program to measure", given=asks or None)
    _check_idle(context, names, asks=asks or stages)
    _check_draws(names, candidates, write_candidates, seeds=seeds)
    check_outputs({"--json": json_to, "--write-candidates": write_candidates}, out=out, write_runs=write_runs)
    sizes, prices = numbers(project, "--project", "x", int, counts=(2, 3)), numbers(price, "--price", ",", float)
    metric = _one_metric(metric, compare)
    by = None if slices in (None, "all") else list(named_slicings(named.several(slices)))
    program = named.program(
        named.fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    if stages:
        _evaluate_stages(data, program, model=model, users=users, store=store, workers=workers, json_to=json_to)
        return
    source = named.dataset(data, strict=strict)
    program = named.saved(program, program_name, source, context)

    def make(seed: int) -> CaseSet:
        asked: dict[str, Any] = {"task": task, "protocol": protocol, "candidates": candidates, "users": users}
        with named.keeping_texts(candidates, store, source):
            chosen = cases(source, seed=seed, cutoffs=_seconds(cutoffs), **asked)
        return chosen if program_name is None else _unlearned(chosen, program_name)

    first = make(seed)
    if write_candidates is not None:
        first.write(write_candidates)
    found = evaluate_seeds(
        lambda one: first if one == seed else make(one),
        rankers(names, cases=first, program=program, users=blend_users),
        seeds=range(seed, seed + seeds),
        metric=metric,
        workers=workers,
        lm=named.lm(model, console, connections=workers) if asks else None,
        store=named.store(store, source) if asks else None,
        runs_folder=write_runs,
        out=out,
    )
    tell_rejected(source)
    projected = {one: list(projections(report, sizes, price=prices)) for one, report in found.reports.items()}
    _write(found, json_to, per_case=per_case, projected=projected)
    for at, one in found.reports.items():
        more = [one.beyond] * beyond + [one.calibration] * calibration + [one.costs] * costs + projected[at]
        for part in (*of_cases(one, compared=compare is not None, sliced=slices is not None, by=by), *more):
            print_report(part, console)
    if seeds > 1:
        print_report(found.table, console)
    left_out = sum(map(unscored, found.reports.values()))
    end(left_out, "the program left candidates without a score; the table's notes say why")


def _write(found: SeedReport, json_to: str | None, *, per_case: bool, projected: Mapping[int, Sequence[Any]]) -> None:
    """The report of one seed or all as JSON, for which every pair of rankers is tested, where it is asked for."""
    if json_to is None:
        return
    told = found.to_dict(per_case=per_case)
    for seed, report in told["reports"].items():
        report["projected"] = told_of(projected[int(seed)])
    write_object(told if len(found.reports) > 1 else next(iter(told["reports"].values())), json_to)


def _check_idle(context: typer.Context, names: list[str], *, asks: bool) -> None:
    """Raise InputError for options that say nothing to rankers of these names; a program `asks`, or none does."""
    from srec.evaluation.named import BLEND

    if not asks:
        why = "no ranker is a program (to ask one, add program to --ranker)"
        refuse(context, OF_A_PROGRAM.__contains__, why=why)
    if not any(name.startswith(BLEND) for name in names):
        refuse(context, "blend_users".__eq__, why="no ranker is a blend")


def _check_draws(names: list[str], candidates: str, write_candidates: Path | None, *, seeds: int) -> None:
    """Raise InputError for what goes with the candidates of one seed alone where there are several."""
    drawn = candidates.partition(":")[0] in ("uniform", "popularity")
    runs = [name for name in names if "run:" in name] if drawn else []
    file = candidates if candidates.startswith("file:") else ""
    given = "--write-candidates" if write_candidates is not None else next(iter(runs), file)
    if given and seeds > 1:
        raise InputError(f"{given} is of the candidates of one seed, and --seeds {seeds} draws others; leave one out")


def report(
    run: Annotated[Path, typer.Argument(help="A folder that srec evaluate --out wrote.")],
    *,
    out: Annotated[Path | None, typer.Option(help="The HTML file; by default report.html in the folder.")] = None,
    users: Annotated[int, typer.Option(min=0, help="How many users to tell of.")] = 20,
    choose: Annotated[str, typer.Option(help="Whom: those served worst or best, or random ones.")] = "worst",
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Tell of this user, instead; as many as you like.")
    ] = None,
    ranker: Annotated[
        str | None, typer.Option(help="The ranker that serves them; by default the program, else the first.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write one HTML page about a run: tables, plots, users with their pictures, prompts. It loads nothing."""
    from srec import report as write

    choice: Any = choose  # checked there
    page = write(run, out=out, users=user or users, choice=choice, ranker=ranker, seed=seed)
    show.console().print(str(page), markup=False, soft_wrap=True)


def _one_metric(metric: str | None, compare: str | None) -> str | None:
    """What `--metric` and `--compare` ask for, checked before anybody ranks."""
    from srec.evaluation.metrics import rank_of

    for asked in (metric, compare):
        if asked is not None:
            rank_of(asked)
    if metric and compare and metric != compare:
        raise InputError(f"--metric {metric} and --compare {compare} ask for two metrics; give one of them")
    return metric or compare


def _seconds(listed: str | None) -> list[int] | None:
    """The cut-offs of an argument, each whole Unix seconds or an ISO date, whose day begins in UTC."""
    return None if listed is None else [_second(part) for part in named.several(listed) or []]


def _second(told: str) -> int:
    """Unix seconds, or those of a date."""
    try:
        if told.isdecimal():
            return int(told)
        at = datetime.fromisoformat(told)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        raise InputError(
            f"cut-off {told!r} is no date and no Unix seconds; give such as 2024-01-01 or 1704067200, by commas"
        ) from None


def probe(
    context: typer.Context,
    data: Data,
    *,
    model: Model = DEFAULT_MODEL,
    probes: Annotated[
        str | None,
        typer.Option(help="By commas, by default all; fig6 is those of the paper's Fig. 6. A wrong name lists them."),
    ] = None,
    metric: Annotated[str, typer.Option(help="auc, or ndcg@10, recall@10, mrr@10 at a rank of yours.")] = "auc",
    task: Task = "next",
    protocol: Protocol = "leave-last-out",
    cutoffs: Cutoffs = None,
    candidates: Candidates = "uniform:20",
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
    strict: Strict = False,
) -> None:
    """Change one thing at a time (pictures, texts, order, stages) and see what it does to the program's ranking."""
    from srec import cases
    from srec import probe as run
    from srec.evaluation.metrics import rank_of
    from srec.evaluation.probes import chosen as probes_of

    out, wanted = show.console(json_to), probes_of(named.several(probes))
    rank_of(metric)
    program = named.program(
        named.fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    source = named.dataset(data, strict=strict)
    with named.keeping_texts(candidates, store, source):
        chosen: dict[str, Any] = {"task": task, "protocol": protocol, "candidates": candidates, "users": users}
        asked = cases(source, seed=seed, cutoffs=_seconds(cutoffs), **chosen)
    if program_name is not None:
        program = named.saved(program, program_name, source, context)
        asked = _unlearned(asked, program_name)
    report = run(
        asked,
        program,
        lm=named.lm(model, out, connections=workers),
        probes=wanted,
        metric=metric,
        seed=seed,
        workers=workers,
        store=named.store(store, source),
    )
    tell_rejected(source)
    print_report(report, out)
    show.write_json(report.to_json(), json_to)
    end(report.unscored, "some candidates have no score; the notes below the table say why")


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
    parts = [split.get(part, []) for part in ("train", "dev")] if isinstance(split, dict) else [split]
    if not all(isinstance(part, list) and all(isinstance(one, str) for one in part) for part in parts):
        raise InputError(f"the card of the program {name} does not tell by its split whom it learned from; restore it")
    known = {one for part in parts for one in part}
    users = {spec.user_id for fold in chosen.folds for spec in fold.specs}
    learned = {user_id for user_id in users if user_hash(user_id) in known}
    if learned:
        notice(f"{len(learned)} users are left out, since the program {name} was made with them")
    return chosen.without(learned)
