"""Measure every stage against the truth of a generated toy shop.

python evals/stages.py --seed 7 --items 300 --users 100 --model local:srec-tiny --json evals/results/stages.json

Results of all calls are kept in the store, so a run that was killed goes on where it was.
"""

import argparse
from pathlib import Path

from srec import show
from srec.evaluation.stages.run import run
from srec.lm.connect import connect


def main() -> None:
    """Parse, measure, print, and write the figures."""
    options = parsed()
    report = run(
        connect(options.model, max_connections=options.workers),
        items=options.items,
        users=options.users,
        seed=options.seed,
        wordings=options.wordings,
        store=options.store,
        workers=options.workers,
    )
    show.console(options.json).print(report)
    show.write_json(report.to_json(), options.json)


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--model", default="local:srec-tiny")
    parser.add_argument("--json", metavar="OUT", help="write the figures to a file, or to -")
    parser.add_argument("--wordings", choices=("seen", "held-out", "all"), default="seen")
    parser.add_argument("--store", type=Path, default=Path("runs") / "stages")
    parser.add_argument("--workers", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
