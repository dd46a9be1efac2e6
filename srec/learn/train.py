"""Train a LoRA on rows: what to set, what comes out, and the one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from srec.card import read_card
from srec.digest import digest
from srec.errors import InputError, MissingPackage, ModelError
from srec.learn.rows import Row, digest_of_rows, read_rows
from srec.lm.checkpoint import Checkpoint, obtain
from srec.lm.connect import parse
from srec.lm.lora import CARD_FILE, obtain_lora

LANGUAGE_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
AT_LEAST_ONE = ("rank", "epochs", "batch_rows", "batch_positions", "accumulate", "checkpoint_every", "patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train.

    Attributes:
        rank: Width of the LoRA.
        alpha: What the LoRA says is multiplied by alpha / rank.
        dropout: Share of a LoRA's inputs that are dropped while training.
        layers: The language layers that get a LoRA; those that the model lacks are passed over.
        epochs: How often each row is seen.
        learning_rate: The highest, after the warm-up; it falls as a cosine to 0.
        warmup: Share of the steps until the learning rate is reached.
        weight_decay: Of the LoRA's numbers, for each step, times the learning rate.
        clip: Longest gradient; a longer one is shortened to it.
        batch_rows: Most rows computed at once.
        batch_positions: Most positions computed at once, padding counted; memory is in proportion.
        accumulate: Batches to one step.
        stages: How much the rows of a stage count, 1.0 where it is not named; 0.0 leaves a stage out.
        ranking: Weight of the listwise loss over a user's candidates beside that of the answers; 0.0 for none. It is
            taken over rows that share case and stage and of which some, and not all, are labelled as liked. These are
            computed at once, more than `batch_rows` if need be.
        pack: Compute what the rows of a case have in common once. The result is the same up to rounding; models whose
            attention is more than a causal softmax are trained without.
        seed: Of the order of the rows, the LoRA's first numbers and the dropout.
        evaluate_every: Steps from one look at `dev` to the next; None for the end of each epoch.
        patience: So many looks without a better AUC end the training.
        checkpoint_every: Steps after which the training can go on if it is killed.
        merge: Write a whole model with the LoRA added to its weights, in place of the LoRA.

    Raises:
        InputError: a value that cannot be meant.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    layers: tuple[str, ...] = LANGUAGE_LAYERS
    epochs: int = 3
    learning_rate: float = 2e-4
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    batch_rows: int = 32
    batch_positions: int = 4096
    accumulate: int = 1
    stages: Mapping[str, float] = field(default_factory=dict)
    ranking: float = 0.0
    pack: bool = True
    seed: int = 0
    evaluate_every: int | None = None
    patience: int = 3
    checkpoint_every: int = 50
    merge: bool = False

    def __post_init__(self) -> None:
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} of a TrainConfig must be at least 1")
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise InputError(f"evaluate_every={self.evaluate_every} must be at least 1, or None for each epoch's end")
        if self.learning_rate <= 0 or self.clip <= 0:
            raise InputError("learning_rate and clip of a TrainConfig must be more than 0")
        if not 0 <= self.dropout < 1 or not 0 <= self.warmup < 1:
            raise InputError("dropout and warmup of a TrainConfig are shares, from 0 up to less than 1")
        if min([self.ranking, self.weight_decay, *self.stages.values()]) < 0:
            raise InputError("ranking, weight_decay and stages of a TrainConfig must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """What a training wrote.

    Attributes:
        folder: peft's files, or with `merge` a whole model, and `card.toml`.
        base: Identity of the model that it was trained on, with its digest.
        digest: SHA-256 of its numbers.
        metrics: "loss" of the last steps, "steps", "seconds", and "dev_auc" where there was a `dev`.
        merged: Whether the folder holds a whole model.
    """

    folder: Path
    base: str
    digest: str
    metrics: Mapping[str, float]
    merged: bool = False

    @classmethod
    def read(cls, folder: str | Path) -> Lora:
        """What lies in a folder; raises ModelError if no training ended there."""
        place = Path(folder)
        card = _card(place)
        try:
            base = f"{card['base']['name']}@{card['base']['digest'][:12]}"
            metrics = {name: float(number) for name, number in card["metrics"].items()}
            return cls(folder=place, base=base, digest=card["digest"], metrics=metrics, merged=card["merged"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{place / CARD_FILE} is not the card of a training: {error!r} is missing") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a training is after a step; `dev_auc` is told where `dev` was looked at."""

    number: int
    of: int
    loss: float
    dev_auc: float | None = None


