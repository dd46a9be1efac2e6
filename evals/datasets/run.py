"""A benchmark from its download to its table in one command: fetch, convert, serve a model, evaluate.

    python evals/datasets/run.py amazon-baby
    python evals/datasets/run.py movielens --model vllm:http://127.0.0.1:8000/v1#MODEL
    python evals/datasets/run.py microlens --until convert

Everything is kept in a folder of its own below `--work`, and what is there is not done again. Without `--model`, vLLM
serves the model that the config names. A recipe is a TOML file beside this one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import dumps
import leaderboard

sys.path.remove(str(HERE.parent))  # evals/, whose datasets/ would pass for the package of that name

from srec import convert, load
from srec.data.statistics import Statistics
from srec.data.web import Manners
from srec.errors import InputError, SrecError
from srec.evaluation.named import means_program

CONFIG = HERE / "qwen-vl.toml"
RECIPES = {path.stem: path for path in sorted(HERE.glob("*.toml")) if path != CONFIG}
WHERE_TO_LOOK = "the published files or what is done to them are not the same; conversion.json says what was left out"
SREC = (sys.executable, "-c", "from srec.cli import main; main()")


def main() -> None:
    given = _options()
    try:
        run(given)
    except SrecError as error:
        sys.exit(f"{given.name}: {error}")


def run(given: argparse.Namespace) -> None:
    """Everything up to the step that is asked for."""
    recipe, config = _told(RECIPES[given.name]), _told(given.config)
    root = given.work / given.name
    print(recipe["title"], flush=True)
    dumps.obtain(recipe["download"], root / "published", mirror=given.mirror)
    if given.until == "download":
        return
    converted(recipe, root, trusted=given.trust)
    if "expected" in recipe:
        print("\n".join(compared(recipe["expected"], root / "dataset")), flush=True)
    if given.until == "convert":
        return
    options = recipe["evaluate"] | config["evaluate"] | ({"users": given.users} if given.users else {})
    if given.ranker:
        options["ranker"] = given.ranker
    if asks_a_model(options["ranker"]):
        with model(config, given.model) as string:
            evaluate(root, options | config["program"] | {"model": string}, "report.json")
    else:
        evaluate(root, options, "report.json")
    if cheap := ",".join(name for name in options["ranker"].split(",") if not asks_a_model(name)):
        evaluate(root, options | {"ranker": cheap, "candidates": "full"}, "report-full.json")
    for report in (root / "report.json", root / "report-full.json")[: 2 if cheap else 1]:
        print(leaderboard.section(json.loads(report.read_text("utf-8")), name=given.name))


def _told(path: Path) -> dict[str, Any]:
    """What a TOML file says."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; name a TOML file, such as {CONFIG.name}") from error


def converted(recipe: Mapping[str, Any], root: Path, *, trusted: list[str]) -> None:
    """The dataset folder; pictures that are missing are asked for again."""
    options = dict(recipe["convert"])
    if "images" in options:
        options["images"] = root / "published" / options["images"]
    if (root / "dataset" / "conversion.json").exists() and not options.get("download_images"):
        print(f"{root / 'dataset'} was written before", flush=True)
        return
    manners = Manners(trusted=frozenset(trusted))
    print(convert(recipe["kind"], root / "published", root / "dataset", manners=manners, **options), flush=True)


def compared(expected: Mapping[str, Any], folder: Path) -> list[str]:
    """The printed counts of a recipe beside those of the folder, counted anew: lines to print, whatever they say."""
    found = Statistics.of(load(folder).interactions)
    here = {"users": found.users, "items": found.items_with_events, "interactions": found.interactions}
    wanted = {name: expected[name] for name in here if name in expected}
    told = [f"{name}: {printed:,} printed, {_beside(here[name], printed)}" for name, printed in wanted.items()]
    agrees = all(here[name] == printed for name, printed in wanted.items())
    return [f"counts printed in {expected['source']}:", *told, *([] if agrees else [WHERE_TO_LOOK])]


def _beside(here: int, printed: int) -> str:
    return "agrees" if here == printed else f"{here:,} here: differs by {here - printed:+,}"


@contextmanager
def model(config: Mapping[str, Any], string: str | None) -> Iterator[str]:
    """The model string that was given, or that of a server for as long as the block lasts."""
    if string:
        yield string
        return
    from srec import start_server  # noqa: PLC0415 (it loads what the other steps do not need)

    with start_server(**config["serve"]) as server:
        yield server.model_string(server.base)


def asks_a_model(rankers: str) -> bool:
    """Whether the program is among rankers that are listed by commas."""
    return any(map(means_program, rankers.split(",")))


def evaluate(root: Path, options: Mapping[str, Any], report: str) -> None:
    """`srec evaluate`; what it asked a model is kept, so it can be stopped and run again."""
    typed = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [*SREC, "evaluate", str(root / "dataset"), *typed, "--json", str(root / report)]
    if asks_a_model(options["ranker"]):
        command += ["--store", str(root / "store")]
    print("srec", *command[len(SREC) :], flush=True)
    (root / report).unlink(missing_ok=True)
    code = subprocess.run(command, check=False).returncode
    if code and not (root / report).exists():
        sys.exit(code)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--work", type=Path, default=Path("runs/datasets"))
    parser.add_argument("--config", type=Path, default=CONFIG, help="the model to serve, and the program's options")
    parser.add_argument("--model", help="a model string, instead of serving one")
    parser.add_argument("--ranker", help="instead of those of the config")
    parser.add_argument("--users", type=int, help="instead of as many as the recipe says")
    parser.add_argument("--until", choices=("download", "convert", "evaluate"), default="evaluate")
    parser.add_argument("--mirror", help="a URL below which the published files are, under their names")
    parser.add_argument("--trust", action="append", default=[], help="a host of pictures with a private address")
    return parser.parse_args()


if __name__ == "__main__":
    main()
