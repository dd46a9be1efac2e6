"""From a decoder's last hidden state to logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class Head:
    """A model's output layer with what its family does after it (soft cap, scale); logits come in float32.

    Logits near 20 are 0.125 apart in bfloat16, so that many candidates would tie. Those of the tokens `fine` are
    therefore computed in float32 from the hidden state on.
    """

    def __init__(self, layer: Any, config: Any, *, fine: Sequence[int] = ()) -> None:
        self._layer = layer
        self._fine = list(fine)
        self._weight = layer.weight[self._fine].detach().float()  # [fine, hidden]
        bias = getattr(layer, "bias", None)
        self._bias = bias[self._fine].detach().float() if bias is not None else 0.0
        self._cap = getattr(config, "final_logit_softcapping", None)  # Gemma
        self._scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocabulary] of hidden states [rows, hidden]."""
        logits: torch.Tensor = self._layer(hidden).float()
        if self._fine:
            logits[:, self._fine] = hidden.float() @ self._weight.T + self._bias
        logits = logits * self._scale  # Cohere multiplies, Granite divides
        return self._cap * torch.tanh(logits / self._cap) if self._cap else logits
