"""Does the model see? Questions about pictures whose truth is known, asked in wordings that nobody was trained on.

`closed` questions are asked as `srec.ItemFusion` asks them, with the values to choose among, to which decoding is held.
`open` ones are asked plainly: the picture, the question, and free text as the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import dspy

from srec import bulk
from srec.data.toy import FORMS, Toy
from srec.digest import digest
from srec.evaluation.questions import HELD_OUT_QUESTIONS
from srec.evaluation.stages.figure import Figure, share
from srec.evaluation.stages.words import named
from srec.lm.adapters import ask
from srec.lm.connect import identity
from srec.lm.usage import record
from srec.stages import fusion
from srec.stages.sight import in_sight
from srec.store import Store
from srec.types import Image, Item

Asked = Literal["closed", "open"]

ASPECTS = ("colour", "pattern", "category")
ANSWER_TOKENS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about one picture; `item_id` is the item that it is asked for, whose picture it need not be."""

    item_id: str
    aspect: str
    text: str
    image: Image | None


def questions(items: Iterable[Item]) -> list[Question]:
    """For every item one question an aspect, in wordings that take turns and that nobody was trained on."""
    return [
        Question(item_id=item.item_id, aspect=aspect, text=wordings[row % len(wordings)], image=item.image)
        for row, item in enumerate(items)
        for aspect, wordings in HELD_OUT_QUESTIONS.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model wrote for a question; "" where the call failed."""

    question: Question
    text: str


def answers(
    asked: Sequence[Question],
    form: Asked,
    *,
    lm: Any,
    store: Store,
    label: str,
    workers: int,
    progress: bool | None,
) -> tuple[list[Answer], bulk.Summary]:
    """Ask all questions, and count; what is in `store` is not asked again."""
    run = bulk.run(
        partial(_chosen if form == "closed" else _written, lm),
        asked,
        key=lambda one: digest("visual question", form, identity(lm), one.image, one.aspect, one.text, ANSWER_TOKENS),
        returns=str,
        store=store,
        workers=workers,
        label=label,
        progress=progress,
    )
    answered = [Answer(question=outcome.input, text=outcome.value or "") for outcome in run]
    record(cache_hits=run.summary.cached)
    return answered, run.summary


def measure(answered: Sequence[Answer], truth: Mapping[str, Toy]) -> dict[str, Figure]:
    """Share of right answers by aspect; `truth` has the toy that an answer is held against, by item id.

    Right is an answer that names the true value, in any of its forms, and no other value of the aspect.
    """
    return {
        aspect: _accuracy(aspect, [one for one in answered if one.question.aspect == aspect], truth)
        for aspect in ASPECTS
    }


def _accuracy(aspect: str, answered: Sequence[Answer], truth: Mapping[str, Toy]) -> Figure:
    item_ids = [one.question.item_id for one in answered]
    true = [getattr(truth[item_id].look, aspect) for item_id in item_ids]
    hits = [named(one.text, aspect) == {value} for one, value in zip(answered, true, strict=True)]
    return share(hits, of=item_ids, chance=1 / len(FORMS[aspect]))


def _chosen(lm: Any, question: Question) -> str:
    """The value that the fusion sees in the picture alone; "" where the model cannot see."""
    closed = fusion.Question(question.aspect, question.text, choices=FORMS[question.aspect])
    with dspy.context(lm=lm):
        shown = Item(item_id=question.item_id, image=question.image)
        described = fusion.ItemFusion(questions=[closed], write="composed")(item=shown)
    return next((fact.value for fact in described.facts if fact.aspect == question.aspect), "")


def _written(lm: Any, question: Question) -> str:
    """One call: the picture, where there is one and the model can see, then the question as it stands."""
    image = in_sight(question.image, lm)
    shown = [] if image is None else [{"type": "image_url", "image_url": {"url": image.data_uri}}]
    message = {"role": "user", "content": [*shown, {"type": "text", "text": question.text}]}
    return ask(lm, [message], {"max_tokens": ANSWER_TOKENS}).text or ""
