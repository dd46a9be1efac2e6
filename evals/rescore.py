"""Score the run files of an evaluation with ir-measures and ranx, and hold what they say beside srec's own table.

    srec evaluate DATA --ranker markov,popularity --candidates uniform:20 --write-runs RUNS --json OUT --per-case
    python evals/rescore.py RUNS OUT

Other libraries break ties by an order of their own, srec's metrics are the mean over all orders. So every run is
scored `--orders` times with equal scores in random orders. A case is settled if no target shares its score: it must
come out equal to ours. The means over all cases come near ours as orders are added.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ir_measures
import numpy as np
import ranx
from ir_measures import RR, R, nDCG

from srec.evaluation.tables import plain, table

K = 10
METRICS = {f"ndcg@{K}": nDCG @ K, f"recall@{K}": R @ K, f"mrr@{K}": RR @ K}

Scores = dict[str, dict[str, float]]
"""case -> item -> score, higher is better."""


def main() -> None:
    """Every run of the folder beside the report."""
    given = options()
    told = json.loads(given.report.read_text("utf-8"))
    qrels = list(ir_measures.read_trec_qrels(str(given.runs / "qrels.txt")))
    shown = table("ranker", "metric", "ours", "ir-measures", "ranx", "settled cases", "apart there")
    targets = by_case(qrels)
    for name, row in told["rankers"].items():
        run = read(given.runs / f"{quote(name, safe=' ')}.run")
        settled = [case for case, scores in run.items() if is_settled(scores, targets[case])]
        theirs = [said(tool, qrels, run, orders=given.orders, seed=given.seed) for tool in (by_ir_measures, by_ranx)]
        for metric in METRICS:
            ours = {case["case_id"]: case["metrics"][metric] for case in row["cases"]}
            shown.add_row(name, metric, *compared(ours, settled, *(found[metric] for found in theirs)))
    print(plain(shown))


def compared(ours: Mapping[str, float], settled: Sequence[str], *theirs: Mapping[str, float]) -> list[str]:
    """The mean of everybody, and how far apart anybody is from ours in a settled case."""
    apart = max((abs(ours[case] - found[case]) for found in theirs for case in settled), default=float("nan"))
    means = [np.mean([found[case] for case in ours]) for found in (ours, *theirs)]
    return [*(f"{mean:.4f}" for mean in means), f"{len(settled):,} of {len(ours):,}", f"{apart:.0e}"]


def is_settled(scores: Mapping[str, float], targets: Mapping[str, int]) -> bool:
    """Whether the ranks of all targets are the same in every order of what is tied."""
    many = Counter(scores.values())
    return all(item in scores and many[scores[item]] == 1 for item in targets)


def said(tool: Any, qrels: list[Any], run: Scores, *, orders: int, seed: int) -> dict[str, dict[str, float]]:
    """Metric -> case -> mean over `orders` random orders of what is tied."""
    rng = np.random.default_rng(seed)
    found = [tool(qrels, {case: distinct(scores, rng) for case, scores in run.items()}) for _ in range(orders)]
    return {m: {case: float(np.mean([one[m][case] for one in found])) for case in run} for m in METRICS}


def distinct(scores: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """The same order without ties: equal scores stand in a random order."""
    lots = rng.permutation(len(scores))
    order = sorted(range(len(scores)), key=lambda place: (list(scores.values())[place], lots[place]))
    items = list(scores)
    return {items[place]: float(level) for level, place in enumerate(order)}


def by_ir_measures(qrels: list[Any], run: Scores) -> dict[str, dict[str, float]]:
    """Metric -> case -> value."""
    found: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    names = {measure: name for name, measure in METRICS.items()}
    for one in ir_measures.iter_calc(list(METRICS.values()), qrels, run):
        found[names[one.measure]][one.query_id] = one.value
    return found


def by_ranx(qrels: list[Any], run: Scores) -> dict[str, dict[str, float]]:
    """Metric -> case -> value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba, of ranx' own types
        asked = ranx.Run(run)
        ranx.evaluate(ranx.Qrels(by_case(qrels)), asked, list(METRICS))
    return {name: dict(asked.scores[name]) for name in METRICS}


def by_case(qrels: list[Any]) -> dict[str, dict[str, int]]:
    """Case -> target -> relevance."""
    targets: dict[str, dict[str, int]] = {}
    for one in qrels:
        targets.setdefault(one.query_id, {})[one.doc_id] = one.relevance
    return targets


def read(path: Path) -> Scores:
    """A TREC run."""
    found: Scores = {}
    for one in ir_measures.read_trec_run(str(path)):
        found.setdefault(one.query_id, {})[one.doc_id] = one.score
    return found


def options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of --write-runs")
    parser.add_argument("report", type=Path, help="JSON of --json with --per-case")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
