"""The verbs on the command line: parse, call one public function, print.

What is slow to import is imported by the verb that needs it, so that `--help` is instant. How a verb ends is said in
`srec.exits`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srec import show
from srec.errors import InputError, ModelError
from srec.exits import FAILED, INTERRUPTED, Verbs, notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srec.data.cases import CaseSet
    from srec.data.folder import Dataset
    from srec.evaluation.report import Report
    from srec.recommender import MLLMSRec, Recommendation
    from srec.stages.fusion import ItemFusion

DEFAULT_MODEL = "local:"
DEMONSTRATION = ("smollm2-135m", "srec-tiny")  # models that show that all works, and no more
DEFAULT_RANKERS = "random,popularity,recent-popularity,markov,item-knn,content-knn"
TOYSHOP = re.compile(r"toyshop(?::(\d{1,7})x(\d{1,7})(?:@(\d{1,9}))?)?")

app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=f"\b\nTry: srec demo --model {DEFAULT_MODEL}",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[str, typer.Argument(help="A dataset folder, or the generated toyshop, or toyshop:ITEMSxUSERS@SEED.")]
Model = Annotated[
    str,
    typer.Option(
        help="local:NAME, local:FOLDER, either with #LORA_FOLDER, vllm:URL#MODEL, URL#MODEL or PROVIDER/MODEL; "
        "local: alone is $SREC_LOCAL_MODEL, else srec-tiny."
    ),
]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Folder of results; by default runs/<dataset>.")]
Workers = Annotated[int, typer.Option(min=1, help="How many things are worked on at once.")]
Json = Annotated[str | None, typer.Option("--json", metavar="OUT", help="Write one JSON object to a file, or to - .")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row or image that cannot be used.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same numbers.")]
User = Annotated[str, typer.Option(help="The user's id.")]
Recent = Annotated[int, typer.Option(min=1, help="How many of the last events the program reads.")]
WindowSize = Annotated[int, typer.Option("--window", min=1, help="Events in a window of the preference.")]
Step = Annotated[int, typer.Option(min=1, help="Events from one window to the next.")]
Reasoning = Annotated[str, typer.Option(help="user (once a user), candidate (for each) or none (the paper's prompt).")]
View = Annotated[str, typer.Option(help="How a candidate is shown: description, image or both.")]
ProgramName = Annotated[
    str | None, typer.Option("--program", help="A saved program: a folder, or the name of one that srec ships.")
]


@app.callback(invoke_without_command=True)
def srec(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,  # noqa: FBT002  typer's form of a flag
) -> None:
    """Rank items for users by prompts to a multimodal language model, with reasons and with numbers."""
    if version:
        from srec import __version__  # noqa: PLC0415

        typer.echo(f"srec {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog=f"\b\nTry: srec demo --items 30 --users 4 --model {DEFAULT_MODEL}")
def demo(
    *,
    items: Annotated[int, typer.Option(min=4, help="Toys in the shop; a shopper buys at most half.")] = 40,
    users: Annotated[int, typer.Option(min=2, help="Shoppers.")] = 12,
    model: Model = DEFAULT_MODEL,
    seed: Seed = 0,
    store: Annotated[Path | None, typer.Option("--store", help="Keep the results in this folder.")] = None,
) -> None:
    """Make a toy shop, rank its toys with the program and with baselines, and explain three recommendations."""
    from srec import MLLMSRec, cases, evaluate, explain, keep, toyshop  # noqa: PLC0415
    from srec.data.unseen import unseen  # noqa: PLC0415
    from srec.evaluation.stages.fused import toy_fusion  # noqa: PLC0415

    data, out = toyshop(items=items, users=users, seed=seed).data, show.console()
    chosen = cases(data, candidates=f"uniform:{min(20, items // 2)}", seed=seed)
    lm = _connect(model, out)
    program = MLLMSRec(fusion=toy_fusion(), recent=20, lm=lm)
    with TemporaryDirectory(prefix="srec-demo-") as aside, keep(store or aside) as kept:
        names = DEFAULT_RANKERS.split(",")
        report = evaluate(chosen, {"program": program, **{n: n for n in names}}, seed=seed, lm=lm, store=kept)
        _print_report(report, out)
        user_id = data.users[0]
        made = program.recommend(data.history(user_id), unseen(data, user_id, candidates="full"))
    out.print(f"\nThree recommendations for {user_id}, out of all toys that were not bought yet:")
    show.reasons(out, explain(made, top=3), reasoning_once=True)
    _end(_unscored(report))


@app.command(epilog="\b\nTry: srec toyshop shop --items 30 --users 10")
def toyshop(
    folder: Annotated[Path, typer.Argument(help="Where to write; an empty or new folder.")],
    *,
    items: Annotated[int, typer.Option(min=2)] = 300,
    users: Annotated[int, typer.Option(min=2)] = 200,
    seed: Seed = 0,
) -> None:
    """Write the generated toy shop as a dataset folder: tables, pictures and all."""
    from srec import toyshop as make  # noqa: PLC0415

    if any((folder / name).exists() for name in ("items.csv", "items.parquet")):
        raise InputError(f"{folder} already holds a dataset; name an empty folder")
    shop = make(items=items, users=users, seed=seed)
    shop.write(folder)
    typer.echo(f"{len(shop.data.items):,} toys and {len(shop.data.interactions):,} purchases written to {folder}")


@app.command(epilog="\b\nTry: srec toyshop shop, which needs no files; then srec evaluate shop")
def convert(
    kind: Annotated[str, typer.Argument(help="movielens, recbole, amazon-2014, amazon-2018, amazon-2023, microlens.")],
    source: Annotated[Path, typer.Argument(help="The folder with the published files.")],
    folder: Annotated[Path, typer.Argument(help="The dataset folder to write.")],
    *,
    min_events: Annotated[int, typer.Option(min=0, help="Leave out users and items with fewer, again and again.")] = 0,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures named by item id.")] = None,
) -> None:
    """Write a public dataset in its published files as a dataset folder."""
    from srec import convert as run  # noqa: PLC0415

    typer.echo(str(run(kind, source, folder, min_events=min_events, images=images)))


@app.command(epilog=f"\b\nTry: srec describe toyshop:20x5 --model {DEFAULT_MODEL} --limit 5")
def describe(
    data: Data,
    *,
    model: Model = DEFAULT_MODEL,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    attributes: Annotated[str | None, typer.Option(help="The attributes to read, separated by commas.")] = None,
    store: StoreFolder = None,
    workers: Workers = 16,
    json_to: Json = None,
    strict: Strict = False,
) -> None:
    """Describe every item from its picture and text. What is in the store is not asked again; failures are."""
    from itertools import islice  # noqa: PLC0415

    from srec import ItemDescription, bulk, count_usage  # noqa: PLC0415

    source, out = _load(data, strict=strict), show.console(json_to)
    lm = _connect(model, out, connections=workers)
    fusion = _fusion(data, attributes=_listed(attributes))
    fusion.set_lm(lm)
    inputs = islice(source.items.values(), limit)
    total = min(limit or len(source.items), len(source.items))
    with count_usage() as usage, _quietly():
        outcomes = bulk.run(
            fusion,
            inputs,
            key=fusion.key,
            returns=ItemDescription,
            store=_store(store, source),
            workers=workers,
            label="describe",
            total=total,
        )
        shown = 0
        for outcome in outcomes:
            if outcome.value is not None and shown < 3:  # noqa: PLR2004  a few, to see what it is like
                show.described(out, outcome.input, outcome.value)
                shown += 1
    summary = outcomes.summary
    _tell_rejected(source)
    out.print(str(summary), markup=False)
    out.print(show.usage_line(usage, cached=summary.cached), markup=False)
    counted = {"data": source.name, "model": lm.model, "items": total, **show.summary_object(summary)}
    _write_object({**counted, **show.usage_object(usage), "cache_hits": summary.cached}, json_to)
    _end(summary.failed, f"{summary.failed:,} of {total:,} items failed; run again to try these again")


@app.command(epilog=f"\b\nTry: srec profile toyshop:20x5 --user user00000 --model {DEFAULT_MODEL}")
def profile(
    data: Data,
    *,
    user: User,
    model: Model = DEFAULT_MODEL,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    store: StoreFolder = None,
    workers: Workers = 32,
    json_to: Json = None,
) -> None:
    """Show how one user's taste moved, window by window, and the lasting profile."""
    from srec import MLLMSRec, TemporalPreference, count_usage, keep  # noqa: PLC0415
    from srec.data.unseen import check_user  # noqa: PLC0415

    source, out = _load(data), show.console(json_to)
    check_user(source, user)
    preference = TemporalPreference(window=window, step=step)
    lm = _connect(model, out, connections=workers)
    program = MLLMSRec(
        fusion=_fusion(data),
        preference=preference,
        scoring=lambda *_: [],
        recent=recent,
        workers=workers,
        lm=lm,
    )
    with keep(_store(store, source)), count_usage() as usage, _quietly():
        made = program.recommend(source.history(user), ())
    show.person(out, made)
    out.print(show.usage_line(usage), markup=False)
    about = {"data": source.name, "model": lm.model, **show.person_object(made)}
    _write_object({**about, **show.usage_object(usage)}, json_to)


