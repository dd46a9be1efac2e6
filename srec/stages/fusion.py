"""Fuse: one item's picture and text become one description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

import dspy
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

from srec.errors import InputError
from srec.lm.adapters import ScoreAdapter, StructuredAdapter, picture
from srec.lm.connect import sees
from srec.parallel import parallel
from srec.stages.calls import about
from srec.stages.kept import BoundKept, kept, lm_of, predict
from srec.stages.question import Question, mentioned
from srec.stages.sight import in_sight
from srec.stages.signatures import AnswerTextQuestion, AnswerVisualQuestion, FuseItem, VerifyFact
from srec.stages.wording import attribute_lines, chosen_attributes, composed, headline, is_trait, listed, parts, phrases
from srec.text import clean
from srec.types import Fact, FactSource, Item, ItemDescription

Write = Literal["lm", "composed", "facts"]
NOT_VISIBLE = "not visible"


QUESTIONS = (
    Question("kind", "What kind of item is it?"),
    Question("colour", "Which colours does the item have?"),
    Question("pattern", "Which pattern or texture does the item have?"),
    Question("style", "Which style or mood does the item have?"),
)


class ItemFusion(dspy.Module):
    """`Item -> ItemDescription`: questions about picture and text, then one description from answers and text.

    Open questions suit a large LM. Closed ones suit any: the answer about the picture is guided to be one of the
    values, and the text is searched for their word forms; the LM chooses only where the text mentions several. Where
    picture and text of a question of both differ, the LM is asked once more whether the picture shows what the text
    says, so that a weak eye does not cry wolf.

    One LM call for each question where the item has a picture and the LM can see, one for each text that mentions
    several values, one for each difference, and one to write. An item of which nothing is known gets an empty
    description and no call.

    Args:
        questions: What to ask of each item (the paper's VQA); by default open ones.
        write: "lm", the default, lets the LM fuse answers and text in its own words, and name contradictions beside
            those of the closed questions; "composed" puts the answers together as they are, without a call; "facts"
            leaves the title out as well, for small models and long histories.
        doubt: A difference is named a contradiction if P(Yes) of the picture showing what the text says is below it, in
            [0, 1], by default 0.5; at 0 none is named and at 1 all are, without asking.
        attributes: Which attributes to read, by name; None for all but bookkeeping (`..._id`, `..._url`).
        workers: Questions asked about one item at once; 4.
        max_tokens: Bound of a description, in tokens; 192.
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
        questions: Sequence[Question] = QUESTIONS,
        write: Write = "lm",
        doubt: float = 0.5,
        attributes: Sequence[str] | None = None,
        workers: int = 4,
        max_tokens: int = 192,
        lm: Any = None,
    ) -> None:
        super().__init__()
        if write not in get_args(Write):
            raise InputError(f"write={write!r} is not known; give one of: {', '.join(get_args(Write))}")
        if not 0.0 <= doubt <= 1.0:
            raise InputError(f"doubt is {doubt}; give a probability, from 0 (name no contradiction) to 1 (name all)")
        self.questions = tuple(questions)
        self.write = write
        self.doubt = doubt
        self.attributes = tuple(attributes) if attributes is not None else None
        self.workers = workers
        self.answer_question = dspy.Predict(AnswerVisualQuestion, max_tokens=48)
        self.answer_from_text = dspy.Predict(AnswerTextQuestion, max_tokens=48)
        self.verify = dspy.Predict(VerifyFact)
        self.fuse = dspy.Predict(FuseItem, max_tokens=max_tokens)
        if lm is not None:
            self.set_lm(lm)

    def options(self) -> dict[str, Any]:
        """What decides the results beside the prompts."""
        return {
            "questions": self.questions,
            "write": self.write,
            "doubt": self.doubt,
            "attributes": self.attributes,
        }

    def __call__(self, item: Item) -> ItemDescription:
        """Describe one item; a picture that the LM cannot see is counted, also where the result is kept."""
        if item.image is not None:
            in_sight(item.image, lm_of(self.answer_question))
        with about(item_id=item.item_id):
            description: ItemDescription = super().__call__(item=item)
        return description

    def key(self, item: Item) -> str:
        """The key under which the description of `item` is kept, for `srec.bulk`."""
        one: BoundKept[Any, ItemDescription] = type(self).forward.__get__(self)
        return one.key(item)

    @kept(returns=ItemDescription)
    def forward(self, item: Item) -> ItemDescription:
        """Describe one item."""
        seen, said = self._look(item), self._read(item)
        if not item.title and not chosen_attributes(item, only=self.attributes) and not seen:
            return ItemDescription(item_id=item.item_id, text="")
        facts = self._facts(item, seen, said)
        found = self._contradictions(item, seen, said)
        begin = headline(item, only=self.attributes)
        if self.write == "lm":
            fused = self._fuse(item, seen)
            text = f"{begin}. {fused.description}"
            named = tuple(dict.fromkeys([*found.values(), *phrases(fused.contradictions)]))
        else:
            order = [question.aspect for question in self.questions]
            asked = [fact for fact in facts if fact.aspect in order]
            in_order = sorted(asked, key=lambda fact: order.index(fact.aspect))
            text = composed(begin, asked, found) if self.write == "composed" else listed(in_order, found) or begin
            named = tuple(found.values())
        return ItemDescription(
            item_id=item.item_id,
            text=text,
            facts=facts,
            contradictions=named,
            seen=bool(seen),
        )

    def _look(self, item: Item) -> dict[str, str]:
        """What the picture shows, by aspect; empty without a picture or without sight."""
        if item.image is None or not sees(lm_of(self.answer_question)):
            return {}
        shown = picture(item.image)

        def ask(question: Question) -> str:
            if not question.forms:
                answer = predict(
                    self.answer_question, StructuredAdapter(), picture=shown, question=question.text, choices=""
                ).answer
                return clean(answer).strip(" .\"'")
            return _choose(self.answer_question, question, tuple(question.forms), picture=shown)

        questions = [question for question in self.questions if question.of != "text"]
        answers = zip(questions, parallel(ask, questions, workers=self.workers), strict=True)
        return {question.aspect: answer for question, answer in answers if answer and answer.lower() != NOT_VISIBLE}

    def _read(self, item: Item) -> dict[str, str]:
        """What the text says to the questions asked of it, by aspect."""
        lines = attribute_lines(item, only=self.attributes)
        texts = [item.title, *chosen_attributes(item, only=self.attributes).values()]

        def ask(unsure: tuple[Question, tuple[str, ...]]) -> str:
            question, values = unsure
            return _choose(self.answer_from_text, question, values, title=item.title, attributes=lines)

        questions = [question for question in self.questions if question.of != "picture"]
        found = [(question, mentioned(texts, question.forms, beside=question.beside)) for question in questions]
        chosen = iter(parallel(ask, [one for one in found if len(one[1]) > 1], workers=self.workers))
        answers = [
            (question.aspect, next(chosen) if len(values) > 1 else "".join(values)) for question, values in found
        ]
        return {aspect: answer for aspect, answer in answers if answer}

    def _contradictions(self, item: Item, seen: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
        """The contradictions of closed questions, in words, by aspect."""
        differ = [
            question.aspect
            for question in self.questions
            if question.of == "both" and {question.aspect} <= seen.keys() & said.keys()
            if seen[question.aspect] != said[question.aspect]
        ]
        shows_it = parallel(lambda aspect: self._verify(item, aspect, said[aspect]), differ, workers=self.workers)
        return {
            aspect: f"{aspect}: the picture shows {seen[aspect]}, the text says {said[aspect]}"
            for aspect, probability in zip(differ, shows_it, strict=True)
            if probability < self.doubt
        }

    def _verify(self, item: Item, aspect: str, value: str) -> float:
        """P(Yes) of the picture showing a value, in [0, 1]; not asked where `doubt` has decided already."""
        if self.doubt in {0.0, 1.0}:
            return 0.0
        assert item.image is not None
        question = f"Is the {aspect} of the item {value}?"
        verdict = predict(self.verify, ScoreAdapter(), picture=picture(item.image), question=question)
        return float(verdict.probability)

    def _fuse(self, item: Item, seen: Mapping[str, str]) -> Any:
        return predict(
            self.fuse,
            StructuredAdapter(),
            title=item.title,
            attributes=attribute_lines(item, only=self.attributes),
            seen_in_picture=[f"{aspect}: {answer}" for aspect, answer in seen.items()],
        )

    def _facts(self, item: Item, seen: Mapping[str, str], said: Mapping[str, str]) -> tuple[Fact, ...]:
        """Short attributes and answers as facts; a value that text and picture both give counts once, as of both.

        An open answer may name the value of another attribute (`kind` a value of `genres`), a closed one only its own.
        """
        attributes = chosen_attributes(item, only=self.attributes).items()
        of_text = [(aspect, part) for aspect, value in attributes if aspect not in said for part in parts(value)]
        of_text = [*((aspect, part) for aspect, part in of_text if is_trait(part)), *said.items()]
        values: dict[tuple[str, str], FactSource] = dict.fromkeys(of_text, "text")
        is_open = {question.aspect for question in self.questions if not question.forms}
        for aspect, answer in seen.items():
            equal = (told for told in of_text if told[1].lower() == answer.lower())
            told = next((told for told in equal if aspect in is_open or told[0] == aspect), None)
            values[told or (aspect, answer)] = "both" if told else "image"
        return tuple(Fact(aspect=aspect, value=value, source=source) for (aspect, value), source in values.items())


def _choose(predictor: dspy.Predict, question: Question, values: tuple[str, ...], **about: Any) -> str:
    """The LM's choice among `values`; empty where an LM that cannot be guided answers something else."""
    answer = predict(
        predictor,
        StructuredAdapter(),
        signature=_guided(predictor.signature, values),
        **about,
        question=question.text,
        choices=", ".join(values),
    ).answer
    if answer in values:
        return str(answer)
    meant = mentioned([answer], {value: question.forms[value] for value in values})
    return meant[0] if len(meant) == 1 else ""


@lru_cache(maxsize=256)
def _guided(signature: type[dspy.Signature], values: tuple[str, ...]) -> Any:
    """The signature with an answer that decoding holds to `values`; the prompt stays the same for all questions."""

    class OneOf(str):
        """Text whose schema lists the values, and nothing else: a demo of another question may answer otherwise."""

        __slots__ = ()

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
            return handler(str)

        @classmethod
        def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
            return {**handler(schema), "enum": list(values)}

    return signature.with_updated_fields("answer", type_=OneOf)


__all__: Sequence[str] = ["QUESTIONS", "ItemFusion", "Question"]
