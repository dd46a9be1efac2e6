"""Attention of many rows to one prefix that all of them share: of prompts while answering, of branches while learning.

The prefix's keys and values stand once, not once per row: the queries of all rows are laid behind one another and
multiplied with them as one matrix. Each row's scores of the prefix and of its own part go through one softmax, so the
result is what attention over the whole row gives, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
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


@dataclass(frozen=True, slots=True)
class Branches:
    """Rows of tree `tree` of a batch, laid behind one another after the `shared` positions that all of them begin with.

    `at` int64[rows, longest] are a row's own positions in the tree; where `real` bool[rows, longest] is false, padding.
    """

    tree: int
    shared: int
    at: torch.Tensor
    real: torch.Tensor


@dataclass(frozen=True, slots=True)
class Trees:
    """Which trees of a batch have branches; the first `causal` positions hold all of the others, and what is shared."""

    causal: int
    branched: tuple[Branches, ...]

    @classmethod
    def of(cls, branch: torch.Tensor) -> Trees:
        """The trees in `branch` int64[trees, length]: 0 is shared, 1, 2, … is a row's own in this order, -1 padding."""
        causal, branched = 1, []
        for tree, numbers in enumerate(branch):
            sizes = torch.bincount(numbers[numbers >= 0])
            if len(sizes) <= 2:  # noqa: PLR2004 (what is shared, and one row)
                causal = max(causal, int(sizes.sum()))
                continue
            shared = int(sizes[0])
            column = torch.arange(int(sizes[1:].max()), device=branch.device)
            real = column < sizes[1:, None]
            starts = sizes.cumsum(0)[:-1, None]
            branched.append(Branches(tree, shared, starts + column * real, real))
            causal = max(causal, shared)
        return cls(causal, tuple(branched))


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
    trees: Trees | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function for transformers: `query` [rows, heads, length, width], `key` and `value` of own parts.

    Without a `prefix` it is the usual one. `attention_mask` [rows, 1, length, own] is true where a query sees a key.
    With `trees`, rows are whole trees: causal, but for the branches told, and `attention_mask` is not looked at.
    """
    if trees is not None:

        def causal(*parts: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = sdpa_attention_forward(
                module, *parts, None, scaling=scaling, is_causal=True, **options
            )[0]
            return made

        return _of_trees(query, key, value, scaling=scaling, trees=trees, causal=causal), None
    if prefix is None:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return whole
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


def _of_trees(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float,
    trees: Trees,
    causal: Callable[..., torch.Tensor],
) -> torch.Tensor:
    """Attention [trees, length, heads, width] where a branch sees what is shared and itself, each up to a position."""
    start = trees.causal
    result = causal(query[:, :, :start], key[:, :, :start], value[:, :, :start])
    result = nn.functional.pad(result, (0, 0, 0, 0, 0, query.shape[2] - start))
    for one in trees.branched:
        own = (part[one.tree][:, one.at].transpose(0, 1) for part in (query * scaling, key, value))
        shared = (key[one.tree, :, : one.shared], value[one.tree, :, : one.shared])
        longest = one.at.shape[1]
        later = torch.ones(longest, longest, dtype=torch.bool, device=query.device).triu(1)
        own_query, own_key, own_value = own
        hidden = later.expand(len(one.at), 1, -1, -1)
        seen = _block(own_query, own_key, own_value, hidden, shared=shared).transpose(1, 2)
        places = (torch.full_like(one.at, one.tree)[one.real], one.at[one.real])
        result = result.index_put(places, seen[one.real])
    return result


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
