"""A model that learns: batches of trees as tensors, and the loss computed only where there are answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from srec.errors import ModelError, VerbalizerError
from srec.learn.batches import Batch, Tree, length, list_weight, lists
from srec.learn.losses import answer_loss, list_loss
from srec.learn.reading import Example
from srec.lm.attention import Trees
from srec.lm.verbalizer import NO, YES

ALONE = -1  # the list of a row that is in none


class Collator:
    """Makes the tensors of one batch; pictures are looked at here, by eyes that do not learn."""

    def __init__(self, engine: Any, examples: Sequence[Example]) -> None:
        self._engine, self._examples = engine, examples

    def __call__(self, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
        """Tensors of the one batch given.

        ids, positions   int64[trees, length]
        branch           int64[trees, length]: 0 for what is shared, 1, 2, … for a row's own, -1 for padding
        features         float[places, hidden] of the pictures, for the positions where `pictured` bool[trees, length]
        at, targets, row int64[tokens]: flat position that predicts, token to predict, row it is of
        first            int64[rows]: where in `at` the row's answer begins
        row_share        float[rows], times each row's loss; list_share float[lists], times each list's
        member           int64[rows]: the row's list or -1; liked bool[rows]
        """
        (batch,) = batches
        numbers = [i for tree in batch.trees for i in tree.members]
        rows = [self._examples[i] for i in numbers]
        listed = lists(batch.trees, self._examples) if batch.list_share else []
        member = torch.full((len(rows),), ALONE)
        for number, places in enumerate(listed):
            member[list(places)] = number
        shares = [batch.list_share * list_weight([numbers[p] for p in places], self._examples) for places in listed]
        return {
            **self._laid_out(batch.trees),
            **self._seen(batch.trees),
            "row_share": torch.tensor([batch.row_share * row.weight for row in rows]),
            "member": member,
            "liked": torch.tensor([bool(row.liked) for row in rows]),
            "list_share": torch.tensor(shares, dtype=torch.float32),
        }

    def _laid_out(self, trees: Sequence[Tree]) -> dict[str, torch.Tensor]:
        longest = max(length(tree, self._examples) for tree in trees)
        ids = torch.zeros(len(trees), longest, dtype=torch.long)
        positions = torch.zeros(len(trees), longest, dtype=torch.long)
        branch = torch.full((len(trees), longest), -1)  # 0 for what is shared, -1 for padding
        pictured = torch.zeros(len(trees), longest, dtype=torch.bool)
        at: list[int] = []
        targets: list[int] = []
        row: list[int] = []
        first: list[int] = []
        for number, tree in enumerate(trees):
            column = tree.shared
            head = self._examples[tree.members[0]]
            ids[number, :column] = torch.from_numpy(head.ids[:column])
            pictured[number, :column] = torch.from_numpy(head.keys[:column] < 0)
            positions[number, :column] = torch.arange(column)
            branch[number, :column] = 0
            for twig, i in enumerate(tree.members, start=1):
                example = self._examples[i]
                end = column + len(example) - tree.shared
                ids[number, column:end] = torch.from_numpy(example.ids[tree.shared :])
                pictured[number, column:end] = torch.from_numpy(example.keys[tree.shared :] < 0)
                positions[number, column:end] = torch.arange(tree.shared, len(example))
                branch[number, column:end] = twig
                first.append(len(at))
                begin = number * longest + column - tree.shared
                at.extend(range(begin + example.asked - 1, begin + len(example) - 1))
                targets.extend(example.ids[example.asked :].tolist())
                row.extend([len(first) - 1] * (len(example) - example.asked))
                column = end
        return {
            "ids": ids,
            "positions": positions,
            "branch": branch,
            "pictured": pictured,
            "at": torch.tensor(at),
            "targets": torch.tensor(targets),
            "row": torch.tensor(row),
            "first": torch.tensor(first),
        }

    def _seen(self, trees: Sequence[Tree]) -> dict[str, torch.Tensor]:
        """The pictures' features in the order of their places."""
        eyes = self._engine.eyes
        sights = []
        for tree in trees:
            shared: int | None = None
            for i in tree.members:
                example = self._examples[i]
                own = [eyes.sight(path.read_bytes()) for path in example.images]
                if shared is None:  # the first branch brings what is shared
                    shared = _pictures_before(example, tree.shared, [sight.places for sight in own])
                    sights += own
                else:
                    sights += own[shared:]
        if not sights:
            return {}
        with torch.no_grad():
            for alike in eyes.batches(sights, most_rows=32):
                eyes.look(alike)
        return {"features": torch.cat([sight.features for sight in sights])}


