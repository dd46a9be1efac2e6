"""How fast a training goes and what it holds, against a plain `transformers.Trainer` that computes all logits.

Both train the same LoRA on the same verdict rows, as many to a step, each in a process of its own. Ours computes what a
user's candidates share once and puts the answers' positions alone through the output layer; `ours, unpacked` does the
latter only. The plain one is what the documentation of peft shows: rows padded on the right, the loss taken by the
model. Tokens are those of the rows, padding left out and what is shared counted in every row, so that the rates can be
compared. The first step of a process is not timed; the peak is of the whole process, the model included.

    python evals/train_throughput.py [--json OUT] [--model local:smollm2-135m] [--steps 4] [--rows 20]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Without evals/, whose datasets/ would pass for the package of that name.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent]

import peft
import torch
import transformers
from rich.console import Console
from rich.table import Table

from srec.learn.rows import Row, read_rows, write_rows
from srec.learn.train import LANGUAGE_LAYERS, TrainConfig, train
from srec.lm.checkpoint import obtain
from srec.lm.connect import parse

WAYS = ("plain", "ours, unpacked", "ours")
RANK, RATE = 16, 2e-4


def main() -> None:
    given = _options()
    if given.way:
        print(json.dumps(measure(given.way, model=given.model, steps=given.steps, rows=given.rows)))
        return
    told = {way: in_own_process(way, given) for way in WAYS}
    show(told)
    if given.json:
        given.json.write_text(json.dumps({"model": given.model, "rows_a_step": given.rows, "ways": told}) + "\n")


def in_own_process(way: str, given: argparse.Namespace) -> dict[str, float]:
    options = ["--model", given.model, "--steps", str(given.steps), "--rows", str(given.rows)]
    called = [sys.executable, __file__, "--way", way, *options]
    done = subprocess.run(called, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(way: str, *, model: str, steps: int, rows: int) -> dict[str, float]:
    """Tokens a second, and the most memory that this process held."""
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_rows(folder / "rows.jsonl", chats(steps * rows, candidates=rows))
        tokens, times = (plain if way == "plain" else ours)(folder, way, model, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = tokens / steps
    return {"tokens_per_s": each * (steps - 1) / (times[-1] - times[0]), "peak_mib": peak}


def chats(count: int, *, candidates: int) -> list[Row]:
    """Verdicts about a user's candidates, after some 250 words about the user."""
    made = []
    for number in range(count):
        user, item = divmod(number, candidates)
        about = " ".join(f"Toy {(user * 31 + word * 7) % 97} was bought and liked." for word in range(50))
        text = f"### Profile\nUser {user}. {about}\n\n### Target item\nToy {item}: red plastic car, striped."
        question = {"role": "user", "content": text}
        answer = {"role": "assistant", "content": "Yes." if item == user % candidates else "No."}
        about_case = {"case_id": f"u{user}", "item_id": str(item), "label": item == user % candidates}
        made.append(Row(stage="scoring.judge", messages=(question, answer), **about_case))
    return made


def ours(folder: Path, way: str, model: str, rows: int) -> tuple[int, list[float]]:
    pack = way == "ours"
    config = TrainConfig(rank=RANK, epochs=1, batch_rows=rows, batch_positions=1 << 20, learning_rate=RATE, pack=pack)
    times: list[float] = []

    def progress(_: Any) -> None:
        times.append(time.perf_counter())

    train(folder / "rows.jsonl", base=model, out=folder / "lora", config=config, progress=progress)
    return sum(map(len, encoded(folder, model)[0])), times


def plain(folder: Path, way: str, model: str, rows: int) -> tuple[int, list[float]]:
    del way
    ids, asked = encoded(folder, model)

    def collate(batch: list[int]) -> dict[str, torch.Tensor]:
        longest = max(len(ids[i]) for i in batch)
        made = {"input_ids": torch.zeros(len(batch), longest, dtype=torch.long)}
        made["attention_mask"] = torch.zeros_like(made["input_ids"])
        made["labels"] = torch.full_like(made["input_ids"], -100)
        for row, i in enumerate(batch):
            made["input_ids"][row, : len(ids[i])] = torch.tensor(ids[i])
            made["attention_mask"][row, : len(ids[i])] = 1
            made["labels"][row, asked[i] : len(ids[i])] = torch.tensor(ids[i][asked[i] :])
        return made

    class Clock(transformers.TrainerCallback):
        times: list[float] = []  # noqa: RUF012 (one process, one training)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.times.append(time.perf_counter())

    base = obtain(parse(model).model).folder
    whole = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    settings = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(LANGUAGE_LAYERS), task_type="CAUSAL_LM")
    trainer = transformers.Trainer(
        model=peft.get_peft_model(whole, settings),
        args=transformers.TrainingArguments(
            output_dir=str(folder / "plain"),
            num_train_epochs=1,
            per_device_train_batch_size=rows,
            learning_rate=RATE,
            bf16=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=list(range(len(ids))),
        data_collator=collate,
        callbacks=[Clock()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return sum(map(len, ids)), Clock.times


def encoded(folder: Path, model: str) -> tuple[list[list[int]], list[int]]:
    """Token ids of each row, and how many of them are its prompt's."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(obtain(parse(model).model).folder)
    ids, asked = [], []
    for row in read_rows(folder / "rows.jsonl"):
        opening = tokenizer.apply_chat_template(list(row.question), tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(opening, add_special_tokens=False)["input_ids"]
        whole = tokenizer(opening + row.answer, add_special_tokens=False)["input_ids"]
        ids.append([*whole, tokenizer.eos_token_id])
        asked.append(len(prompt))
    return ids, asked


def show(told: dict[str, dict[str, float]]) -> None:
    table = Table("training", "tokens/s", "times plain", "peak MiB", "share of plain")
    base = told["plain"]
    for way, found in told.items():
        faster = found["tokens_per_s"] / base["tokens_per_s"]
        share = found["peak_mib"] / base["peak_mib"]
        table.add_row(
            way, f"{found['tokens_per_s']:,.0f}", f"{faster:.2f}", f"{found['peak_mib']:,.0f}", f"{share:.2f}"
        )
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:smollm2-135m")
    parser.add_argument("--steps", type=int, default=4, help="of each training; the first is not timed")
    parser.add_argument("--rows", type=int, default=20, help="rows a step: one user's candidates")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.steps < 2:  # noqa: PLR2004 (one is not timed)
        parser.error("--steps must be at least 2")
    return given


if __name__ == "__main__":
    main()
