"""Fuse: one item's picture and text become one description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from srec.lm.adapters import StructuredAdapter, picture
from srec.lm.connect import sees
from srec.stages.kept import BoundKept, kept, lm_of, predict
from srec.stages.sight import in_sight
from srec.stages.signatures import AnswerVisualQuestion, FuseItem
from srec.stages.wording import attribute_lines, chosen_attributes, headline, parts, phrases
from srec.text import clean
from srec.types import Fact, FactSource, Item, ItemDescription

NOT_VISIBLE = "not visible"


@dataclass(frozen=True, slots=True)
class VisualQuestion:
    """A question asked of every picture, and the aspect of the item that its answer is about."""

    aspect: str
    text: str


QUESTIONS = (
    VisualQuestion("kind", "What kind of item is it?"),
    VisualQuestion("colour", "Which colours does the item have?"),
    VisualQuestion("pattern", "Which pattern or texture does the item have?"),
    VisualQuestion("style", "Which style or mood does the item have?"),
)


class ItemFusion(dspy.Module):
    """`Item -> ItemDescription`: visual questions about the picture, then one description from answers and text.

    One LM call for each question where the item has a picture and the LM can see, and one to fuse. An item of which
    nothing is known gets an empty description and no call.

    Args:
        questions: What to ask of each picture (the paper's VQA).
        attributes: Which attributes to read, by name; None for all but bookkeeping (`..._id`, `..._url`).
        max_tokens: Bound of a description.
        lm: The LM to ask; None for that of the context.

    Example:
        >>> import dspy, srec
        >>> from srec.testing import scripted
        >>> lm = scripted({"FuseItem": {"description": "A computer-animated film.", "contradictions": []}})
        >>> with dspy.context(lm=lm):
        ...     srec.ItemFusion()(item=srec.Item(item_id="1", title="Toy Story")).text
        'Toy Story. A computer-animated film.'
    """

    def __init__(
        self,
        *,
        questions: Sequence[VisualQuestion] = QUESTIONS,
        attributes: Sequence[str] | None = None,
        max_tokens: int = 192,
        lm: Any = None,
    ) -> None:
        super().__init__()
        self.questions = tuple(questions)
        self.attributes = tuple(attributes) if attributes is not None else None
        self.answer_question = dspy.Predict(AnswerVisualQuestion, max_tokens=48)
        self.fuse = dspy.Predict(FuseItem, max_tokens=max_tokens)
        if lm is not None:
            self.set_lm(lm)

    def options(self) -> dict[str, Any]:
        """What decides the results beside the prompts."""
        return {"questions": self.questions, "attributes": self.attributes}

    def __call__(self, item: Item) -> ItemDescription:
        """Describe one item; a picture that the LM cannot see is counted, also where the result is kept."""
        if item.image is not None:
            in_sight(item.image, lm_of(self.answer_question))
        description: ItemDescription = super().__call__(item=item)
        return description

    def key(self, item: Item) -> str:
        """The key under which the description of `item` is kept, for `srec.bulk`."""
        one: BoundKept[Any, ItemDescription] = type(self).forward.__get__(self)
        return one.key(item)

    @kept(returns=ItemDescription)
    def forward(self, item: Item) -> ItemDescription:
        """Describe one item."""
        seen = self._look(item)
        lines = attribute_lines(item, only=self.attributes)
        if not item.title and not lines and not seen:
            return ItemDescription(item_id=item.item_id, text="")
        fused = predict(
            self.fuse,
            StructuredAdapter(),
            title=item.title,
            attributes=lines,
            seen_in_picture=[f"{aspect}: {answer}" for aspect, answer in seen.items()],
        )
        return ItemDescription(
            item_id=item.item_id,
            text=f"{headline(item, only=self.attributes)}. {fused.description}",
            facts=self._facts(item, seen),
            contradictions=phrases(fused.contradictions),
            seen=bool(seen),
        )

    def _look(self, item: Item) -> dict[str, str]:
        """What the picture shows, by aspect; empty without a picture or without sight."""
        if item.image is None or not sees(lm_of(self.answer_question)):
            return {}
        shown = picture(item.image)
        answers = {
            question.aspect: predict(
                self.answer_question, StructuredAdapter(), picture=shown, question=question.text
            ).answer
            for question in self.questions
        }
        said = {aspect: clean(answer).strip(" .\"'") for aspect, answer in answers.items()}
        return {aspect: answer for aspect, answer in said.items() if answer and answer.lower() != NOT_VISIBLE}

    def _facts(self, item: Item, seen: dict[str, str]) -> tuple[Fact, ...]:
        """Attributes and answers as facts; a value that text and picture both give counts once, as of both."""
        values: dict[tuple[str, str], FactSource] = {}
        for aspect, value in chosen_attributes(item, only=self.attributes).items():
            values.update({(aspect, part): "text" for part in parts(value)})
        told_by_text = {value.lower(): (aspect, value) for aspect, value in reversed(values)}
        for aspect, answer in seen.items():
            told = told_by_text.get(answer.lower())
            values[told or (aspect, answer)] = "both" if told else "image"
        return tuple(Fact(aspect=aspect, value=value, source=source) for (aspect, value), source in values.items())
