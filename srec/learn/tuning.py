"""One training under way: `transformers.Trainer` over a plan of batches, with checkpoints, looks at dev, and a card."""

from __future__ import annotations

import json
import logging
import math
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler

from srec.card import write_card
from srec.errors import InputError
from srec.evaluation.metrics import auc
from srec.learn import batches
from srec.learn.reading import Example, Reader
from srec.learn.rows import Row, digest_of_rows
from srec.learn.student import Collator, Student, put_lora_on
from srec.learn.train import Progress, Step, TrainConfig
from srec.lm.checkpoint import Checkpoint, digest_of
from srec.lm.local import LocalEngine
from srec.lm.lora import CARD_FILE, SETTINGS_FILE, WEIGHTS_FILE, LoraCheckpoint, digest_of_lora
from srec.lm.merged import write_merged
from srec.progress import Tick, bar
from srec.types import Score

CHECKPOINTS = "checkpoints"
STATE_FILE = "trainer_state.json"
RUN_FILE = "run.json"
CURVE_POINTS = 200
LAST_STEPS = 20
PACKAGES = ("srec", "torch", "transformers", "peft", "accelerate")

History = Sequence[Mapping[str, float]]
"""What the trainer logged, in order: entries with "step", "seconds" of training, and either "loss" or "dev_auc"."""


