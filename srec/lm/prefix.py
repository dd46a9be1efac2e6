"""Many prompts, one computation of what they share.

Prompts that begin alike are computed together: the keys and values of the shared prefix once, then all own parts as
one padded batch on top of it. What is shared is kept for the prompts that come next.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from transformers import DynamicCache

from srec.lm import attention

Keys = tuple[int, ...]
"""What identifies each position of a prompt: a token id, or a negative number for a piece of a certain image."""


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts `members` (positions in the list that was planned) that share their first `shared` positions."""

    shared: int
    members: tuple[int, ...]


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many positions two sequences share from the start."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    return next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)


def plan(prompts: Sequence[Keys], *, group_cost: int = 0) -> list[Group]:
    """Group prompts so that the most positions are saved; every prompt keeps at least one position of its own.

    A group saves its shared positions for each member but one, and costs `group_cost` positions, since what takes the
    same for one row as for many is done once more. Of all groupings of neighbours in sorted order the best is found,
    from the first prompt on (dynamic programming).
    """
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    ranked = [prompts[i] for i in order]
    alike = [0, *(common_length(a, b) for a, b in pairwise(ranked))]
    saved, begins = [0], [0]  # of the first prompts, by their number: what is saved, and where the last group begins
    for stop, last in enumerate(ranked, start=1):
        best, begin, shared = saved[stop - 1], stop - 1, len(last) - 1
        for earlier in range(stop - 2, -1, -1):
            shared = min(shared, alike[earlier + 1], len(ranked[earlier]) - 1)
            if shared < 1:
                break
            if (found := saved[earlier] + (stop - earlier - 1) * shared) >= best:
                best, begin = found, earlier
        saved.append(best - group_cost)
        begins.append(begin)
    groups: list[Group] = []
    stop = len(order)
    while stop:
        begin = begins[stop]
        members = tuple(order[begin:stop])
        lengths = (*alike[begin + 1 : stop], *(len(ranked[i]) - 1 for i in range(begin, stop)))
        groups.append(Group(min(lengths), members))
        stop = begin
    return groups[::-1]


class PrefixCache:
    """The keys and values of the prefixes computed last, at most `positions` positions in all.

    Not safe to use from two threads at once: the engine's one worker owns it.
    """

    def __init__(self, *, positions: int = 16_384) -> None:
        self._positions = positions
        self._kept: OrderedDict[Keys, Any] = OrderedDict()

    def longest(self, keys: Keys) -> tuple[int, Any]:
        """The longest kept beginning of `keys`: its length and a copy of its cache; (0, None) if there is none."""
        best, length = None, 0
        for kept in self._kept:
            shared = common_length(kept, keys)
            if shared > length:
                best, length = kept, shared
        if best is None:
            return 0, None
        self._kept.move_to_end(best)
        cache = copy.deepcopy(self._kept[best])
        if length < len(best):
            cache.crop(length - len(best))
        return length, cache

    def keep(self, keys: Keys, cache: Any) -> None:
        """Remember the cache of `keys`, and forget the oldest beyond the bound."""
        self._kept[keys] = cache
        self._kept.move_to_end(keys)
        while len(self._kept) > 1 and sum(map(len, self._kept)) > self._positions:
            self._kept.popitem(last=False)


