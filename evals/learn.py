"""Run the whole of learning, distil, train, serve, and measure the student against all that went in.

    python evals/learn.py --world toyshop --seed 20261125 --budget 60 --json evals/results/learn-toyshop.json
    python evals/learn.py --world DATA --seed 0 --budget 60 --json evals/results/learn-movies.json

`--world toyshop` learns from an oracle that knows the shop's truth and is tested on held-out users and held-out items;
`--world DATA` learns from the real labels of a dataset folder and is tested on users that it has not seen.
`--budget` is the minutes of training: as many cases are taught as this machine can train on in that time, one a user in
the toy shop. All that was asked, answered and trained is kept in `--out`, so that a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from srec.data.cases import PROTOCOLS
from srec.errors import SrecError
from srec.stages.scoring import View

sys.path[0] = str(
    Path(__file__).parent / "learning"
)  # not evals/: its datasets/ would pass for the package of that name

import folder
import record
import toys

HERE = Path(__file__).parent
CANDIDATES = "uniform:20"
OF_A_FOLDER = ("task", "protocol", "candidates", "view", "only", "rivals", "blend_users")


def main() -> None:
    """Parse, run, print, and write the figures down."""
    options = parsed()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    world = toys if options.world == "toyshop" else folder
    options.command = command(options)
    try:
        found = world.run(options)
    except SrecError as error:
        raise SystemExit(str(error)) from error
    found["command"] = options.command
    found["date"] = datetime.now(UTC).date().isoformat()
    print(record.table(found))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.record:
        record.append(found, log=HERE / "LOG.md", leaderboard=HERE / "LEADERBOARD.md")


def command(options: argparse.Namespace) -> str:
    """What to type to get these figures."""
    world = options.world if options.world == "toyshop" else Path(options.world).name
    told = {
        "seed": options.seed,
        "test-seed": options.test_seed,
        "budget": f"{options.budget:g}" if options.pupils is None else None,
        "pupils": options.pupils,
        "more": options.more,
        "users": options.users,
        "reasoning": options.reasoning,
        "task": options.task,
        "protocol": options.protocol,
        "candidates": options.candidates,
        "view": options.view,
        "only": options.only,
        "blend-users": options.blend_users,
        "base": options.base,
    }
    if options.rivals is not None:
        told["rivals"] = " ".join(path.name for path in options.rivals)
    if options.systems is not None:
        told["systems"] = " ".join(options.systems)
    plain = {
        "test-seed": None,
        "budget": None,
        "pupils": None,
        "more": 0,
        "users": 100,
        "reasoning": "user",
        "task": "next",
        "protocol": "leave-last-out",
        "candidates": CANDIDATES,
        "view": "description",
        "only": None,
        "blend-users": None,
        "base": "",
    }
    said = " ".join(f"--{name} {value}" for name, value in told.items() if name not in plain or plain[name] != value)
    return f"python evals/learn.py --world {world} {said}{'' if options.vllm else ' --no-vllm'}"


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="toyshop", help="toyshop, or a dataset folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-seed", type=int, help="test in another toy shop than the one that was taught in")
    parser.add_argument("--budget", type=float, default=60.0, help="minutes of training")
    parser.add_argument("--users", type=int, default=100, help="test users")
    parser.add_argument("--base", default="", help="srec-tiny for the toy shop, smollm2-135m for a folder")
    parser.add_argument("--reasoning", choices=("user", "candidate", "none"), default="user")
    parser.add_argument("--task", default="next", help="next, or like:4.0; of a dataset folder")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="leave-last-out", help="of a dataset folder")
    parser.add_argument("--candidates", default=CANDIDATES, help="of the test cases of a dataset folder")
    parser.add_argument("--view", choices=get_args(View), default="description", help="how a folder's item is shown")
    parser.add_argument("--only", type=int, help="measure so many of a folder's test users, the first that were drawn")
    parser.add_argument("--blend-users", type=int, help="validation cases of a folder's blends, at most")
    parser.add_argument("--rivals", nargs="+", type=Path, metavar="RUN", help="run files to measure beside a folder's")
    parser.add_argument("--pupils", type=int, help="training cases, in the place of as many as --budget allows")
    parser.add_argument("--more", type=int, default=0, help="further cases, in a third lesson; of the toy shop")
    parser.add_argument("--vllm", action=argparse.BooleanOptionalAction, default=True, help="serve the student, too")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="measure these beside the student; default: all")
    parser.add_argument("--record", action="store_true", help="append to evals/LOG.md and evals/LEADERBOARD.md")
    parser.add_argument("--out", type=Path, default=Path("runs") / "learn")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures here")
    parser.add_argument("--keep", type=Path, metavar="RUN", help="keep the evaluation in this folder, for srec report")
    parser.add_argument("--table", type=Path, metavar="OUT", help="write all metrics and slices here")
    given = parser.parse_args()
    if given.only is not None and not 1 <= given.only <= given.users:
        parser.error(f"--only {given.only}: give 1 to {given.users}, as many as --users")
    if given.world == "toyshop":
        for name in OF_A_FOLDER:
            if getattr(given, name) != parser.get_default(name):
                parser.error(f"--{name.replace('_', '-')} is of a dataset folder, and the world is the toy shop")
    return given


if __name__ == "__main__":
    main()
