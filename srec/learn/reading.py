"""From rows to what a model reads and is to write: the same token ids that `srec.lm.local` makes of the same chat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srec.errors import InputError
from srec.learn.rows import Row
from srec.lm.render import cleaned, cleaned_text

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A row as positions.

    Attributes:
        ids: int64[positions], the prompt, the answer and the token that ends the turn.
        keys: int64[positions], the same with a mark of the picture, below 0, in the places of a picture.
        asked: How many positions the prompt has; what comes after it is learnt.
        images: The prompt's picture files in order.
        weight: How much it counts.
        group: Rows of one user's candidates share it; empty for a row that stands alone.
        liked: Of a verdict, whether the candidate is a target.
    """

    ids: Ids
    keys: Ids
    asked: int
    images: tuple[Path, ...]
    weight: float
    group: tuple[str, ...]
    item_id: str
    liked: bool | None

    def __len__(self) -> int:
        """How many positions."""
        return len(self.ids)


class Reader:
    """Reads rows with a local engine's own processor, template and rules.

    Args:
        engine: A `srec.lm.local.LocalEngine`.
        folder: Where `images/` lies.
        stages: How much rows of a stage count; 1.0 for those not named.
    """

    def __init__(self, engine: Any, *, folder: Path, stages: dict[str, float]) -> None:
        self._engine, self._folder, self._stages = engine, folder, stages
        self._end = engine.end_of_turn()
        self._tokens = engine.special_tokens

    def examples(self, rows: Iterable[Row]) -> list[Example]:
        """All rows that count, in order.

        Raises:
            InputError: a row cannot be read by this model; the sentence says which.
        """
        return [self.example(row) for row in rows if row.weight * self._stages.get(row.stage, 1.0) > 0]

    def example(self, row: Row) -> Example:
        """One row.

        Raises:
            InputError: it has a picture that the model cannot see or that is missing, or does not fit the context.
        """
        images = tuple(self._folder / name for name in row.images)
        if images and self._engine.eyes is None:
            raise InputError(f"{_name(row)} has pictures, and {self._engine.identity} cannot see; train without them")
        prompt = self._engine.read(
            cleaned(row.question, special_tokens=self._tokens), [_bytes(path) for path in images]
        )
        answer = cleaned_text(row.answer, special_tokens=self._tokens)
        whole = self._engine.encode(prompt.rendered + answer)
        asked = len(prompt.ids)
        if whole[:asked] != prompt.ids or len(whole) == asked:
            raise InputError(f"{_name(row)}: its answer melts into the chat template's last token; choose another base")
        if len(whole) >= self._engine.context:
            raise InputError(
                f"{_name(row)} has {len(whole) + 1} tokens, more than the context of {self._engine.context}; "
                "shorten it or leave it out"
            )
        written = [*whole[asked:], self._end]
        return Example(
            ids=np.array([*prompt.ids, *written], dtype=np.int64),
            keys=np.array([*prompt.keys, *written], dtype=np.int64),
            asked=asked,
            images=images,
            weight=row.weight * self._stages.get(row.stage, 1.0),
            group=(row.case_id, row.stage) if row.case_id else (),
            item_id=row.item_id,
            liked=row.label,
        )


def shared_length(examples: Sequence[Example]) -> int:
    """How many positions all prompts share from the start; each keeps at least one of its own."""
    most = min(example.asked for example in examples) - 1
    first = examples[0].keys[:most]
    for example in examples[1:]:
        differ = np.flatnonzero(first[:most] != example.keys[:most])
        most = int(differ[0]) if len(differ) else most
    return most


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"picture {path} cannot be read: {error.strerror}; keep images/ beside the rows") from error


def _name(row: Row) -> str:
    about = ", ".join(filter(None, [row.case_id and f"case {row.case_id}", row.item_id and f"item {row.item_id}"]))
    return f"a row of stage {row.stage!r}" + (f" ({about})" if about else "")