class Decoder:
    """A causal decoder with its output head, fed with embeddings so that image features can stand among them."""

    def __init__(self, decoder: Any, head: Any, *, positions_kept: int = 16_384) -> None:
        self._decoder = decoder
        self._head = head
        self._positions_kept = positions_kept
        self.config = decoder.config
        self.is_plain = attention.install(decoder)
        self.forget()

    def forget(self) -> None:
        """Drop the prefixes that are kept."""
        self._prefixes = PrefixCache(positions=self._positions_kept)

    def prefix(self, keys: Keys, embeddings: torch.Tensor) -> Any:
        """The cache of the prefix `keys` with `embeddings` [positions, hidden], computed as far as it is not kept."""
        known, cache = self._prefixes.longest(keys)
        cache = cache if cache is not None else DynamicCache(config=self.config)
        if known == len(keys):
            return cache
        self._decoder(inputs_embeds=embeddings[None, known:], past_key_values=cache, use_cache=True)
        self._prefixes.keep(keys, copy.deepcopy(cache))
        return cache

    def start(self, prefix: Any, shared: int, own: Sequence[torch.Tensor]) -> Batch:
        """Compute the own parts `own` (each [positions, hidden]) as one batch on top of a prefix of `shared` positions.

        Own parts are padded on the left, between the prefix and themselves, so that all end at the same column. Where
        the model's attention allows it (`srec.lm.attention`) the prefix stands once for all rows, else it is repeated.
        """
        rows, longest = len(own), max(len(part) for part in own)
        device, dtype = own[0].device, own[0].dtype
        embeddings = torch.zeros(rows, longest, own[0].shape[-1], device=device, dtype=dtype)
        mask = torch.zeros(rows, longest, device=device, dtype=torch.long)
        for row, part in enumerate(own):
            embeddings[row, longest - len(part) :] = part
            mask[row, longest - len(part) :] = 1
        positions = shared + (mask.cumsum(-1) - 1).clamp(min=0)
        if rows > 1 and self.is_plain and attention.fits(self.config, shared=shared, own=longest):
            layers = [(layer.keys[0], layer.values[0]) for layer in prefix.layers]
            batch = Batch(cache=DynamicCache(config=self.config), prefix=layers, seen=mask, position=positions[:, -1])
        else:
            prefix.batch_repeat_interleave(rows)
            seen = torch.cat([mask.new_ones(rows, shared), mask], dim=1)
            batch = Batch(cache=prefix, prefix=None, seen=seen, position=positions[:, -1])
        batch.logits = self._forward(batch, embeddings, positions)
        return batch

    def step(self, batch: Batch, embeddings: torch.Tensor) -> None:
        """Append one position to each row; `embeddings` is [rows, hidden]."""
        batch.position = batch.position + 1
        batch.seen = torch.cat([batch.seen, batch.seen.new_ones(len(batch.seen), 1)], dim=1)
        batch.logits = self._forward(batch, embeddings[:, None], batch.position[:, None])

    def _forward(self, batch: Batch, embeddings: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocabulary] after the last position, in float32."""
        hidden = self._decoder(
            inputs_embeds=embeddings,
            attention_mask=batch.seen,
            position_ids=positions,
            past_key_values=batch.cache,
            use_cache=True,
            **({} if batch.prefix is None else {"prefix": batch.prefix}),
        ).last_hidden_state
        return self._head(hidden[:, -1]).float()


class Batch:
    """Rows under way: their cache, which positions each sees [rows, positions], its last position, its next logits.

    With a `prefix` that all rows share, cache and positions are those of the own parts only.
    """

    def __init__(
        self, *, cache: Any, prefix: attention.Prefix | None, seen: torch.Tensor, position: torch.Tensor
    ) -> None:
        self.cache = cache
        self.prefix = prefix
        self.seen = seen
        self.position = position
        self.logits = torch.empty(0)

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but `rows`."""
        index = torch.tensor(rows, device=self.seen.device)
        self.cache.batch_select_indices(index)
        self.seen, self.position, self.logits = self.seen[index], self.position[index], self.logits[index]


def chunks(group: Group, lengths: Sequence[int], *, most_rows: int, most_positions: int) -> Iterator[tuple[int, ...]]:
    """Cut a group's members into batches of like length, at most `most_rows` rows and `most_positions` positions."""
    members = sorted(group.members, key=lambda i: (lengths[i], i))
    batch: list[int] = []
    for i in members:
        if batch and (len(batch) == most_rows or (len(batch) + 1) * lengths[i] > most_positions):
            yield tuple(batch)
            batch = []
        batch.append(i)
    if batch:
        yield tuple(batch)