Rows = str | Path | Iterable[Row]
Dev = Rows | Callable[[Any], float]
Progress = Callable[[Step], None]


def train(
    rows: Rows,
    *,
    base: str,
    out: str | Path,
    config: TrainConfig | None = None,
    dev: Dev | None = None,
    start: str | Path | None = None,
    images: str | Path | None = None,
    progress: Progress | None = None,
) -> Lora:
    """Train a LoRA of `base` on `rows` and write it to the folder `out`.

    The loss covers the last message of each row and the token that ends it. A training that was killed goes on from its
    last checkpoint when it is called again with the same arguments; one that ended is not done again.

    Args:
        rows: A file of rows (`srec.learn.rows`) or the rows themselves.
        base: A local model, as in "local:srec-tiny".
        out: A folder of its own for this training.
        config: How to train.
        dev: What decides when to stop and which of the LoRAs is kept: verdict rows of other users, as file or rows,
            whose mean AUC of a case is taken; or a function from an LM, the model as it then is, to a number, larger
            for better.
        start: The folder of a LoRA of the same base, rank and layers to go on from, in the place of a fresh one.
        images: The folder in which `images/` lies; by default that of the file of rows.
        progress: Called after each step.

    Raises:
        InputError: rows, dev rows or `out` cannot be used.
        ModelError: the base cannot be loaded or trained.
        MissingPackage: the extra `local` is not installed.
    """
    config = config or TrainConfig()
    wanted = parse(base)
    if wanted.kind != "local" or wanted.lora:
        raise ModelError(f"{base!r} cannot be trained; give a local model without a LoRA, as in local:srec-tiny")
    learnt, folder = _listed(rows, images)
    if not learnt:
        raise InputError("there are no rows to train on")
    known = {row.stage for row in learnt}
    if unknown := ", ".join(sorted(set(config.stages) - known)):
        listed = ", ".join(sorted(known))
        raise InputError(f"stages of the TrainConfig: there is no row of {unknown}; rows are of {listed}")
    tried = dev if dev is None or callable(dev) else _dev_rows(dev, images)
    model = obtain(wanted.model)
    target = Path(out)
    first = None if start is None else obtain_lora(start, base=model)
    asked = _digest(learnt, tried, model, config, start=first.digest if first else "")
    ended = _ended(target, asked)
    if ended is not None:
        return ended
    try:
        from srec.learn.tuning import Tuning  # noqa: PLC0415 (torch is loaded when it is needed)
    except ImportError as error:
        raise MissingPackage(error.name or "peft", extra="local") from error
    Tuning(learnt, folder=folder, base=model, out=target, config=config, dev=tried, start=first, asked=asked).run(
        progress
    )
    return Lora.read(target)


def _listed(rows: Rows, images: str | Path | None) -> tuple[list[Row], Path]:
    """The rows, and the folder in which their pictures lie."""
    if isinstance(rows, (str, Path)):
        return list(read_rows(rows)), Path(images) if images is not None else Path(rows).parent
    return list(rows), Path(images) if images is not None else Path()


def _dev_rows(dev: Rows, images: str | Path | None) -> tuple[list[Row], Path]:
    rows, folder = _listed(dev, images)
    if any(row.saw_answer for row in rows):
        raise InputError("a dev row's reasoning saw the answer, so that its AUC would say nothing; leave such rows out")
    verdicts = [row for row in rows if row.label is not None]
    if not verdicts:
        raise InputError("no dev row has a label; give verdict rows, of which an AUC can be taken")
    return verdicts, folder


def _digest(rows: list[Row], dev: Any, base: Checkpoint, config: TrainConfig, *, start: str) -> str:
    """What decides a training; a function given as `dev` counts as such, whatever it does."""
    tried = "function" if callable(dev) else "" if dev is None else digest_of_rows(dev[0])
    begun = {"start": start} if start else {}
    return digest("train", digest_of_rows(rows), tried, base.digest, {**asdict(config), **begun})


def _ended(out: Path, asked: str) -> Lora | None:
    """The training that ended in a folder, None where none did; refuses the folder of another training."""
    if not (out / CARD_FILE).exists():
        return None
    card = _card(out)
    if card.get("training") != asked:
        raise InputError(f"{out} holds what another training wrote; name another folder, or remove this one")
    return Lora.read(out)


def _card(folder: Path) -> dict[str, Any]:
    """What is told of the training that ended in a folder."""
    try:
        return read_card(folder / CARD_FILE)
    except InputError as error:
        raise ModelError(f"{error} with srec.train") from error
