"""DSPy's own optimizers of weights on srec's training and serving.

lm = srec.tunable("local:srec-tiny", out="runs/finetune", config=srec.TrainConfig(epochs=1))
student = srec.for_dspy(program, lm=lm, metric="auc")
metric = lambda gold, made, trace=None: made.score >= 0.5
tuned = dspy.BootstrapFinetune(metric=metric, adapter=srec.StageAdapter()).compile(student, trainset=examples)

OUT/<digest>/rows.jsonl    what a finetuning learns from (`srec.learn.rows`), with its images/
OUT/<digest>/lora/         what it wrote; the digest is that of rows, base and configuration
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import dspy
from dspy.clients.provider import Provider, TrainingJob
from dspy.clients.utils_finetune import TrainDataFormat, TrainingStatus

from srec.digest import digest
from srec.errors import InputError, ModelError
from srec.learn.rows import ROWS_FILE, Row, digest_of_rows, line_of, without_pixels, write_picture, write_rows
from srec.learn.train import Step, TrainConfig, train
from srec.lm.family import Family, Words

LORA = "lora"
NAME_DIGITS = 12
ROW_FIELDS = frozenset({"stage", "case_id", "user_id", "item_id", "at", "label", "score", "weight", "teacher"})
_alone = threading.Lock()  # PyTorch's seed belongs to the whole process: one training at a time


def tunable(
    model: str,
    *,
    out: str | Path,
    config: TrainConfig | None = None,
    serve: bool | Mapping[str, Any] = False,
    device: str | None = None,
    max_tokens: int = 512,
    temperature: float = 0.0,
    cache: bool = False,
    num_retries: int = 2,
    **options: Any,
) -> dspy.LM:
    """A local model as an LM that DSPy can finetune: `dspy.BootstrapFinetune`, `dspy.BetterTogether`, `lm.finetune`.

    A finetuning trains a LoRA of the base with `srec.train`, also where the LM to finetune has a LoRA already. One that
    was killed goes on from its last checkpoint when the same rows come again, and one that ended is not done again.
    What it gives is an LM whose model is named by a digest of its weights, and asked the same way.

    `lm.kill()` drops the weights from memory or stops the server, `lm.launch()` loads or starts them. Weights in this
    process are also loaded when they are first asked; a server is not started unasked, and ends with this process.

    Args:
        model: A local model without a LoRA, as in "local:srec-tiny".
        out: The folder for rows and LoRAs; each finetuning has a folder of its own in it.
        config: How to train; `train_kwargs` of DSPy's optimizers replace single fields of it.
        serve: Whether vLLM answers, and not this process; or options of `srec.start_server`. `launch_kwargs` add to
            them.
        device: As in `srec.connect`.
        max_tokens: Likewise, as are the other settings.
        temperature: 0.0 for the likeliest answer.
        cache: Whether DSPy keeps answers, so that a run that was killed does not ask them again.
        num_retries: How often a call is tried again.
        options: Further generation options.

    Raises:
        ModelError: the model is not local or cannot be loaded.
        InputError: the configuration cannot be used here.
    """
    config = config or TrainConfig()
    _check(config)
    served = serve if isinstance(serve, Mapping) else {}
    family = Family(model, device=device, serve=None if serve is False else served)
    return dspy.LM(
        family.model,
        engine=family,
        provider=LoraProvider(family, out=Path(out), config=config),
        finetuning_model=family.base,
        max_tokens=max_tokens,
        temperature=temperature,
        cache=cache,
        num_retries=num_retries,
        **options,
    )


class LoraProvider(Provider):  # DSPy asks for a subclass
    """What DSPy asks to finetune, launch and kill an LM of `tunable`."""

    def __init__(self, family: Family, *, out: Path, config: TrainConfig) -> None:
        super().__init__()
        self.finetunable = True
        self.TrainingJob = Finetuning
        self.family, self.out, self.config = family, out, config

    def __deepcopy__(self, memo: dict[int, Any]) -> LoraProvider:
        """The provider itself: copies of an LM are of the same family."""
        return self

    def launch(self, lm: dspy.LM, launch_kwargs: dict[str, Any] | None = None) -> None:
        """Load the LM's weights, or start its server."""
        self.family.launch(lm.model, {**lm.launch_kwargs, **(launch_kwargs or {})})

    def kill(self, lm: dspy.LM, launch_kwargs: dict[str, Any] | None = None) -> None:
        """Drop the LM's weights, or stop its server."""
        del launch_kwargs
        self.family.kill(lm.model)

    def model_string(self, lm: dspy.LM) -> str:
        """What `srec.connect` and `--model` take for the same weights, in this process and later."""
        return self.family.model_string(lm.model)

    def finetune(
        self,
        job: Finetuning,
        model: str,
        train_data: Sequence[Mapping[str, Any]],
        train_data_format: TrainDataFormat | str | None,
        train_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Train a LoRA on DSPy's data; the name of its model."""
        del model  # the family's base, whichever of the family is to be finetuned
        if train_data_format != TrainDataFormat.CHAT:
            raise InputError(f"training data in the format {train_data_format!r} cannot be used; give chats ('chat')")
        config = configured(self.config, train_kwargs or {})
        rows, pictures = rows_of(train_data)
        name = digest("finetune", digest_of_rows(rows), self.family.checkpoint.digest, asdict(config))[:NAME_DIGITS]
        folder = self.out / name
        for image, data in pictures.items():
            write_picture(folder, image, data)
        with _alone:
            write_rows(folder / ROWS_FILE, rows)
            job.is_running = True
            made = train(
                folder / ROWS_FILE, base=self.family.base, out=folder / LORA, config=config, progress=job.report
            )
        return self.family.add(made.folder, words={words_of(row) for row in rows})


class Finetuning(TrainingJob):  # DSPy asks for a subclass
    """A finetuning under way; its result is the LM, or the error that ended it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.is_running = False
        self.step: Step | None = None
        self._stopped = threading.Event()

    def report(self, step: Step) -> None:
        """Take note of a step; raises `ModelError` if the finetuning is to stop, as at the end of the program."""
        self.step = step
        if self._stopped.is_set() or not threading.main_thread().is_alive():
            raise ModelError(
                f"the finetuning was stopped after step {step.number} of {step.of}; the same call goes on from its "
                "last checkpoint"
            )

    def cancel(self) -> bool:
        """Stop after the step under way; whether there was something to stop."""
        self._stopped.set()
        return not self.done()

    def status(self) -> TrainingStatus:
        """What has become of it; `step` tells how far it is."""
        if not self.done():
            return TrainingStatus.running if self.is_running else TrainingStatus.pending
        if isinstance(self.result(), Exception):
            return TrainingStatus.cancelled if self._stopped.is_set() else TrainingStatus.failed
        return TrainingStatus.succeeded


def configured(config: TrainConfig, told: Mapping[str, Any]) -> TrainConfig:
    """The configuration with `train_kwargs` in the place of some of its fields.

    Raises:
        InputError: one is no field of a `TrainConfig`, or has a value that cannot be used.
    """
    unknown = sorted(set(told) - {field.name for field in fields(TrainConfig)})
    if unknown:
        raise InputError(
            f"train_kwargs {', '.join(unknown)} cannot be used; give fields of srec.TrainConfig. One device trains "
            "here: for several GPUs write the rows with srec.distill, and run srec.train under `accelerate launch`"
        )
    changed = replace(config, **told)
    _check(changed)
    return changed


def rows_of(train_data: Sequence[Mapping[str, Any]]) -> tuple[list[Row], dict[str, str]]:
    """DSPy's training data as rows, and their pictures in base64 by name.

    Each call counts once, as in `srec.distill`; a verdict counts in each case. The order does not depend on that of the
    data, which is that of threads.

    Raises:
        InputError: data that srec's adapter did not write: it need not be what the program asks.
    """
    found: dict[Any, Row] = {}
    pictures: dict[str, str] = {}
    for row, shown in sorted(map(_row, train_data), key=lambda pair: (pair[0].case_id, line_of(pair[0]))):
        pictures.update(shown)
        case_id = row.case_id if row.label is not None else ""
        found.setdefault((row.stage, case_id, str(row.messages), row.images), row)
    if not found:
        raise InputError("no call is left to learn from: all cases failed, or the metric let none pass")
    return list(found.values()), pictures


def words_of(row: Row) -> Words:
    """What the prompt of a row has in common with others of its predictor."""
    return tuple(str(turn["content"]) for turn in row.question if turn["role"] != "user")


def _row(data: Mapping[str, Any]) -> tuple[Row, list[tuple[str, str]]]:
    if "stage" not in data or "messages" not in data:
        raise InputError(
            "training data does not tell its stage, so that it need not be what the program asks; write "
            "dspy.BootstrapFinetune(..., adapter=srec.StageAdapter()), or give a 'stage' beside 'messages'"
        )
    messages, pictures = without_pixels(data["messages"])
    about = {name: value for name, value in data.items() if name in ROW_FIELDS}
    return Row(messages=messages, images=tuple(name for name, _ in pictures), **about), pictures


def _check(config: TrainConfig) -> None:
    if config.merge:
        raise InputError("merge=True writes a whole model, which DSPy's finetuning does not need; leave it out")


__all__: Sequence[str] = ["tunable"]
