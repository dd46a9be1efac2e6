"""Rankers on the same cases, with the AUC of every case, so that differences are paired."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import srec
from srec.data.cases import CaseSet
from srec.evaluation.metrics import Interval, Placement, bootstrap, measure
from srec.learn.rows import Row
from srec.learn.train import Lora

Change = Callable[[srec.Case], srec.Case]


@dataclass(kw_only=True)
class Watched:
    """A program as a ranker that notes the metric of every case; `change` shows it another case than is asked."""

    program: Any
    change: Change | None = None
    metric: str = "auc"
    of_case: dict[str, float] = field(default_factory=dict)

    def __call__(self, case: srec.Case) -> Any:
        """Scores of the candidates, in order."""
        scores = self.program(self.change(case) if self.change else case).scores
        found = measure(Placement.of(scores, case.target_ids), ks=[10])
        self.of_case[case.case_id] = found[self.metric]
        return scores


def measured(cases: CaseSet, rankers: Mapping[str, Watched], *, store: Path, workers: int, seed: int) -> srec.Report:
    """All rankers on the same cases; what the programs make is kept in `store`."""
    return srec.evaluate(cases, dict(rankers), store=store, workers=workers, seed=seed)


def figure(interval: Interval) -> dict[str, float]:
    """`{"value", "low", "high"}`."""
    told = asdict(interval)
    return {name: told[name] for name in ("value", "low", "high")}


def difference(one: Watched, other: Watched, *, seed: int) -> dict[str, float]:
    """Mean of `one` less `other` over the cases of both, with its 95 % interval; cases are drawn."""
    both = sorted(one.of_case.keys() & other.of_case.keys())
    drawn = bootstrap([one.of_case[c] - other.of_case[c] for c in both], groups=both, seed=seed)
    return {**figure(drawn), "n": drawn.n}


def with_lm(program: Any, lm: Any) -> Any:
    """A copy of a program that asks `lm`."""
    copy = program.deepcopy()
    copy.set_lm(lm)
    return copy


def measured_all(
    cases: CaseSet,
    systems: Mapping[str, Watched],
    *,
    lora: Path,
    base: str,
    options: argparse.Namespace,
    store: Path,
) -> dict[str, Any]:
    """All systems on the same cases; one named `lora_vllm` asks a vLLM process that serves the LoRA."""
    here = {name: one for name, one in systems.items() if name != "lora_vllm"}
    report = measured(cases, here, store=store, workers=options.workers, seed=options.seed)
    found = {name: figure(report.rankers[name].metrics["auc"]) for name in here}
    served: dict[str, Any] = {}
    if "lora_vllm" in systems:
        started = time.monotonic()
        with srec.serve(lora, base=base, log=store.parent / "vllm.log", max_model_len=2048) as lm:
            served = {"start_seconds": time.monotonic() - started, "model": lm.model}
            systems["lora_vllm"].program = with_lm(systems["lora_vllm"].program, lm)
            told = measured(
                cases, {"lora_vllm": systems["lora_vllm"]}, store=store, workers=options.workers, seed=options.seed
            )
        found["lora_vllm"] = figure(told.rankers["lora_vllm"].metrics["auc"])
    others = [name for name in systems if name != "lora"]
    return {
        "n": report.n,
        "auc": found,
        "differences": {
            f"lora - {name.replace('_', ' ')}": difference(systems["lora"], systems[name], seed=options.seed)
            for name in others
        },
        "unscored": {name: report.rankers[name].unscored for name in here},
        "served": served,
    }


def told_of(rows: Sequence[Row], lora: Lora, *, pupils: int, base: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a training was, for the record."""
    return {
        "reasoning": options.reasoning,
        "base_model": base,
        "taught_users": pupils,
        "rows": dict(Counter(row.stage for row in rows)),
        "train_seconds": lora.metrics["seconds"],
        "train": dict(lora.metrics),
        "lora_digest": lora.digest,
    }
