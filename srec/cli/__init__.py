"""The verbs on the command line: parse, call one public function, print.

What is slow to import is imported by the verb that needs it, so that `--help` is instant. How a verb ends is said in
`srec.exits`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from srec.cli.health import demo, doctor
from srec.cli.items import convert, describe, toyshop
from srec.cli.learning import distill, merge, optimize, train
from srec.cli.measure import evaluate, probe, report
from srec.cli.options import DEFAULT_MODEL
from srec.cli.serving import serve
from srec.cli.users import profile, rank
from srec.exits import INTERRUPTED, Verbs

JOURNEY: dict[Callable[..., None], str] = {
    demo: f"srec demo --items 30 --users 4 --model {DEFAULT_MODEL}",
    toyshop: "srec toyshop shop --items 30 --users 10",
    convert: "srec convert movielens ml-latest-small movies; then srec evaluate movies",
    describe: f"srec describe toyshop:20x5 --model {DEFAULT_MODEL} --limit 5",
    profile: f"srec profile toyshop:20x5 --user user00000 --model {DEFAULT_MODEL}",
    rank: f"srec rank toyshop:30x5 --user user00000 --candidates uniform:5 --model {DEFAULT_MODEL} --explain",
    evaluate: "srec evaluate toyshop:60x20 --ranker popularity,markov,content-knn --candidates uniform:20",
    report: "srec evaluate toyshop:60x20 --candidates uniform:20 --out runs/try; then srec report runs/try",
    probe: f"srec probe toyshop:30x4 --users 2 --candidates uniform:4 --model {DEFAULT_MODEL} "
    "--probes blank-image,shuffled-order,injection",
    optimize: "srec optimize toyshop:30x12 --optimizer bootstrap --calls 2000 --train 2 --dev 2 "
    f"--candidates uniform:4 --model {DEFAULT_MODEL} --out programs/try",
    distill: f"srec distill toyshop:30x5 --out runs/rows --users 2 --candidates uniform:5 --model {DEFAULT_MODEL}",
    train: "srec train runs/rows/rows.jsonl --base local: --out runs/lora",
    merge: "srec merge runs/lora runs/whole",
    serve: "srec serve --base runs/whole",
    doctor: f"srec doctor {DEFAULT_MODEL}",
}
"""The verbs in the order in which they are met, each with a line to try."""

app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=f"\b\nTry: srec demo --model {DEFAULT_MODEL}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb, example in JOURNEY.items():
    app.command(epilog=f"\b\nTry: {example}")(verb)


@app.callback(invoke_without_command=True)
def srec(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,  # noqa: FBT002  typer's form of a flag
) -> None:
    """Rank items for users by prompts to a multimodal language model, with reasons and with numbers."""
    if version:
        from srec import __version__

        typer.echo(f"srec {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; after Ctrl-C, threads that still wait for a model are not waited for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows a ? for what it lacks
    try:
        app()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        sys.stderr.flush()
        os._exit(INTERRUPTED)
