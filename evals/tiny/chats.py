"""Questions as rows of tokens: several about one picture share its positions and do not see each other.

So a batch costs little more than its questions, and each answer is what it would be were the question asked alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from questions import PROMPTS, Example, examples

from srec.lm import tiny

IGNORED = -100  # the label of what is not learnt


@dataclass(frozen=True, slots=True)
class Row:
    """One picture with its questions, after what all pictures of a batch have before them."""

    ids: list[int]
    positions: list[int]
    branch: list[int]
    labels: list[int]


class Writer:
    """Renders examples with the model's own processor, and cuts them where the picture begins and ends."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.encode = lru_cache(maxsize=100_000)(
            lambda text: tuple(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        )
        self.picture = self.encode(
            f"{tiny.MARKS[0]}{tiny.MARKS[1]}{tiny.IMAGE_TOKEN * tiny.IMAGE_TOKENS}{tiny.MARKS[0]}"
        )

    def parts(self, example: Example) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """The text before the picture, the ids from the picture to the answer, and the ids of the answer."""
        rendered = self.processor.apply_chat_template(
            [_blocks(message) for message in example.messages], tokenize=False, add_generation_prompt=True
        )
        before, after = rendered.split(tiny.IMAGE_TOKEN)
        whole = self.encode(f"{after}{example.opening}{example.answer}{example.closing}<|im_end|>")
        asked = self.encode(after + example.opening)
        assert whole[: len(asked)] == asked, "the answer melts into the prompt's last token"
        return before, asked, whole[len(asked) :]

    def row(self, chats: Sequence[Example]) -> tuple[str, Row]:
        """What stands before the picture, and the picture with all questions as branches of one tree."""
        parts, start = [self.parts(chat) for chat in chats], len(self.picture)
        row = Row([*self.picture], [*range(start)], [0] * start, [IGNORED] * start)
        for number, (_, asked, answer) in enumerate(parts, start=1):
            length = len(asked) + len(answer)
            row.ids.extend([*asked, *answer])
            row.positions.extend(range(start, start + length))
            row.branch.extend([number] * length)
            row.labels.extend([*[IGNORED] * len(asked), *answer])
        return parts[0][0], row


class Asking:
    """Makes a batch: one prompt for all of its pictures, so that what stands before them is computed once."""

    def __init__(self, writer: Writer, *, questions: int, wide: bool, seed: int) -> None:
        self.writer, self.questions, self.wide = writer, questions, wide
        self.rng = random.Random(seed)  # noqa: S311 (training, not secrets)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Facts and packed questions of a batch, in practice wordings, or those kept for trial if `rows` say so."""
        (prompt,) = self.rng.choices(list(PROMPTS), weights=list(PROMPTS.values()))
        made = [self.writer.row(self._asked(row, prompt)) for row in rows]
        return {
            "facts": torch.from_numpy(np.stack([row["facts"] for row in rows])),
            "before": made[0][0],
            **packed([row for _, row in made]),
        }

    def _asked(self, row: dict[str, Any], prompt: str) -> list[Example]:
        facts, trial = row["facts"].tolist(), row.get("trial", False)
        return examples(facts, prompt=prompt, count=self.questions, rng=self.rng, wide=self.wide, trial=trial)


def packed(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """`ids`, `positions`, `labels` int64[batch, length] and `visible` bool[batch, length, length]."""
    length = max(len(row.ids) for row in rows)

    def filled(name: str, blank: int) -> torch.Tensor:
        return torch.tensor([getattr(row, name) + [blank] * (length - len(row.ids)) for row in rows])

    branch = filled("branch", -1)
    related = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    return {
        "ids": filled("ids", 2),
        "positions": filled("positions", 0),
        "labels": filled("labels", IGNORED),
        "visible": related & torch.ones(length, length, dtype=torch.bool).tril(),
    }


def _blocks(message: Any) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return dict(message)
    blocks = [{"type": "image"} if block["type"] == "image_url" else block for block in content]
    return {"role": message["role"], "content": blocks}
