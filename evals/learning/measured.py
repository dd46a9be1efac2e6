"""Systems on the same cases, in this process and served by vLLM, and what the student differs by."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import srec
from srec.data.cases import CaseSet
from srec.learn.rows import Row
from srec.learn.train import Lora, Step

NOTED = 25  # steps
METRICS = ("ndcg@10", "auc")
logger = logging.getLogger("learn")


def with_lm(program: srec.MLLMSRec, lm: Any) -> srec.MLLMSRec:
    """A copy of a program that asks `lm`."""
    copy: srec.MLLMSRec = program.deepcopy()
    copy.set_lm(lm)
    return copy


def changed(program: srec.MLLMSRec, change: Callable[[srec.Case], srec.Case]) -> Callable[[srec.Case], Any]:
    """A program that is shown another case than it is asked about."""
    return lambda case: program(change(case)).scores


def measured(
    cases: CaseSet,
    systems: Mapping[str, Any],
    *,
    served: srec.MLLMSRec,
    lora: Lora,
    base: str,
    options: argparse.Namespace,
    folder: Path,
    pairs: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The AUC of every system, and of `served` with the LoRA in a vLLM process as `lora_vllm`, on the same cases.

    The LoRA is merged for it: on the processor, vLLM is far slower with a LoRA beside the weights.

    The student is compared with every other system, and of `pairs` the first with the second.
    """
    if unknown := set(options.systems or ()) - systems.keys():
        raise SystemExit(f"--systems {min(unknown)} is none of: {', '.join(systems)}")
    chosen = systems if options.systems is None else {"lora", *options.systems}
    systems, told = {name: system for name, system in systems.items() if name in chosen}, {}
    about = {"store": folder / "store", "workers": options.workers, "seed": options.seed, "out": options.keep}
    if not options.vllm:
        report = srec.evaluate(cases, systems, **about)
    else:
        started = time.monotonic()
        with srec.serve(lora.folder, base=base, merge=True, log=folder / "vllm.log", max_model_len=2048) as lm:
            told = {"start_seconds": time.monotonic() - started, "model": lm.model}
            systems["lora_vllm"] = with_lm(served, lm)
            report = srec.evaluate(cases, systems, **about)
    auc = {name: _interval(row.metrics["auc"]) for name, row in report.rankers.items()}
    asked = [
        *(("lora", name) for name in systems if name != "lora"),
        *(pair for pair in pairs if {*pair} <= auc.keys()),
    ]
    if options.table:
        write_table(report, asked, command=options.command, to=options.table)
    return {
        "n": report.n,
        **auc,
        "auc": auc,
        "differences": {f"{a} - {b}": asdict(report.compare(a, b, "auc")) for a, b in asked},
        "weights": {name: list(map(dict, row.weights)) for name, row in report.rankers.items() if row.weights},
        "unscored": {name: row.unscored for name, row in report.rankers.items()},
        "served": told,
    }


def write_table(report: srec.Report, pairs: Sequence[tuple[str, str]], *, command: str, to: Path) -> None:
    """The whole report, of all metrics and slices, with what differs on the same cases, p corrected for all pairs."""
    told = report.to_dict(per_case=False)
    del told["comparisons"]  # of every pair; those worth a look are in `paired`
    told["paired"] = [asdict(pair) for metric in METRICS for pair in report.comparisons(metric, pairs=pairs).pairs]
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(told | {"command": command}, indent=1) + "\n", encoding="utf-8")


def note(step: Step) -> None:
    """Say where a training is, now and then."""
    if step.number % NOTED == 0 or step.dev_auc is not None:
        dev = "" if step.dev_auc is None else f", dev AUC {step.dev_auc:.3f}"
        logger.info("step %d of %d: loss %.3f%s", step.number, step.of, step.loss, dev)


def told_of(rows: Sequence[Row], *lessons: Lora, pupils: int, base: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a training was, in one lesson or several, for the record."""
    return {
        "reasoning": options.reasoning,
        "base_model": base,
        "taught_cases": pupils,
        "rows": dict(Counter(row.stage for row in rows)),
        "train_seconds": sum(lora.metrics["seconds"] for lora in lessons),
        "train": [dict(lora.metrics) for lora in lessons],
        "lora_digest": lessons[-1].digest,
    }


def _interval(metric: Any) -> dict[str, float]:
    return {name: getattr(metric, name) for name in ("value", "low", "high")}