class Student(nn.Module):
    """The decoder with its LoRA as `transformers.Trainer` wants it: tensors of a batch in, the loss out.

    Hidden states go through the output layer at the answers' positions alone; for a vocabulary of 50 thousand and short
    answers, that layer and its loss would else cost as much memory as all others together.
    """

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self._plain = engine.is_plain
        self.decoder = engine.model.get_decoder()
        self._outside = (engine.model.get_input_embeddings(), engine.head)  # in a tuple: they are not trained
        self._verdict = _verdict(engine)
        self._dtype = engine.model.dtype

    def forward(
        self,
        *,
        ids: torch.Tensor,
        positions: torch.Tensor,
        branch: torch.Tensor,
        pictured: torch.Tensor,
        at: torch.Tensor,
        targets: torch.Tensor,
        row: torch.Tensor,
        first: torch.Tensor,
        row_share: torch.Tensor,
        member: torch.Tensor,
        liked: torch.Tensor,
        list_share: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`loss`, and `margins` float[rows]: logit Yes - logit No where the row's answer begins."""
        embed, head = self._outside
        with torch.no_grad():
            embedded = embed(ids)
            if features is not None:
                embedded[pictured] = features.to(embedded.dtype)
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=self._dtype is torch.bfloat16):
            hidden = self.decoder(
                inputs_embeds=embedded, position_ids=positions, use_cache=False, **self._seen(branch)
            ).last_hidden_state
        with torch.autocast(ids.device.type, enabled=False):
            logits = head(hidden.flatten(0, 1)[at].to(self._dtype))
            loss = answer_loss(logits, targets, row, row_share)
            if not self._verdict:
                return {"loss": loss, "margins": logits.new_zeros(len(first))}
            yes, no = self._verdict
            margins = logits[first, yes] - logits[first, no]
            if len(list_share):
                loss = loss + list_loss(margins, member, liked, list_share)
        return {"loss": loss, "margins": margins}

    def _seen(self, branch: torch.Tensor) -> dict[str, Any]:
        """What tells the decoder which positions see which."""
        if not self._plain:
            return {"attention_mask": (branch >= 0).long()}
        nothing = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=branch.device)  # a mask is made where none is given
        return {"attention_mask": nothing, "trees": Trees.of(branch)}


def put_lora_on(engine: Any, *, rank: int, alpha: float, dropout: float, layers: Sequence[str], base: str) -> Any:
    """A fresh LoRA on the language layers called `layers`; peft's model around the engine's own.

    Its numbers are float32, so that small steps are not rounded away.
    """
    import peft  # noqa: PLC0415 (an extra; slow)

    decoder = engine.model.get_decoder()
    prefix = next(name for name, module in engine.model.named_modules() if module is decoder)
    there = {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    if not there & set(layers):
        raise ModelError(f"{engine.identity} has no layers {', '.join(layers)}; choose of {', '.join(sorted(there))}")
    chosen = "|".join(sorted(there & set(layers)))
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"{re.escape(prefix)}\.layers\..*\.({chosen})",
        task_type="CAUSAL_LM",
        bias="none",
    )
    around = peft.PeftModel(engine.model, settings)
    settings.base_model_name_or_path = base
    return around


def _pictures_before(example: Example, shared: int, places: Sequence[int]) -> int:
    """How many of a row's pictures stand wholly in its first `shared` positions.

    A picture that two rows share stands there whole: in the middle of one, its mark is the same or the rows differ at
    its first place.
    """
    left, count = int((example.keys[:shared] < 0).sum()), 0
    for size in places:
        if left < size:
            break
        left, count = left - size, count + 1
    return count


def _verdict(engine: Any) -> tuple[int, ...]:
    """Token ids of Yes and No; none for a model that cannot judge."""
    try:
        return tuple(engine.answer_token_ids((YES, NO)))
    except VerbalizerError:
        return ()
