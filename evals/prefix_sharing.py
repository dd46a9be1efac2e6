"""How much faster 100 candidates are scored when what their prompts share is computed once.

One run measures srec's local engine, asked by 100 threads at once, against whole prompts one at a time with 30 written
tokens (the usual loop around `generate`, on a sample) and whole prompts in batches of 10 with one forward pass each.
Every repeat has prompts of its own, so nothing is kept from the one before.

    python evals/prefix_sharing.py [--json OUT] [--repeats 3] [--sample 10]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from srec.lm.adapters import ask
from srec.lm.checkpoint import obtain
from srec.lm.connect import connect

MODEL, CANDIDATES, SHARED, OWN = "smollm2-135m", 100, 600, 40
WORDS = ("red", "old", "film", "long", "night", "house", "river", "music", "love", "war", "young", "city", "day")
OPTIONS = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": 20}
OURS, LOOP, BATCHES = "shared prefix, 100 threads", "whole prompts, 30 tokens each", "whole prompts, batches of 10"


def main() -> None:
    given = _options()
    lm = connect(f"local:{MODEL}")
    labels = lm.engine.answer_token_ids(("Yes.", "No."))
    model, exact = (_plain_model(dtype) for dtype in (lm.engine._model.dtype, torch.float32))  # noqa: SLF001 (its precision is not public)
    ours(lm, labels, *prompts(lm.engine.tokenizer, seed=0, count=2))  # the first pass of a process is slow
    rates: dict[str, list[float]] = {OURS: [], LOOP: [], BATCHES: []}
    for seed in range(1, given.repeats + 1):
        chats, ids = prompts(lm.engine.tokenizer, seed=seed, count=CANDIDATES)
        scores = _timed(rates[OURS], CANDIDATES, ours, lm, labels, chats, ids)
        _timed(rates[LOOP], given.sample, loop, model, ids[: given.sample])
        _timed(rates[BATCHES], CANDIDATES, in_batches, model, labels, ids)
    sample = ids[: given.sample]
    alone, true = (in_batches(m, labels, sample, rows=1) for m in (model, exact))
    pairs = {"shared - alone": (scores, alone), "shared - float32": (scores, true), "alone - float32": (alone, true)}
    differences = {name: max(abs(x - y) for x, y in zip(*pair, strict=False)) for name, pair in pairs.items()}
    show(rates, differences, str(model.dtype))
    if given.json:
        given.json.write_text(json.dumps({"candidates_per_s": rates, "differences": differences}, indent=1) + "\n")


def prompts(tokenizer: Any, *, seed: int, count: int) -> tuple[list[list[dict[str, str]]], list[list[int]]]:
    """Chats, and their token ids: the first `SHARED` are the same in all, then come `OWN` others."""
    draw = random.Random(seed)  # noqa: S311 (no secret)
    empty = _ids(tokenizer, "x")
    head = empty.index(tokenizer.encode("x")[0])
    tail = len(empty) - head - 1
    shared = " ".join(draw.choices(WORDS, k=SHARED - head))
    texts = [" ".join([shared, *draw.choices(WORDS, k=OWN - tail)]) for _ in range(count)]
    ids = [_ids(tokenizer, text) for text in texts]
    assert all(len(row) == SHARED + OWN and row[:SHARED] == ids[0][:SHARED] for row in ids)
    return [[{"role": "user", "content": text}] for text in texts], ids


def ours(lm: Any, labels: tuple[int, ...], chats: list[Any], ids: list[list[int]]) -> list[float]:
    """P(Yes) of each chat from srec's engine, all asked for at once."""

    def probability(chat: Any, expected: list[int]) -> float:
        response = ask(lm, chat, OPTIONS, label_ids=labels)
        assert response.usage.input_tokens == len(expected)
        logprob = {top.token_id: top.logprob for top in response.logprobs[0].top}
        return _probability(*(logprob[label] for label in labels))

    with ThreadPoolExecutor(len(chats)) as threads:
        return list(threads.map(probability, chats, ids))


@torch.inference_mode()
def loop(model: Any, ids: list[list[int]]) -> None:
    """Write 30 tokens to each whole prompt, one prompt at a time."""
    for row in ids:
        prompt = torch.tensor([row])
        seen = torch.ones_like(prompt)
        model.generate(prompt, attention_mask=seen, max_new_tokens=30, min_new_tokens=30, do_sample=False)


@torch.inference_mode()
def in_batches(model: Any, labels: tuple[int, ...], ids: list[list[int]], rows: int = 10) -> list[float]:
    """P(Yes) of each whole prompt, `rows` prompts in a forward pass."""
    scores = []
    for batch in torch.tensor(ids).split(rows):
        logits = model(batch, logits_to_keep=1).logits[:, -1].float()
        scores += [_probability(*row[list(labels)].tolist()) for row in logits.log_softmax(-1)]
    return scores


def show(rates: dict[str, list[float]], differences: dict[str, float], dtype: str) -> None:
    table = Table(title=f"{CANDIDATES} candidates, {SHARED} shared and {OWN} own tokens, {MODEL}, {dtype}")
    for column in ("way", "candidates/s", "lowest to highest", "shared prefix is faster by"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, found in rates.items():
        faster = f"{median(a / b for a, b in zip(rates[OURS], found, strict=True)):.1f} x"
        table.add_row(
            way, f"{median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}", "" if way == OURS else faster
        )
    console = Console(width=110)
    console.print(table)
    console.print(
        "largest difference in P(Yes):", ", ".join(f"|{name}| {value:.4f}" for name, value in differences.items())
    )


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--json", type=Path, help="also write the numbers to this file")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--sample", type=int, default=10, help="how many candidates the slow ways are tried on")
    return options.parse_args()


def _plain_model(dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(obtain(MODEL).folder, dtype=dtype).eval()


def _timed(rates: list[float], count: int, work: Callable[..., Any], *given: Any) -> Any:
    start = time.perf_counter()
    result = work(*given)
    rates.append(count / (time.perf_counter() - start))
    return result


def _ids(tokenizer: Any, text: str) -> list[int]:
    chat = [{"role": "user", "content": text}]
    return list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False))


def _probability(yes: float, no: float) -> float:
    return 1 / (1 + math.exp(no - yes))


if __name__ == "__main__":
    main()
