"""Third part of the training: tower and connector learn to say the words, from pictures."""

from __future__ import annotations

from typing import Any

import torch
from pictures import FACTS
from torch import nn
from tower import FactHead, Pictures, pixels, shifted
from words import Words

from srec.lm import tiny

RIDGE = 1e-3
SIGHT = 0.1  # weight of the tower's own loss beside the distance from the words


@torch.no_grad()
def first_guess(model: Any, words: Words, made: Pictures, *, count: int = 8000) -> None:
    """Begin with the linear connector nearest to the words: a ridge regression from the tower's tokens."""
    connector = model.model.connector
    wanted = words(torch.from_numpy(made.facts[:count])).flatten(0, 1)
    rows = torch.cat([_quarters(model, made.pictures[at : at + 250]) for at in range(0, count, 250)]).flatten(0, 1)
    gram = rows.T @ rows / len(rows)
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    connector.modality_projection.proj.weight.copy_(torch.linalg.solve(gram, rows.T @ wanted / len(rows)).T)


def _quarters(model: Any, pictures: Any) -> torch.Tensor:
    """What the connector's matrix is given: float[batch, image tokens, inputs]."""
    inputs = pixels(torch.from_numpy(pictures))
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        tokens = model.model.vision_model(inputs).last_hidden_state
    return model.model.connector.pixel_shuffle(tokens.float(), tiny.SCALE)


class ConnectorTraining(nn.Module):
    """Tower and connector as `transformers.Trainer` wants them: pictures in, distance from the words out."""

    def __init__(self, model: Any, head: FactHead, words: Words) -> None:
        super().__init__()
        self.tower, self.connector, self.head = model.model.vision_model, model.model.connector, head
        self._words = (words.requires_grad_(requires_grad=False),)  # in a tuple: they are not trained any more
        everything = torch.cat([vectors.flatten(1) for vectors in words.vectors.values()])
        self._spread = float(everything.var(0).sum())
        for part in (self.tower, self.connector, self.head):
            part.requires_grad_(requires_grad=True)

    def forward(self, pictures: torch.Tensor, facts: torch.Tensor) -> dict[str, Any]:
        """uint8[batch, side, side, 3] and int64[batch, 3]; `seen` is int64[batch, 3], read from the image tokens."""
        inputs = pixels(pictures)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            tokens = self.tower(shifted(inputs) if self.training else inputs).last_hidden_state
        shown, wanted = self.connector(tokens.float()), self._words[0](facts)
        distance = (shown - wanted).pow(2).sum((1, 2)).mean() / self._spread
        sight = self.head.loss(self.head(tokens), facts)
        return {"loss": distance + SIGHT * sight, "seen": self._nearest(shown, facts)}

    @torch.no_grad()
    def _nearest(self, shown: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """Of each aspect, the value whose words are nearest, the other two facts being given."""
        found = []
        for place, values in enumerate(FACTS.values()):
            others = facts[:, None, :].repeat(1, len(values), 1)
            others[:, :, place] = torch.arange(len(values))
            words = self._words[0](others.flatten(0, 1)).unflatten(0, (len(facts), len(values)))
            found.append((words - shown[:, None]).pow(2).sum((2, 3)).argmin(1))
        return torch.stack(found, dim=1)
