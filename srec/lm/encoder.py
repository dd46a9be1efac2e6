"""Texts as vectors by a sentence encoder in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError

from srec.errors import ModelError
from srec.lm.sentence import Recipe

Vectors = NDArray[np.float32]

MOST_TOKENS = 512  # of a text, for an encoder that does not say
ROWS = {"cpu": 1, "cuda": 64}
"""Texts of a batch. On a processor one is as fast as many, and its vector then owes nothing to its company."""


class TextEncoder:
    """A sentence encoder with its weights loaded, in float32; on the GPU where there is one."""

    def __init__(self, recipe: Recipe, *, device: str | None = None) -> None:
        transformers.utils.logging.disable_progress_bar()
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._pooling, folder = recipe.pooling, recipe.checkpoint.folder
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{folder} cannot be loaded as an encoder of texts: {error}") from error
        self._model = model.to(self._device).eval()
        self._max_tokens = recipe.max_tokens or min(self._tokenizer.model_max_length, MOST_TOKENS)
        self._rows = ROWS.get(self._device.type, 1)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Vectors [texts, dimensions], of any length."""
        vectors = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        for places, found in self.batches(texts):
            vectors[places] = found
        return vectors

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Vectors]]:
        """Places in `texts` and the vectors [places, dimensions] of what stands there; the shortest texts first."""
        by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(texts), self._rows):
            places = by_length[start : start + self._rows]
            yield places, self._encoded([texts[place] for place in places])

    def _encoded(self, texts: list[str]) -> Vectors:
        tokens: Any = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state  # [texts, tokens, dimensions]
        if self._pooling == "cls":
            return np.asarray(states[:, 0].cpu())
        mask = tokens["attention_mask"].unsqueeze(-1)
        return np.asarray(((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu())
