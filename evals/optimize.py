"""Does optimizing the prompts help? Before and after, on the users that decided and on users that nobody looked at.

    python evals/optimize.py --optimizer bootstrap --calls 1500 --json evals/results/optimize-bootstrap.json

A toy shop, a small local model, and an optimizer with its budget of LM calls; the demonstrations or words that come out
are measured on the development users, who decide whether they are kept, and on test users, paired case by case. What
was asked is kept in `--out`, so a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import srec
from srec.artifact import save_program
from srec.data.cases import CaseSet, LeakWarning
from srec.data.part import part
from srec.data.toyshop import ToyShop

sys.path[0] = str(
    Path(__file__).parent / "learning"
)  # not evals/: its datasets/ would pass for the package of that name

from toys import program


def main() -> None:
    """Optimize, measure, print, and write the figures."""
    options = parsed()
    warnings.simplefilter("ignore", LeakWarning)
    shop = srec.toyshop(items=options.items, users=10 * options.test, seed=options.seed)
    learning = list(_cases(shop, shop.training_users, options.train + options.dev, seed=options.seed))
    test = _cases(shop, shop.held_out_users, options.test, seed=options.seed)
    lm, start = srec.connect(options.model), program("none" if options.no_reasoning else "user")
    result = srec.optimize(
        start,
        learning[: options.train],
        learning[options.train :],
        optimizer=options.optimizer,
        metric="auc",
        lm=lm,
        reflection_lm=srec.connect(options.reflection) if options.reflection else lm,
        calls=options.calls,
        out=options.out / options.optimizer,
        seed=options.seed,
        workers=2,
    )
    print(result)
    found = {**result.to_object(), "optimizer": options.optimizer, "model": options.model, "seed": options.seed}
    found |= _tested(test, start, result.program, lm=lm, options=options)
    found["prompts_changed"] = _diff(start, options, shop)
    print(json.dumps(found["test"], indent=1), "\n".join(found["prompts_changed"]), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _cases(shop: ToyShop, users: tuple[str, ...], count: int, *, seed: int) -> CaseSet:
    return srec.cases(part(shop.data, users=users), candidates="uniform:10", users=count, seed=seed)


def _tested(test: CaseSet, start: Any, best: Any, *, lm: Any, options: argparse.Namespace) -> dict[str, Any]:
    """AUC of both programs on the test users, and the paired difference."""
    before, after = start.deepcopy(), best.deepcopy()
    before.set_lm(lm), after.set_lm(lm)
    report = srec.evaluate(test, {"before": before, "after": after}, store=options.out / "store", seed=options.seed)
    auc = {name: asdict(row.metrics["auc"]) for name, row in report.rankers.items()}
    return {"test": {**auc, "after - before": asdict(report.compare("after", "before", "auc"))}}


def _diff(before: Any, options: argparse.Namespace, shop: ToyShop) -> list[str]:
    """The lines of `prompts.md` that are new or gone."""
    start = options.out / "start"
    save_program(before, start, card={}, items=shop.data.items.values())
    told = [
        (place / "prompts.md").read_text("utf-8").splitlines() for place in (start, options.out / options.optimizer)
    ]
    return list(difflib.unified_diff(*told, "before", "after", lineterm="", n=0))


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", choices=("gepa", "bootstrap", "instructions"), default="bootstrap")
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--train", type=int, default=10)
    parser.add_argument("--dev", type=int, default=20)
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--model", default="local:srec-tiny")
    parser.add_argument("--reflection", default="")
    parser.add_argument("--no-reasoning", action="store_true", help="the paper's prompt as it stands")
    parser.add_argument("--out", type=Path, default=Path("runs") / "optimize")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser.parse_args()


if __name__ == "__main__":
    main()
