"""Attention of many rows to one prefix that all of them share.

The prefix's keys and values stand once, not once per row: the queries of all rows are laid behind one another and
multiplied with them as one matrix. Each row's scores of the prefix and of its own part go through one softmax, so the
result is what attention over the whole row gives, up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "srec_shared_prefix"
PLAIN = frozenset({"gemma", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})
"""Model types whose attention is a causal softmax over scaled products and nothing else; each is tested."""

MOST_SCORES_OF_A_ROW = 2**26
BLOCK_SCORES = 2**21  # about what a processor's cache holds; larger blocks are no faster

Prefix = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, [key heads, positions, width]."""


def install(decoder: Any) -> bool:
    """Let a decoder attend to a shared prefix where it is given one; False, and nothing changed, where it cannot."""
    layers = DynamicCache(config=decoder.config).layers
    plain = decoder.config.model_type in PLAIN and all(type(layer) is DynamicLayer for layer in layers)
    if plain and decoder.config._attn_implementation == "sdpa":  # noqa: SLF001 (no public name)
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        decoder.set_attn_implementation(NAME)
    return bool(decoder.config._attn_implementation == NAME)  # noqa: SLF001 (no public name)


def fits(config: Any, *, shared: int, own: int) -> bool:
    """Whether the scores of one row, which are held as a whole, stay small."""
    return bool(config.num_attention_heads * own * (shared + own) <= MOST_SCORES_OF_A_ROW)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    prefix: Prefix | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function for transformers: `query` [rows, heads, length, width], `key` and `value` of own parts.

    Without a `prefix` it is the usual one. `attention_mask` [rows, 1, length, own] is true where a query sees a key.
    """
    if prefix is None:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return result
    rows, heads, length, _ = query.shape
    if attention_mask is None:
        ones = torch.ones(1, 1, length, key.shape[2], dtype=torch.bool, device=query.device)
        attention_mask = ones.tril(key.shape[2] - length)
    hidden = ~attention_mask.expand(rows, -1, -1, -1)
    shared = prefix[module.layer_idx]
    block = max(1, BLOCK_SCORES // (heads * length * (shared[0].shape[1] + key.shape[2])))
    parts = [part.split(block) for part in (query * scaling, key, value, hidden)]
    return torch.cat([_block(*part, shared=shared) for part in zip(*parts, strict=True)]).transpose(
        1, 2
    ).contiguous(), None


def _block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    hidden: torch.Tensor,
    *,
    shared: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Attention of some rows, [rows, heads, length, width]; `hidden` is true where a query does not see a key."""
    rows, heads, length, width = query.shape
    shared_key, shared_value = shared
    key_heads = len(shared_key)
    per_row = (rows, key_heads, heads // key_heads * length, -1)  # a key head's queries behind one another
    together = (key_heads, rows * per_row[2], -1)  # and those of all rows, too
    query = query.reshape(per_row)
    own = (query @ key.transpose(2, 3)).view(rows, key_heads, -1, length, key.shape[2])
    own = own.masked_fill(hidden[:, :, None], -torch.inf).view(per_row)
    scores = query.transpose(0, 1).reshape(together) @ shared_key.transpose(1, 2)
    weights = torch.cat([scores, own.transpose(0, 1).reshape(together)], dim=-1).softmax(-1)
    of_prefix, of_own = weights.split([shared_key.shape[1], key.shape[2]], dim=-1)
    mean = (of_prefix @ shared_value).view(key_heads, rows, per_row[2], width).transpose(0, 1)
    mean = mean + of_own.reshape(key_heads, *per_row[::2], -1).transpose(0, 1) @ value
    return mean.reshape(rows, heads, length, width)
