"""Second part of the training: what the image tokens should say, so that a frozen language model reads it.

No picture is needed for this: a toy is its three facts. Each fact's value has a vector in each of the image tokens; a
toy's tokens are the sums of its three values' vectors. They begin as the model's own embeddings of the words and are
trained, with the embeddings of the two marks around a picture, by the loss of the answers' tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from chats import IGNORED
from pictures import FACTS
from torch import nn
from torch.nn import functional
from transformers import DynamicCache

from srec.lm import tiny

SLOTS = ("pattern", "colour", "category", "category")  # whose words the image tokens are at first
NOISE = 0.03  # standard deviation of what is added to each number, as a connector will not be exact either


class Words(nn.Module):
    """The vectors of all values: facts in, image tokens out."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict({aspect: nn.Parameter(_at_first(model, tokenizer, aspect)) for aspect in FACTS})

    def forward(self, facts: torch.Tensor) -> torch.Tensor:
        """float[batch, image tokens, hidden] of int64[batch, 3]."""
        return torch.stack([self.vectors[aspect][facts[:, place]] for place, aspect in enumerate(FACTS)]).sum(0)


def _at_first(model: Any, tokenizer: Any, aspect: str) -> torch.Tensor:
    rows = word_rows(model, tokenizer, FACTS[aspect])
    return torch.stack([rows if slot == aspect else torch.zeros_like(rows) for slot in SLOTS], dim=1)


@torch.no_grad()
def word_rows(model: Any, tokenizer: Any, values: Sequence[str]) -> torch.Tensor:
    """The mean embedding of each value's tokens, as it stands inside a sentence: float[values, hidden]."""
    table = model.get_input_embeddings().weight.float()
    return torch.stack(
        [table[tokenizer(f" {value}", add_special_tokens=False)["input_ids"]].mean(0) for value in values]
    )


class WordsTraining(nn.Module):
    """Words and marks before a language model that stays as it is, as `transformers.Trainer` wants them."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self._frozen = (model.requires_grad_(requires_grad=False),)  # in a tuple: no part of this module's state
        self._tokenizer = tokenizer
        self._caches: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.mark_ids = tokenizer.convert_tokens_to_ids(list(tiny.MARKS))
        self.marks = nn.Parameter(model.get_input_embeddings().weight[self.mark_ids].float())
        self.words = Words(model, tokenizer)

    @property
    def model(self) -> Any:
        """The whole model."""
        return self._frozen[0]

    def forward(
        self,
        *,
        facts: torch.Tensor,
        before: str,
        ids: torch.Tensor,
        positions: torch.Tensor,
        labels: torch.Tensor,
        visible: torch.Tensor,
    ) -> dict[str, Any]:
        """The cross-entropy of the answers' tokens; `seen` is [1, 2]: share of likeliest tokens, cross-entropy."""
        shown = self.words(facts)
        if self.training:
            shown = shown + NOISE * torch.randn_like(shown)
        cache, past = self._cached(before, len(ids))
        hidden = self.model.model.text_model(
            inputs_embeds=self._embedded(ids, shown),
            attention_mask=torch.cat([visible.new_ones(*visible.shape[:2], past), visible], dim=2)[:, None],
            position_ids=positions + past,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        learnt = labels[:, 1:] != IGNORED
        logits, wanted = self.model.lm_head(hidden[:, :-1][learnt]).float(), labels[:, 1:][learnt]
        loss = functional.cross_entropy(logits, wanted)
        right = (logits.argmax(-1) == wanted).float().mean()
        return {"loss": loss, "seen": torch.stack([right, loss.detach()])[None]}

    def _embedded(self, ids: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        rows = self.model.get_input_embeddings()(ids)
        for place, mark in enumerate(self.mark_ids):
            rows = torch.where((ids == mark)[..., None], self.marks[place].to(rows.dtype), rows)
        places = (ids == self.model.config.image_token_id)[..., None].expand_as(rows)
        return rows.masked_scatter(places, shown.to(rows.dtype))

    def _cached(self, before: str, batch: int) -> tuple[DynamicCache, int]:
        """Keys and values of what stands before every picture, computed once for each prompt."""
        if before not in self._caches:
            ids = torch.tensor([self._tokenizer(before, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                made = self.model.model.text_model(input_ids=ids, use_cache=True).past_key_values
            self._caches[before] = [(layer.keys, layer.values) for layer in made.layers]
        cache = DynamicCache()
        for number, (keys, values) in enumerate(self._caches[before]):
            cache.update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), number)
        return cache, self._caches[before][0][0].shape[2]

    @torch.no_grad()
    def finish(self) -> Words:
        """Put the marks into the model; the words that the connector is to give."""
        rows = self.model.get_input_embeddings().weight
        rows[self.mark_ids] = self.marks.to(rows.dtype)
        return self.words


def token_accuracy(evaluated: Any) -> dict[str, float]:
    """Share of the answers' tokens that are the likeliest, and their cross-entropy, over batches of one prompt each."""
    right, loss = np.asarray(evaluated.predictions).reshape(-1, 2).mean(0)
    return {"token_accuracy": float(right), "answer_loss": float(loss)}
