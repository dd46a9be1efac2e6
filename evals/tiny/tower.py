"""First part of the training: the vision tower learns to tell the facts of a toy, from every quarter of its picture.

The connector of an Idefics3 model with `scale_factor` 4 makes one image token of each quarter (4 x 4 patches) of the
8 x 8 patches. So the loss is asked of each quarter's mean: every image token must come to know the whole toy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pictures import FACTS
from torch import nn
from torch.nn import functional

QUARTERS = 4
SHIFT = 4  # px by which a training picture is moved at most
WEIGHTS = {"category": 2.0, "colour": 1.0, "pattern": 1.0}


def pixels(pictures: torch.Tensor) -> torch.Tensor:
    """uint8[batch, side, side, 3] as the image processor normalizes them: float[batch, 3, side, side] in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def shifted(pictures: torch.Tensor) -> torch.Tensor:
    """The batch of pixels moved by up to `SHIFT` px each way."""
    side = pictures.shape[-1]
    wide = functional.pad(pictures, (SHIFT,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
    return wide[:, :, down : down + side, right : right + side]


class FactHead(nn.Module):
    """Reads the three facts from a quarter's mean of the tower's tokens."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.sizes = [len(values) for values in FACTS.values()]
        self.read = nn.Linear(hidden, sum(self.sizes))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits [batch, quarters, values] of each aspect, of tokens [batch, 64, hidden]."""
        rows = tokens.float().unflatten(1, (2, 4, 2, 4)).mean((2, 4)).flatten(1, 2)
        return self.read(rows).split(self.sizes, dim=-1)

    def loss(self, logits: tuple[torch.Tensor, ...], facts: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over all quarters; facts int64[batch, 3]."""
        parts = [
            WEIGHTS[aspect] * functional.cross_entropy(seen.flatten(0, 1), facts[:, place].repeat_interleave(QUARTERS))
            for place, (aspect, seen) in enumerate(zip(FACTS, logits, strict=True))
        ]
        return torch.stack(parts).sum()


class TowerTraining(nn.Module):
    """Tower and head as `transformers.Trainer` wants them: a batch in, loss and answers out."""

    def __init__(self, tower: nn.Module, hidden: int) -> None:
        super().__init__()
        self.tower, self.head = tower, FactHead(hidden)

    def forward(self, pictures: torch.Tensor, facts: torch.Tensor) -> dict[str, Any]:
        """uint8[batch, side, side, 3] and int64[batch, 3]; `seen` is int64[batch, 3]."""
        inputs = pixels(pictures)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            tokens = self.tower(shifted(inputs) if self.training else inputs).last_hidden_state
        logits = self.head(tokens)
        seen = torch.stack([values.mean(1).argmax(-1) for values in logits], dim=1)
        return {"loss": self.head.loss(logits, facts), "seen": seen}


class Pictures(torch.utils.data.Dataset[dict[str, Any]]):
    """Rendered pictures and their facts, one by one."""

    def __init__(self, made: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> None:
        self.pictures, self.facts = made

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"pictures": self.pictures[row], "facts": self.facts[row]}


class OnTrial(torch.utils.data.Dataset[dict[str, Any]]):
    """The same, to be asked about in wordings that are kept from practice."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.pictures[row], "trial": True}


def accuracies(evaluated: Any) -> dict[str, float]:
    """Share of pictures whose fact is told, by aspect."""
    right = np.asarray(evaluated.predictions) == np.asarray(evaluated.label_ids)
    return {aspect: float(right[:, place].mean()) for place, aspect in enumerate(FACTS)}
