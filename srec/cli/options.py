"""The arguments and options that verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srec.show import check_json

DEFAULT_MODEL = "local:"
DEFAULT_RANKERS = "random,popularity,recent-popularity,markov,item-knn,content-knn"

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
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="OUT", callback=check_json, help="Write one JSON object to a file, or to - ."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row or image that cannot be used.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same numbers.")]

# What a program is asked

User = Annotated[str, typer.Option(help="The user's id.")]
Task = Annotated[str, typer.Option(help="next, or like:4.0 with the rating from which an item is liked.")]
Protocol = Annotated[str, typer.Option(help="leave-last-out or global-time.")]
Cutoffs = Annotated[str | None, typer.Option(help="Of global-time: dates or Unix seconds, by commas.")]
Candidates = Annotated[
    str,
    typer.Option(
        help="full (all unseen items), uniform:20, popularity:99, rated (for like), retriever:NAME:200, file:PATH."
    ),
]
Users = Annotated[int | None, typer.Option(min=1, help="At most so many users, drawn by the seed.")]

# How a program is set

Recent = Annotated[
    int,
    typer.Option(
        min=1, help="Read so many of the last events, and up to --step less 1 more: reading begins at a multiple of it."
    ),
]
WindowSize = Annotated[int, typer.Option("--window", min=1, help="Events in a window of the preference.")]
Step = Annotated[int, typer.Option(min=1, help="Events from one window to the next.")]
Reasoning = Annotated[str, typer.Option(help="user (once a user), candidate (for each) or none (the paper's prompt).")]
View = Annotated[str, typer.Option(help="How a candidate is shown: description, image or both.")]
ProgramName = Annotated[
    str | None,
    typer.Option("--program", help="A saved program, with its settings: a folder, or the name of one of srec."),
]