@app.command(
    epilog=f"\b\nTry: srec rank toyshop:30x5 --user user00000 --candidates uniform:5 --model {DEFAULT_MODEL} --explain"
)
def rank(
    data: Data,
    *,
    user: User,
    candidates: Annotated[
        str,
        typer.Option(help="full, uniform:20, popularity:99, file:PATH (an id a line), or id,id,…; none seen before."),
    ] = "full",
    model: Model = DEFAULT_MODEL,
    explain: Annotated[bool, typer.Option("--explain", help="Say why.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    program_name: ProgramName = None,
    seed: Seed = 0,
    store: StoreFolder = None,
    workers: Workers = 32,
    json_to: Json = None,
) -> None:
    """Rank what a user has not seen, from all that the user did."""
    from srec import count_usage, keep  # noqa: PLC0415
    from srec.data.unseen import unseen  # noqa: PLC0415

    source, out = _load(data), show.console(json_to)
    chosen = unseen(source, user, candidates=candidates, seed=seed)
    if not chosen:
        raise InputError(f"user {user!r} has seen every item of {source.name!r}; there is nothing left to rank")
    program = _program(
        _fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    program = _with_saved(program, program_name, source)
    lm = _connect(model, out, connections=workers)
    program.set_lm(lm)
    with keep(_store(store, source)), count_usage() as usage, _quietly():
        made = program.recommend(source.history(user), chosen)
    _tell_rejected(source)
    show.ranking(out, made, top=top)
    rows = _explained(made, out, top=top, explained=explain, once=reasoning == "user")
    out.print(show.usage_line(usage), markup=False)
    about = {"data": source.name, "model": lm.model, "candidates": candidates, "n": len(chosen), "ranking": rows}
    _write_object({**about, **show.person_object(made), **show.usage_object(usage)}, json_to)
    failed = [score.error for score in made.scores if score.value is None]
    reason = failed[0] if failed else ""
    _end(len(failed), f"{len(failed):,} of {len(chosen):,} candidates were not scored; the first: {reason}")


@app.command(
    epilog="\b\nTry: srec evaluate toyshop:60x20 --ranker popularity,markov,content-knn --candidates uniform:20"
)
def evaluate(
    data: Data,
    *,
    ranker: Annotated[
        str, typer.Option(help=f"program, {DEFAULT_RANKERS.replace(',', ', ')}, run:FILE; several by commas.")
    ] = DEFAULT_RANKERS,
    model: Model = DEFAULT_MODEL,
    task: Annotated[str, typer.Option(help="next, or like:4.0 with the rating from which an item is liked.")] = "next",
    protocol: Annotated[str, typer.Option(help="leave-last-out or global-time.")] = "leave-last-out",
    candidates: Annotated[str, typer.Option(help="full, uniform:20, popularity:99 or file:PATH.")] = "full",
    users: Annotated[int | None, typer.Option(min=1, help="At most so many users, drawn by the seed.")] = None,
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
    from srec import cases  # noqa: PLC0415
    from srec import evaluate as run  # noqa: PLC0415
    from srec.evaluation.rankers import BASELINES  # noqa: PLC0415

    out, names = show.console(json_to), _listed(ranker) or []
    for name in names:
        if name not in (*BASELINES, "program") and not name.startswith("run:"):
            raise InputError(f"ranker {name!r} is not known; give program, {', '.join(BASELINES)} or run:FILE")
    program = _program(
        _fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    if stages:
        _evaluate_stages(data, program, model=model, users=users, store=store, workers=workers, json_to=json_to)
        return
    source = _load(data, strict=strict)
    chosen = cases(source, task=task, protocol=protocol, candidates=candidates, users=users, seed=seed)
    if program_name is not None:
        program = _with_saved(program, program_name, source)
        chosen = _unlearned(chosen, program_name)
    if write_candidates is not None:
        chosen.write(write_candidates)
    lm = _connect(model, out, connections=workers) if "program" in names else None
    kept_in = _store(store, source) if "program" in names else None
    entries: dict[str, Any] = {name: program if name == "program" else name for name in names}
    report = run(chosen, entries, seed=seed, workers=workers, lm=lm, store=kept_in, runs_folder=runs)
    _tell_rejected(source)
    _print_report(report, out)
    show.write_json(report.to_json(), json_to)
    _end(_unscored(report), "the program left candidates without a score; the table's notes say why")


@app.command(
    epilog="\b\nTry: srec optimize toyshop:30x12 --optimizer bootstrap --calls 2000 --train 2 --dev 2 "
    f"--candidates uniform:4 --model {DEFAULT_MODEL} --out programs/try"
)
def optimize(
    data: Data,
    *,
    calls: Annotated[int, typer.Option(min=1, help="The most LM calls that may be made, all counted.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the program to write; a killed run goes on.")],
    optimizer: Annotated[str, typer.Option(help="gepa, bootstrap (demos) or instructions.")] = "gepa",
    metric: Annotated[str, typer.Option(help="ndcg@K, recall@K, mrr@K, auc or pairwise.")] = "ndcg@10",
    stages: Annotated[str, typer.Option(help="joint, or stages by commas: one after the other.")] = "joint",
    model: Model = DEFAULT_MODEL,
    reflection_model: Annotated[str | None, typer.Option(help="Who writes instructions; by default --model.")] = None,
    train: Annotated[int, typer.Option(min=1, help="Users to learn from.")] = 16,
    dev: Annotated[int, typer.Option(min=1, help="Other users, to decide by.")] = 16,
    candidates: Annotated[str, typer.Option(help="full, uniform:20, popularity:99.")] = "uniform:10",
    seed: Seed = 0,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    workers: Annotated[int, typer.Option(min=1, help="Cases at once.")] = 4,
    json_to: Json = None,
) -> None:
    """Search for better prompts within a budget of LM calls; they are kept if they are not worse on other users."""
    from srec import cases  # noqa: PLC0415
    from srec import optimize as run  # noqa: PLC0415
    from srec.learn.objective import metric_named  # noqa: PLC0415
    from srec.learn.optimizers import optimizer_of  # noqa: PLC0415

    optimizer_of(optimizer), metric_named(metric)  # what is misspelled is said before a model is loaded
    source, out = _load(data), show.console(json_to)
    chosen = list(cases(source, candidates=candidates, users=train + dev, seed=seed))
    if len(chosen) < train + dev:
        raise InputError(
            f"{source.name!r} has {len(chosen)} users with a case, {train} and {dev} are asked for; lower --train or "
            "--dev"
        )
    program = _program(
        _fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=16
    )
    lm = _connect(model, out, connections=16 * workers)
    writer = lm if reflection_model is None else _connect(reflection_model, out)
    result = run(
        program,
        chosen[:train],
        chosen[train:],
        optimizer=optimizer,
        metric=metric,
        lm=lm,
        reflection_lm=writer,
        calls=calls,
        stages=stages if stages == "joint" else _listed(stages) or [],
        out=out_folder,
        about={"dataset": source.name, "candidates": candidates, "cases_seed": seed},
        seed=seed,
        workers=workers,
    )
    out.print(str(result), markup=False)
    out.print(f"written to {out_folder}; read {out_folder / 'prompts.md'}", markup=False)
    _write_object({"data": source.name, "model": lm.model, **result.to_object()}, json_to)


@app.command(epilog="\b\nTry: srec train runs/rows/rows.jsonl --base local: --out runs/lora")
def train(
    rows: Annotated[Path, typer.Argument(help="A file of rows, images/ beside it.")],
    *,
    base: Annotated[str, typer.Option(help="The local model to train: local:NAME or local:FOLDER.")] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="A folder of its own for the LoRA; a killed training goes on there.")],
    dev: Annotated[Path | None, typer.Option(help="Verdict rows of other users: when to stop, what to keep.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often each row is seen.")] = 3,
    rank: Annotated[int, typer.Option(min=1, help="Width of the LoRA.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="The highest; it falls as a cosine.")] = 2e-4,
    ranking: Annotated[float, typer.Option(min=0.0, help="Weight of the loss over a user's candidates.")] = 0.0,
    merge: Annotated[bool, typer.Option("--merge", help="Write a whole model in place of a LoRA.")] = False,
    seed: Seed = 0,
    json_to: Json = None,
) -> None:
    """Train a LoRA of a local model on rows, and write it with a card."""
    from dataclasses import asdict  # noqa: PLC0415

    from srec import TrainConfig  # noqa: PLC0415
    from srec import train as run  # noqa: PLC0415

    config = TrainConfig(epochs=epochs, rank=rank, learning_rate=learning_rate, ranking=ranking, merge=merge, seed=seed)
    made = run(rows, base=base, out=out, config=config, dev=dev)
    told = ", ".join(f"{name} {number:g}" for name, number in made.metrics.items())
    show.console(json_to).print(f"{made.base} -> {made.folder}: {told}", markup=False)
    _write_object({**asdict(made), "folder": str(made.folder)}, json_to)


@app.command(epilog="\b\nTry: srec serve --base srec-tiny")
def serve(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENT…]", help="Further arguments of vLLM's server.")
    ] = None,
    *,
    base: Annotated[
        str, typer.Option(help="srec-tiny, another packaged name, a folder or a hub repository.")
    ] = "local:",
    lora: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]FOLDER", help="A LoRA of the base; as many as you like.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where to listen; by default a free one.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Load the LoRAs into this running server instead.")] = None,
    python: Annotated[Path | None, typer.Option(help="The python that has vLLM; else $SREC_VLLM_PYTHON.")] = None,
    log: Annotated[Path | None, typer.Option(help="The file for what vLLM says.")] = None,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Most tokens of prompt and answer; 4096.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Answers that are written at once.")] = None,
    ready_within: Annotated[float, typer.Option(min=1, help="Seconds to wait until it is ready.")] = 600.0,
) -> None:
    """Serve a model and its LoRAs with vLLM until Ctrl-C, and say how to reach them."""
    from srec import start_server  # noqa: PLC0415

    served = False
    try:
        with (
            _ended_by_sigterm(),
            start_server(
                _named_folders(lora or []),
                base=base,
                base_url=base_url,
                python=python,
                port=port,
                log=log,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
                arguments=arguments or (),
                ready_within_s=ready_within,
            ) as server,
        ):
            served = True
            show.server(show.console(), server)
            server.wait()
    except KeyboardInterrupt:
        if not served:
            raise
        notice("the server has ended" if base_url is None else "the LoRAs were taken out again")


@app.command(
    epilog=f"\b\nTry: srec distill toyshop:30x5 --out rows --users 2 --candidates uniform:5 --model {DEFAULT_MODEL}"
)
def distill(
    data: Data,
    *,
    out: Annotated[Path, typer.Option(help="The folder for rows.jsonl, images/ and what was asked.")],
    model: Model = DEFAULT_MODEL,
    keep: Annotated[
        float | None, typer.Option(help="Least outcome of a case to keep its rows; all without it.")
    ] = None,
    metric: Annotated[str, typer.Option(help="The outcome: auc, ndcg@10, recall@10, mrr@10.")] = "auc",
    verdicts: Annotated[
        str | None, typer.Option(help="Write verdicts.jsonl from real labels too: 1:1, 1:4 or all negatives.")
    ] = None,
    training_users: Annotated[
        Path | None,
        typer.Option(help="A file of user ids, one a line; by default all, of a toyshop its training users."),
    ] = None,
    task: Annotated[str, typer.Option(help="next, or like:4.0 with the rating from which an item is liked.")] = "next",
    protocol: Annotated[str, typer.Option(help="leave-last-out or global-time.")] = "leave-last-out",
    candidates: Annotated[str, typer.Option(help="full, uniform:20, popularity:99 or file:PATH.")] = "uniform:20",
    users: Annotated[int | None, typer.Option(min=1, help="At most so many users, drawn by the seed.")] = None,
    seed: Seed = 0,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    workers: Workers = 16,
    json_to: Json = None,
) -> None:
    """Run the program with a teacher over training cases; each of its calls becomes a row to learn from."""
    from srec import cases, verdict_rows  # noqa: PLC0415
    from srec import distill as run  # noqa: PLC0415

    screen = show.console(json_to)
    source = _training_part(data, training_users)
    chosen = cases(source, task=task, protocol=protocol, candidates=candidates, users=users, seed=seed)
    program = _program(
        _fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    lm = _connect(model, screen, connections=workers)
    told: dict[str, Any] = {"lm": lm, "out": out, "users": source.users, "workers": workers, "seed": seed}
    report = run(program, chosen, keep=keep, metric=metric, **told)
    screen.print(str(report), markup=False)
    found: dict[str, Any] = {"data": source.name, "model": lm.model, **report.to_dict()}
    if verdicts is not None:
        judged = verdict_rows(program, chosen, negatives=verdicts, **told)
        screen.print(str(judged), markup=False)
        found["verdicts"] = judged.to_dict()
    _write_object(found, json_to)
    _end(report.cases_failed, f"{report.cases_failed:,} of {report.cases:,} cases failed; run again to try these again")


@app.command(epilog=f"\b\nTry: srec doctor {DEFAULT_MODEL}")
def doctor(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]…", help="Model strings to look at.")] = None,
    *,
    store: Annotated[Path, typer.Option(help="The folder that results would be kept in.")] = Path("runs"),
) -> None:
    """Say what is installed, what works here, and what to do about what is missing."""
    from srec.doctor import examine  # noqa: PLC0415

    named = tuple(models or ())
    found = []
    for finding in examine(named or (DEFAULT_MODEL,), store=store):
        show.findings(show.console(), [finding])
        found.append(finding)
    broken = [one.subject for one in found if one.state == "broken" and (named or one.subject != DEFAULT_MODEL)]
    _end(len(broken), f"cannot work: {', '.join(broken)}; see above for what to do")


def main() -> None:
    """Run the command line; after Ctrl-C, threads that still wait for a model are not waited for."""
    try:
        app()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        sys.stderr.flush()
        os._exit(INTERRUPTED)


# What the verbs share


def _load(data: str, *, strict: bool = False) -> Dataset:
    """The dataset that an argument names."""
    from srec import load, toyshop  # noqa: PLC0415

    asked = _toyshop(data)
    if asked is None:
        return load(data, strict=strict)
    items, users, seed = asked
    return toyshop(items=items, users=users, seed=seed).data


def _training_part(data: str, users: Path | None) -> Dataset:
    """The dataset that an argument names, of its training users alone, and of a toy shop's training items."""
    from srec import toyshop  # noqa: PLC0415
    from srec.data.part import part  # noqa: PLC0415

    listed = None if users is None else _lines(users)
    asked = _toyshop(data)
    if asked is None:
        source = _load(data)
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
    """The lines of a file that are not blank."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; name a file of user ids") from error
    return [line.strip() for line in lines if line.strip()]


def _toyshop(data: str) -> tuple[int, int, int] | None:
    """Items, users and seed of the toy shop that `data` names; None where it names none."""
    named = TOYSHOP.fullmatch(data)
    if named is None:
        return None
    items, users, seed = named.groups()
    return int(items or 300), int(users or 200), int(seed or 0)


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
    from srec.evaluation.stages.run import run  # noqa: PLC0415

    asked = _toyshop(data)
    if asked is None:
        raise InputError(f"--stages needs a world whose truth is known, not {data!r}; give toyshop:ITEMSxUSERS@SEED")
    out = show.console(json_to)
    items, shoppers, seed = asked
    report = run(
        _connect(model, out, connections=workers),
        items=items,
        users=min(shoppers, users or shoppers),
        seed=seed,
        program=program,
        store=store or Path("runs") / "toyshop",
        workers=workers,
    )
    out.print(report if out.is_terminal else str(report), markup=False)
    show.write_json(report.to_json(), json_to)
    _end(sum(report.failed.values()), "some calls failed and count as wrong; the table's notes say why")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that what was begun is also put away then."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _named_folders(given: list[str]) -> dict[str, str]:
    """Folders by the names given with them, else by their own."""
    named = {}
    for one in given:
        name, sign, folder = one.rpartition("=")
        alias = name if sign else Path(folder).expanduser().resolve().name
        if alias in named:
            raise InputError(f"two LoRAs are called {alias!r}; name them apart, as in --lora other={folder}")
        named[alias] = folder
    return named


def _store(given: Path | None, data: Dataset) -> Path:
    """The folder of results: the one given, else one by the name of the dataset."""
    return given or Path("runs") / (re.sub(r"[^\w.-]+", "_", data.name).strip("._") or "data")


def _connect(model: str, out: Any, *, connections: int = 32) -> Any:
    """The LM, announced with what it is and what it cannot do."""
    from srec.lm.checkpoint import whereabouts  # noqa: PLC0415
    from srec.lm.connect import connect, parse, sees  # noqa: PLC0415
    from srec.lm.lora import check_files  # noqa: PLC0415

    try:
        wanted = parse(model)
        if wanted.kind == "local":
            whereabouts(wanted.model)
        if wanted.lora:
            check_files(Path(wanted.lora))
    except ModelError as error:
        raise InputError(str(error)) from error
    lm = connect(model, max_connections=connections)
    blind = "" if sees(lm) else "; it cannot see, so pictures are passed over and it reads text only"
    size = "; it is of demonstration size" if any(small in lm.model for small in DEMONSTRATION) else ""
    out.print(f"model: {lm.model}{blind}{size}", markup=False)
    return lm


def _fusion(data: str, *, attributes: list[str] | None = None) -> ItemFusion:
    """Open questions about items; of a generated toy shop, the closed ones that its truth answers."""
    from srec import ItemFusion  # noqa: PLC0415
    from srec.evaluation.stages.fused import toy_fusion  # noqa: PLC0415

    return ItemFusion(attributes=attributes) if attributes or _toyshop(data) is None else toy_fusion()


def _program(
    fusion: ItemFusion, *, recent: int, window: int, step: int, reasoning: str, view: str, workers: int
) -> MLLMSRec:
    from srec import CoTScoring, MLLMSRec, TemporalPreference  # noqa: PLC0415

    scoring: Any = {"reasoning": reasoning, "view": view}  # checked by the stage
    return MLLMSRec(
        fusion=fusion,
        preference=TemporalPreference(window=window, step=step),
        scoring=CoTScoring(**scoring, workers=workers),
        recent=recent,
        workers=workers,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """DSPy without its record of every prompt, which would grow without bound."""
    import dspy  # noqa: PLC0415

    with dspy.context(disable_history=True, trace=None):
        yield


def _explained(made: Recommendation, out: Any, *, top: int, explained: bool, once: bool) -> list[dict[str, Any]]:
    """The rows of the ranking; printed with their reasons if these are asked for."""
    from srec import explain  # noqa: PLC0415

    found = explain(made, top=top)
    if explained:
        show.reasons(out, found, reasoning_once=once)
    return [show.ranked_object(one, explained=explained) for one in found]


def _print_report(report: Report, out: Any) -> None:
    out.print(report if out.is_terminal else str(report), markup=False)


def _unscored(report: Report) -> int:
    return report.rankers["program"].unscored if "program" in report.rankers else 0


def _write_object(values: dict[str, Any], json_to: str | None) -> None:
    show.write_json(json.dumps(values, indent=2, ensure_ascii=False), json_to)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _tell_rejected(data: Dataset) -> None:
    """What of the dataset was rejected so far, one line for each class."""
    for line in data.report.causes():
        notice(line)


def _end(failures: int, sentence: str = "") -> None:
    """Exit with code 1 if anything failed."""
    if failures:
        if sentence:
            notice(sentence)
        raise typer.Exit(FAILED)


def _with_saved(program: MLLMSRec, name: str | None, source: Dataset) -> MLLMSRec:
    """The program with the prompts that were saved under `name`, if one is given."""
    from srec import load_program  # noqa: PLC0415

    if name is None:
        return program
    loaded: MLLMSRec = load_program(name, into=program, items=source.items)
    return loaded


def _unlearned(chosen: CaseSet, name: str) -> CaseSet:
    """The cases of users that a program neither learned from nor was chosen by."""
    from srec.artifact import card_of  # noqa: PLC0415
    from srec.learn.optimize import user_hash  # noqa: PLC0415

    split = card_of(name).get("split", {})
    known = {*split.get("train", ()), *split.get("dev", ())}
    users = {spec.user_id for fold in chosen.folds for spec in fold.specs}
    learned = {user_id for user_id in users if user_hash(user_id) in known}
    if learned:
        notice(f"{len(learned)} users are left out, since the program {name} was made with them")
    return chosen.without(learned)
