"""Run every rival on the same candidates and put them into one table with srec's own rankers and blends.

    .venv-rivals/bin/python evals/baselines/all.py DATA --out runs/rivals --json evals/results

Each rival runs in a process of its own and leaves a run and a `.json` of what it found, in a folder of the data, task,
protocol, seed and users; one that has both is not run again, one that fails is told and left out. The tables go to
`JSON/NAME-rivals-TASK-CANDIDATES.json`, of another protocol than leave-last-out with its name before the candidates.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import srec
from srec.data.cases import CaseSet

HERE = Path(__file__).parent
SCRIPTS = {
    "sasrec-ce": ("sequences.py", "--model", "sasrec-ce"),
    "als": ("factors.py", "--model", "als"),
    "bpr": ("factors.py", "--model", "bpr"),
    "ease": ("ease.py",),
    "minilm-knn": ("embeddings.py", "--model", "minilm-knn"),
    "efficientnet-knn": ("embeddings.py", "--model", "efficientnet-knn"),
    "sasrec-bce": ("sequences.py", "--model", "sasrec-bce"),
    "gru4rec": ("sequences.py", "--model", "gru4rec"),
    "sasrec-gbce": ("sequences.py", "--model", "sasrec-gbce"),
}
OURS = ("popularity", "recent-popularity", "markov", "item-knn", "content-knn")
BLENDED = "blend:markov+item-knn+recent-popularity+content-knn"
METRICS = ("ndcg@10", "recall@10", "auc")


def main() -> None:
    """Candidates, rivals, tables."""
    given = options()
    dataset = srec.load(given.data)
    some = [f"{given.users}users"] if given.users else []
    given.out /= "-".join((dataset.name, *map(plain, (given.task, given.protocol)), f"seed{given.seed}", *some))
    asked = {rule: cases_of(dataset, rule, given) for rule in given.candidates}
    for rule, cases in asked.items():
        if not (path := candidates_of(given.out, rule)).exists():
            cases.write(path)
    done = [name for name in given.rivals if ran(name, given)]
    protocol = [given.protocol] if given.protocol != "leave-last-out" else []
    for rule, cases in asked.items():
        asked_for = "-".join(plain(one) for one in (given.task, *protocol, rule))
        path = given.json / f"{dataset.name}-rivals-{asked_for}.json"
        told = table(cases, done, out=given.out, rule=rule, seed=given.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def cases_of(dataset: srec.Dataset, rule: str, given: argparse.Namespace) -> CaseSet:
    """The cases with candidates by one rule."""
    return srec.cases(
        dataset, task=given.task, protocol=given.protocol, candidates=rule, seed=given.seed, users=given.users
    )


def ran(name: str, given: argparse.Namespace) -> bool:
    """Whether a rival has its runs, after running it where it had not."""
    outs = [run_of(given.out, name, rule) for rule in given.candidates]
    if all(path.exists() and path.with_suffix(".json").exists() for path in outs):
        return True
    script, *model = SCRIPTS[name]
    files = [str(candidates_of(given.out, rule)) for rule in given.candidates]
    called = [sys.executable, str(HERE / script), str(given.data), *model, "--seed", str(given.seed)]
    called += ["--candidates", *files, "--out", *map(str, outs)]
    called += ["--search-first"] if name in given.search_first else []
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if subprocess.run(called, check=False, env=os.environ | one_thread).returncode:
        print(f"{name} failed and is left out", file=sys.stderr)
        return False
    return True


def table(cases: CaseSet, rivals: Sequence[str], *, out: Path, rule: str, seed: int) -> dict[str, Any]:
    """The report on all of them as plain values, with what the rivals took and how the blends compare with each."""
    runs = {name: f"run:{run_of(out, name, rule)}" for name in rivals}
    facts = {name: json.loads(run_of(out, name, rule).with_suffix(".json").read_text("utf-8")) for name in rivals}
    rankers = {name: name for name in OURS} | {"blend": BLENDED} | runs
    if runs:
        best = max(rivals, key=lambda name: facts[name]["folds"][-1]["validation_ndcg@10"])
        rankers[f"blend+{best}"] = f"{BLENDED}+{runs[best]}"
    report = srec.evaluate(cases, rankers, seed=seed)
    print(report)
    blends = [name for name in rankers if name.startswith("blend")]
    pairs = [(blend, name) for blend in blends for name in (*OURS, *rivals)]
    told = report.to_dict(per_case=False)
    del told["comparisons"]  # of every pair; those worth a look are in `paired`
    paired = [asdict(pair) for metric in METRICS for pair in report.comparisons(metric, pairs=pairs).pairs]
    return told | {"rivals": facts, "paired": paired, "command": command()}


def candidates_of(out: Path, rule: str) -> Path:
    """The file of the candidates by one rule."""
    return out / f"candidates-{plain(rule)}.jsonl"


def run_of(out: Path, name: str, rule: str) -> Path:
    """The run of a rival on the candidates by one rule."""
    return out / f"{name}-{plain(rule)}.run"


def plain(spelling: str) -> str:
    """A rule or a task as part of a file's name."""
    return spelling.replace(":", "")


def command() -> str:
    """What to type to get these figures; where they are put does not matter for them."""
    told = sys.argv[2:]
    for option in ("--out", "--json"):
        if option in told:
            place = told.index(option)
            del told[place : place + 2]
    return f"python evals/baselines/all.py {Path(sys.argv[1]).name} {' '.join(told)}"


def options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="dataset folder")
    parser.add_argument("--out", type=Path, default=Path("runs") / "rivals")
    parser.add_argument("--json", type=Path, default=Path("evals") / "results", help="folder of the tables")
    parser.add_argument("--task", default="next")
    parser.add_argument("--protocol", default="leave-last-out")
    parser.add_argument("--candidates", nargs="+", default=["uniform:20", "full"])
    parser.add_argument("--rivals", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument(
        "--search-first", nargs="+", choices=SCRIPTS, default=[], help="search these at the first cut-off in time alone"
    )
    parser.add_argument("--users", type=int, help="so many, drawn by the seed; by default all")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
