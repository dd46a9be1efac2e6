"""What a tuned student rests on: every probe on the users that its learning never saw.

    python evals/probes.py --world toyshop --seed 20261125 --lora LORA --json evals/results/probes-toyshop.json
    python evals/probes.py --world DATA --seed 0 --lora LORA --base smollm2-135m --json evals/results/probes-movies.json

The cases, and what the program reads, are those of `evals/learn.py` with the same seed. Of the toy shop it is known
what each probe takes away, so each must lower the AUC or leave it as it is: `TRUTH` says which, and the table whether
it did. Of real data nothing is known; whatever comes out is told.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import srec

sys.path[0] = str(
    Path(__file__).parent / "learning"
)  # not evals/: its datasets/ would pass for the package of that name

import folder
import toys

from srec.data.cases import PROTOCOLS, CaseSet
from srec.evaluation.probe_report import ProbeReport, ProbeRow
from srec.evaluation.tables import plain, table
from srec.stages.scoring import View

LEVEL = 0.05
TRUTH = {
    "blank-image": "falls",  # colour, pattern and type are in pictures only, for many toys
    "other-image": "falls",
    "noise-image": "falls",
    "no-image": "falls",
    "other-text": "falls",  # price and material are in texts only
    "no-text": "falls",
    "hallucination": "falls",
    "shuffled-order": "falls",  # tastes move
    "static-summary": "falls",
    "no-profile": "falls",  # what lasts counts, too
    "injection": "stays",  # a shopper reads no instructions
}


def main() -> None:
    """Probe, print, and write the figures."""
    given = options()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    given.out.mkdir(parents=True, exist_ok=True)
    cases, program = (toy_shop if given.world == "toyshop" else real)(given)
    with asked(given) as lm:
        report = srec.probe(
            cases,
            program,
            lm=lm,
            probes=given.probes,
            seed=given.seed,
            workers=given.workers,
            store=given.out / "store",
        )
    print(report)
    if given.world == "toyshop":
        print(beside_the_truth(report))
    if given.json:
        found = report.to_dict() | {"command": command(given)}
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


@contextmanager
def asked(given: argparse.Namespace) -> Iterator[Any]:
    """The model to probe, in this process, or for as long as the block lasts served by vLLM."""
    if not given.vllm:
        yield srec.connect(f"local:{given.base}" + (f"#{given.lora}" if given.lora else ""))
        return
    merge = {"merge": True} if given.lora else {}
    with srec.serve(given.lora, base=given.base, log=given.out / "vllm.log", max_model_len=2048, **merge) as lm:
        yield lm


def toy_shop(given: argparse.Namespace) -> tuple[CaseSet, srec.MLLMSRec]:
    """Held-out users and items of a shop, and the four stages."""
    at = toys.school(seed=given.seed, items=300, pupils=12, dev=toys.DEV_USERS, test=100, folder=given.out)
    wanted = {case.user_id for case in list(at.test)[: given.users]}
    return at.test.without(set(at.shop.data.users) - wanted), toys.program(given.reasoning)


def real(given: argparse.Namespace) -> tuple[CaseSet, srec.MLLMSRec]:
    """The first of the test users that `evals/learn.py` draws, and a judge that reads what is listed by rule."""
    data = srec.load(given.world)
    cases = folder.of_users(data, folder.drawn(data, given.seed)[: given.users], options=given)
    return cases, folder.program(folder.WORDS.get(data.name, folder.FILMS), view=given.view)


def beside_the_truth(report: ProbeReport) -> str:
    """What every probe did, beside what it must do."""
    shown = table("probe", "truth", "AUC", "as the truth says")
    for name, row in report.probes.items():
        if name in TRUTH:
            shown.add_row(name, TRUTH[name], moved(row), "yes" if moved(row) == TRUTH[name] else "not shown")
    return plain(shown)


def moved(row: ProbeRow) -> str:
    """Where the paired difference lies, if it can be told from chance by p, corrected for all probes."""
    if not row.difference.p_holm < LEVEL:
        return "stays"
    return "falls" if row.difference.value < 0 else "rises"


def command(given: argparse.Namespace) -> str:
    """What to type to get these figures."""
    world = given.world if given.world == "toyshop" else Path(given.world).name
    lora = " --lora LORA" if given.lora else ""
    some = f" --probes {' '.join(given.probes)}" if given.probes else ""
    some += " --vllm" if given.vllm else ""
    some += f" --protocol {given.protocol}" if given.protocol != "leave-last-out" else ""
    some += f" --view {given.view}" if given.view != "description" else ""
    asked = f"--seed {given.seed} --base {given.base}{lora} --users {given.users}{some}"
    return f"python evals/probes.py --world {world} {asked}"


def options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="toyshop", help="toyshop, or a dataset folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", default="srec-tiny")
    parser.add_argument("--lora", help="folder of a LoRA; without it the base is probed")
    parser.add_argument("--users", type=int, default=40, help="at most 100 in the toy shop")
    parser.add_argument("--probes", nargs="+", help="by default all")
    parser.add_argument("--reasoning", choices=("user", "candidate", "none"), default="user")
    parser.add_argument("--task", default="next")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="leave-last-out", help="of a dataset folder")
    parser.add_argument("--view", choices=get_args(View), default="description", help="how a folder's item is shown")
    parser.add_argument("--out", type=Path, default=Path("runs") / "probes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--vllm", action="store_true", help="ask a vLLM process, the LoRA merged into its base")
    parser.add_argument("--workers", type=int, default=16)
    parser.set_defaults(candidates=f"uniform:{folder.NEGATIVES}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