class Tuning:
    """A training from its rows to the folder that it leaves."""

    def __init__(
        self,
        rows: list[Row],
        *,
        folder: Path,
        base: Checkpoint,
        out: Path,
        config: TrainConfig,
        dev: Callable[[Any], float] | tuple[list[Row], Path] | None,
        start: LoraCheckpoint | None,
        asked: str,
    ) -> None:
        self._rows, self._base, self._out, self._config, self._asked = rows, base, out, config, asked
        self._aside = out / CHECKPOINTS
        self._claim()
        self._arguments = _arguments(config, self._aside)
        self._engine = LocalEngine(base, device=str(self._arguments.device))
        stages = dict(config.stages)
        self._examples = Reader(self._engine, folder=folder, stages=stages).examples(rows)
        self._pack = config.pack and self._engine.is_plain
        self._plan = self._planned()
        self._dev = self._look_at(dev)
        torch.manual_seed(config.seed)
        self._around = put_lora_on(
            self._engine,
            rank=config.rank,
            alpha=config.alpha,
            dropout=config.dropout,
            layers=config.layers,
            base=base.name,
        )
        self._start = start
        if start is not None:
            _go_on_from(start, self._around)

    def run(self, progress: Progress | None) -> None:
        """Train to the end, from the last checkpoint if there is one, and write what came out."""
        with bar("train", total=self._plan.steps) as tick:
            trainer = self._trainer(progress, tick)
            try:
                history = self._learned(trainer)
            finally:
                self._engine.close()
        if trainer.is_world_process_zero():
            best = best_step(history)
            if best is not None:
                load_lora(self._around, self._aside / f"best-{best}")
            self._write(history)
        trainer.accelerator.wait_for_everyone()

    def _learned(self, trainer: _Trainer) -> History:
        """What was logged until the training was over."""
        last = last_checkpoint(self._aside)
        before: History = [] if last is None else _state(last)["log_history"]
        if is_over(before, patience=self._config.patience):
            return before
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        history: History = trainer.state.log_history
        return history

    def _claim(self) -> None:
        """Make the folder this training's; refuse one that another has begun."""
        mark = self._aside / RUN_FILE
        self._aside.mkdir(parents=True, exist_ok=True)
        if mark.exists() and json.loads(mark.read_text("utf-8")).get("training") != self._asked:
            raise InputError(f"{self._out} holds another training that was begun; name another folder, or remove it")
        if not mark.exists() and any(self._out.glob(SETTINGS_FILE)):
            raise InputError(f"{self._out} holds a LoRA without a card; name another folder")
        mark.write_text(json.dumps({"training": self._asked}), encoding="utf-8")

    def _planned(self) -> batches.Plan:
        config = self._config
        if not self._examples:
            raise InputError("all rows have a weight of 0; give stages or rows some weight")
        if config.ranking and not any(batches.has_list(g, self._examples) for g in batches.groups(self._examples)):
            raise InputError(
                "the ranking loss needs rows of one case and stage, some with label true and some with label false"
            )
        return batches.plan(
            self._examples,
            epochs=config.epochs,
            batch_rows=config.batch_rows,
            batch_positions=config.batch_positions,
            accumulate=config.accumulate,
            ranking=config.ranking,
            pack=self._pack,
            seed=config.seed,
            processes=self._arguments.world_size,
        )

    def _trainer(self, progress: Progress | None, tick: Tick) -> _Trainer:
        last = last_checkpoint(self._aside)
        schedule = _Schedule(
            spent=0.0 if last is None else spent_on(_state(last)["log_history"]),
            every=self._config.checkpoint_every,
            looks=_looks(self._plan, self._config) if self._dev is not None else frozenset(),
            patience=self._config.patience,
            progress=progress,
            tick=tick,
        )
        student = Student(self._engine)
        trainer = _Trainer(
            model=student,
            args=self._arguments,
            train_dataset=list(self._plan.batches),
            data_collator=Collator(self._engine, self._examples),
            callbacks=[schedule],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.around = self._around
        trainer.dev = None if self._dev is None else lambda: self._auc(student)
        return trainer

    # What dev says

    def _look_at(self, dev: Any) -> Any:
        """`dev` as a function from the student to a number."""
        if dev is None:
            return None
        if callable(dev):
            lm = dspy.LM(f"local/{self._engine.identity}", engine=self._engine, cache=False, temperature=0.0)
            return lambda _: float(dev(lm))
        rows, folder = dev
        examples = Reader(self._engine, folder=folder, stages={}).examples(rows)
        if not any(batches.has_list(group, examples) for group in batches.groups(examples)):
            raise InputError("no dev case has a liked and another candidate, so that there is no AUC; add such cases")
        return lambda student: mean_auc(
            examples,
            margins_of(self._engine, student, examples, pack=self._pack, positions=self._config.batch_positions),
        )

    def _auc(self, student: Student) -> float:
        self._engine.forget()  # its weights have changed since it was last asked
        student.eval()
        found = float(self._dev(student))
        self._engine.forget()
        return found

    # What is left

    def _write(self, history: History) -> None:
        if self._config.merge:
            write_merged(self._lora_aside(), self._out)
            digest = digest_of(self._out)
        else:
            save_lora(self._around, self._out)
            digest = digest_of_lora(self._out)
        write_card(self._out / CARD_FILE, self._card(history, digest=digest))
        shutil.rmtree(self._aside, ignore_errors=True)

    def _lora_aside(self) -> LoraCheckpoint:
        """The LoRA among the checkpoints, where it stays until it is merged."""
        folder = self._aside / "lora"
        save_lora(self._around, folder)
        return LoraCheckpoint(folder=folder, digest=digest_of_lora(folder), base=self._base)

    def _card(self, history: History, *, digest: str) -> dict[str, Any]:
        losses = [entry["loss"] for entry in history if "loss" in entry]
        looks = [entry for entry in history if "dev_auc" in entry]
        stages: dict[str, int] = {}
        for row in self._rows:
            stages[row.stage] = stages.get(row.stage, 0) + 1
        every = math.ceil(len(losses) / CURVE_POINTS)
        curve = [round(float(np.mean(losses[at : at + every])), 5) for at in range(0, len(losses), every)]
        metrics = {"loss": round(float(np.mean(losses[-LAST_STEPS:])), 5), "steps": len(losses)}
        if looks:
            metrics["dev_auc"] = max(entry["dev_auc"] for entry in looks)
        return {
            "digest": digest,
            "training": self._asked,
            "merged": self._config.merge,
            "base": {"name": self._base.name, "digest": self._base.digest},
            **({} if self._start is None else {"start": self._start.digest}),
            "data": {"digest": digest_of_rows(self._rows), "rows": len(self._rows), "stages": stages},
            "config": asdict(self._config),
            "metrics": {**metrics, "seconds": round(spent_on(history), 1)},
            "curve": {"steps_a_point": every, "loss": curve},
            "dev": [{"step": entry["step"], "auc": entry["dev_auc"]} for entry in looks],
            "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        }


class _Trainer(transformers.Trainer):
    """Takes the batches in the order of the plan, and keeps the LoRA in place of the whole model."""

    around: Any
    dev: Callable[[], float] | None
    control: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict  # of the decoder, most of which does not change
        save_lora(self.around, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del model
        load_lora(self.around, Path(resume_from_checkpoint))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Look at dev; the best LoRA so far is kept aside."""
        assert self.dev is not None
        found = {"dev_auc": self.dev()}
        self.log(found)
        if self.is_world_process_zero() and best_step(self.state.log_history) == self.state.global_step:
            save_lora(self.around, Path(self.args.output_dir) / f"best-{self.state.global_step}")
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


class _Schedule(transformers.TrainerCallback):
    """When to save and when to look at dev, when enough has been seen, and word of it."""

    def __init__(
        self, *, spent: float, every: int, looks: frozenset[int], patience: int, progress: Progress | None, tick: Tick
    ) -> None:
        self._began = time.monotonic() - spent
        self._every, self._looks, self._patience, self._progress, self._tick = every, looks, patience, progress, tick

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        step = state.global_step
        control.should_log = True
        control.should_save = step % self._every == 0
        control.should_evaluate = step in self._looks

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        del args, control
        state.log_history[-1]["seconds"] = time.monotonic() - self._began
        if "loss" in logs:
            self._tick(finished=state.global_step)
        if self._progress is not None and ("loss" in logs or "dev_auc" in logs):
            loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), math.nan)
            self._progress(Step(number=state.global_step, of=state.max_steps, loss=loss, dev_auc=logs.get("dev_auc")))

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        if is_over(state.log_history, patience=self._patience):
            control.should_training_stop = True
            control.should_save = True


def spent_on(history: History) -> float:
    """Seconds of training until the last thing that was logged, those before a kill included."""
    return max((entry.get("seconds", 0.0) for entry in history), default=0.0)


def best_step(history: History) -> int | None:
    """The step after which dev looked best, the first of equals; None without dev."""
    looks = [entry for entry in history if "dev_auc" in entry]
    return int(max(looks, key=lambda entry: (entry["dev_auc"], -entry["step"]))["step"]) if looks else None


def is_over(history: History, *, patience: int) -> bool:
    """Whether the last `patience` looks at dev were no better than one before."""
    looks = [entry["dev_auc"] for entry in history if "dev_auc" in entry]
    return len(looks) > patience and max(looks[-patience:]) <= max(looks[:-patience])


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written whole: its state is written last."""
    found = [path for path in folder.glob("checkpoint-*") if _state(path)]
    return max(found, key=lambda path: int(path.name.partition("-")[2]), default=None)


def save_lora(around: Any, folder: Path) -> None:
    """Write a LoRA in peft's layout: settings and numbers, no more."""
    folder.mkdir(parents=True, exist_ok=True)
    around.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form for the hub that nobody has filled in


def load_lora(around: Any, folder: Path) -> None:
    """Read a LoRA's numbers into the one that is trained."""
    import peft  # noqa: PLC0415 (an extra; slow)

    peft.set_peft_model_state_dict(around, load_file(folder / WEIGHTS_FILE))


def _go_on_from(start: LoraCheckpoint, around: Any) -> None:
    """Give the LoRA that is to be trained the numbers of another one."""
    there = {name: tensor.shape for name, tensor in load_file(start.folder / WEIGHTS_FILE).items()}
    wanted = {name: tensor.shape for name, tensor in peft_state(around).items()}
    if there != wanted:
        raise InputError(
            f"the LoRA in {start.folder} has another rank or other layers than the TrainConfig; give those of its card"
        )
    load_lora(around, start.folder)


def peft_state(around: Any) -> dict[str, torch.Tensor]:
    """The numbers of a LoRA by the names that its file has."""
    import peft  # noqa: PLC0415 (an extra; slow)

    state: dict[str, torch.Tensor] = peft.get_peft_model_state_dict(around, save_embedding_layers=False)
    return state


def margins_of(
    engine: Any, student: Student, examples: Sequence[Example], *, pack: bool, positions: int
) -> list[float]:
    """Logit Yes - logit No of each row's answer."""
    collate = Collator(engine, examples)
    made = batches.plan(
        examples,
        epochs=1,
        batch_rows=len(examples),
        batch_positions=positions,
        accumulate=1,
        ranking=0.0,
        pack=pack,
        seed=0,
    )
    margins = [0.0] * len(examples)
    for batch in made.batches:
        tensors = {name: tensor.to(engine.model.device) for name, tensor in collate([batch]).items()}
        with torch.no_grad():
            found = student(**tensors)["margins"].tolist()
        for i, margin in zip([i for tree in batch.trees for i in tree.members], found, strict=True):
            margins[i] = margin
    return margins


def mean_auc(examples: Sequence[Example], margins: Sequence[float]) -> float:
    """Mean over the cases in which there is something to rank."""
    found = []
    for group in batches.groups(examples):
        if batches.has_list(group, examples):
            scores = [Score(item_id=str(i), value=margins[i]) for i in group]
            found.append(auc(scores, [str(i) for i in group if examples[i].liked]))
    return float(np.mean(found))


def _looks(plan: batches.Plan, config: TrainConfig) -> frozenset[int]:
    every = config.evaluate_every
    return frozenset(plan.epoch_ends if every is None else [*range(every, plan.steps, every), plan.steps])


def _state(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's state; empty if it was not written whole."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state


def _arguments(config: TrainConfig, folder: Path) -> transformers.TrainingArguments:
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # the plan's batches are those of all epochs
        per_device_train_batch_size=1,  # an entry of the plan
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        seed=config.seed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",  # `_Schedule` says when
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001 (several are used by processes, as accelerate starts them)
    return arguments
