"""An LM that knows the truth of a toy shop: a teacher with a known ceiling, where no strong one is at hand.

It is no model. What it is asked for comes from `srec.stages.calls` (whose candidates, when, which item), not from
the prompt, because a prompt need not single out a user; the prompt is held against it, and where the two do not fit the
oracle raises and never guesses. The words it writes say what the truth was when the last event of the prompt happened,
and nothing later; its verdicts alone know the case's own second, so that its AUC is the ceiling of
`srec.data.truth.Truth.probability`.

A store keeps results by their prompts, and the oracle knows more than these: a verdict kept for one case of a user is
handed out for a later one whose prompts are the same (`protocol="global-time"`, nothing bought between two cut-offs).
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from inspect import cleandoc
from typing import Any

import dspy
from dspy.lm15 import ImagePart, Message, Request, Response, TextPart, TokenLogprob, TopLogprob, Usage

from srec.data.toy import FORMS, LIKED, Toy
from srec.data.toyshop import ToyShop
from srec.data.truth import Truth
from srec.evaluation.questions import HELD_OUT_QUESTIONS, TOY_QUESTIONS
from srec.evaluation.stages.fused import contradiction, fact
from srec.lm.render import label
from srec.stages import signatures
from srec.stages.calls import current_work
from srec.stages.fusion import QUESTIONS
from srec.stages.wording import gap
from srec.text import clean
from srec.types import Case, Event, History, Item

SURE = 0.999  # probability of a verdict on what a picture shows
LIKED_MUCH = 0.25  # liking from which a colour or pattern is named
MOVED = 0.2  # change of a liking that is called a rise or a fall
OPEN_QUESTIONS = {"kind": "category", "colour": "colour", "pattern": "pattern", "style": ""}
VERIFIED = re.compile(r"Is the (\w+) of the item (.+)\?")
EVENT = re.compile(r"^- ", re.MULTILINE)
LAST = re.compile(r"### |will like the target item")  # a field; where Table 1 of the paper shows the item
WORD = re.compile(r"[\w-]+")


def oracle(shop: ToyShop) -> dspy.LM:
    """The LM that answers every stage's prompt from the truth of `shop`; its model is named `oracle:toyshop…`.

    Give it to a program, `MLLMSRec(lm=oracle(shop))`: a stage called alone must say what it is for
    (`srec.stages.calls.about`). What it is asked must be of the shop's own data.
    """
    engine = OracleEngine(shop)
    return dspy.LM(engine.identity, engine=engine, cache=False, max_tokens=256, temperature=0.0, num_retries=0)


class OracleEngine:
    """Stands at DSPy's engine seam; raises `LookupError` on a prompt that does not fit what it is asked for."""

    supports_response_schema = True
    supported_params = frozenset({"max_tokens", "temperature", "logprobs", "top_logprobs", "response_format"})
    sees_images = True

    def __init__(self, shop: ToyShop) -> None:
        recipe = shop.recipe
        size = f"{len(shop.truth.toys)}x{len(shop.truth.shoppers)}@{recipe.seed}"
        self.identity = f"oracle:toyshop:{size}/contradictions={recipe.contradictions:g},wordings={recipe.wordings}"
        self._shop = shop
        self._answers: Mapping[str, Callable[[_Asked], Mapping[str, Any] | float]] = {
            "AnswerVisualQuestion": self._seen,
            "AnswerTextQuestion": self._said,
            "VerifyFact": self._verified,
            "FuseItem": self._fused,
            "SummarizePreference": self._summary,
            "ProfileUser": self._profile,
            "ReasonAboutUser": self._reasoning,
            "ReasonAboutItem": self._reasoning_about_item,
            "JudgeItem": self._verdict,
            "JudgeReasonedItem": self._verdict,
            "DeduceNext": self._verdict,
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> OracleEngine:
        """The engine itself, which nothing changes."""
        return self

    def complete(self, request: Request) -> Response:
        """Answer one prompt."""
        asked = _Asked.of(request)
        answer = self._answers[asked.signature](asked)
        return _verdict(request, answer) if isinstance(answer, float) else _written(request, json.dumps(answer))

    # Items

    def _seen(self, asked: _Asked) -> dict[str, str]:
        toy, aspect = self._toy(asked), _aspect(asked)
        value = fact(toy, aspect) if aspect else "not visible"
        choices = asked.list_of("choices")
        if choices and value not in choices:
            raise LookupError(f"{toy.item_id}: {value!r} is none of the choices {choices}")
        return {"answer": value}

    def _said(self, asked: _Asked) -> dict[str, str]:
        toy, aspect = self._toy(asked), _aspect(asked)
        value = toy.says.get(aspect, fact(toy, aspect))
        if value not in asked.list_of("choices"):
            raise LookupError(f"{toy.item_id}: {value!r} is none of the choices {asked.list_of('choices')}")
        return {"answer": value}

    def _verified(self, asked: _Asked) -> float:
        found = VERIFIED.fullmatch(asked.field("question"))
        if found is None or found[1] not in FORMS:
            raise LookupError(f"the oracle does not know the question {asked.field('question')!r}")
        return SURE if fact(self._toy(asked), found[1]) == found[2] else 1.0 - SURE

    def _fused(self, asked: _Asked) -> dict[str, Any]:
        toy = self._toy(asked)
        look = f"{toy.look.colour} {toy.look.pattern}"
        return {
            "description": f"A {look} {toy.look.category} of {toy.material}, {toy.price}, by {toy.brand}.",
            "contradictions": [contradiction(toy, aspect) for aspect in toy.contradictions],
        }

    def _toy(self, asked: _Asked) -> Toy:
        """The toy that the call is about; its picture, or its title or facts must be in the prompt."""
        item_id = current_work().item_id
        if item_id not in self._shop.truth.toys:
            raise LookupError(f"the oracle was asked about item {item_id!r}, which is not of its toy shop")
        item = self._shop.data.items[item_id]
        pictures = {item.image.digest} if item.image else set()
        toy = self._shop.truth.toys[item_id]
        if asked.pictures != pictures if asked.pictures else not _tells(asked.text, item, toy):
            raise LookupError(f"the prompt shows another item than {item_id!r}")
        return toy

    # Users

    def _summary(self, asked: _Asked) -> dict[str, Any]:
        user_id, events = self._window(asked)
        start, end = (self._shop.truth.shoppers[user_id].taste.at(event.at) for event in (events[0], events[-1]))
        rising = [value for value in _much(end) if end[value] - start.get(value, 0.0) > MOVED]
        fading = [value for value in _much(start) if start[value] - end.get(value, 0.0) > MOVED]
        lasting = self._shop.truth.preferred(user_id)
        stable = [value for value in _much(end) if value not in (*rising, *fading)]
        return {
            "summary": self._wanted(user_id, events[-1].at),
            "stable": [*stable, *lasting["material"], *lasting["price"]],
            "rising": rising,
            "fading": fading,
        }

    def _profile(self, asked: _Asked) -> dict[str, Any]:
        user_id = self._user(asked).user_id
        materials, price = (self._shop.truth.preferred(user_id)[aspect] for aspect in ("material", "price"))
        return {
            "profile": f"a buyer of toys of {materials[0]}, then {materials[1]}, at {price[0]} prices.",
            "traits": [*materials, *price],
        }

    def _reasoning(self, asked: _Asked) -> dict[str, str]:
        history = self._user(asked)
        assert history.until is not None
        return {"reasoning": self._wanted(history.user_id, history.until)}

    def _reasoning_about_item(self, asked: _Asked) -> dict[str, str]:
        history, toy = self._user(asked), self._candidate(asked)
        assert history.until is not None
        liking = self._shop.truth.liking(history.user_id, history.until)
        sides: dict[bool, list[str]] = {True: [], False: []}
        for value in toy.facts.values():
            sides[liking.get(value, 0.0) >= LIKED_MUCH].append(value)
        said = {side: ", ".join(values) or "nothing" for side, values in sides.items()}
        wanted = self._wanted(history.user_id, history.until)
        return {"reasoning": f"{wanted} It fits in: {said[True]}. It does not fit in: {said[False]}."}

    def _verdict(self, asked: _Asked) -> float:
        """P(Yes) with odds of the candidate's probability over that of an even choice."""
        toy, work = self._candidate(asked), current_work()
        assert work.history is not None
        at = work.at if work.at is not None else (work.history.until or 0) + 1
        chances = _chances(self._shop.truth, work.history, work.candidates, at)
        odds = chances[toy.item_id] * len(chances)
        return odds / (1.0 + odds)

    def _wanted(self, user_id: str, at: int) -> str:
        """What a user wants at a second, in words that are always the same."""
        taste, lasting = self._shop.truth.shoppers[user_id].taste.at(at), self._shop.truth.preferred(user_id)
        wanted = {
            aspect: [value for value in _much(taste) if value in FORMS[aspect]] for aspect in ("colour", "pattern")
        }
        return f"Wanted: {', '.join(f'{k} {_either(v)}' for k, v in {**wanted, **lasting}.items())}."

    def _user(self, asked: _Asked) -> History:
        """The history that the call is about."""
        history = current_work().history
        if history is None or not len(history):
            raise LookupError(f"the oracle was asked for {asked.signature} and not told of whom; ask it by a program")
        if history.user_id not in self._shop.truth.shoppers:
            raise LookupError(f"user {history.user_id!r} is not of the oracle's toy shop")
        return history

    def _window(self, asked: _Asked) -> tuple[str, Sequence[Event]]:
        """The user and those of their events that the prompt lists."""
        history, lines = self._user(asked), EVENT.split(asked.field("events"))[1:]
        events = history.events
        spans = (events[start : start + len(lines)] for start in range(len(events) - len(lines) + 1))
        toys = self._shop.truth.toys
        found = [
            span
            for span in spans
            if all(
                line.startswith(beginning) and _tells(line, event.item, toys[event.item.item_id])
                for line, event, beginning in zip(lines, span, _beginnings(span), strict=True)
            )
        ]
        if len(found) != 1 or not lines:
            raise LookupError(f"{len(lines)} events of the prompt are {len(found)} times in user {history.user_id!r}")
        return history.user_id, found[0]

    def _candidate(self, asked: _Asked) -> Toy:
        """The candidate that the call is about."""
        self._user(asked)
        work, toy = current_work(), self._toy(asked)
        if toy.item_id not in {item.item_id for item in work.candidates}:
            raise LookupError(f"item {toy.item_id!r} is none of the candidates of the call")
        return toy


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A prompt: the name of its signature, its last message as text, and the digests of the pictures in that."""

    signature: str
    text: str
    pictures: frozenset[str]

    @classmethod
    def of(cls, request: Request) -> _Asked:
        system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
        name = next((name for begin, name in _INSTRUCTIONS.items() if system.startswith(begin)), None)
        if name is None:
            raise LookupError(f"no signature of srec.stages.signatures begins with {system.splitlines()[:1]}")
        parts = request.messages[-1].parts
        return cls(
            signature=name,
            text="".join(part.text for part in parts if isinstance(part, TextPart)),
            pictures=frozenset(
                sha256(b64decode(part.data or "")).hexdigest() for part in parts if isinstance(part, ImagePart)
            ),
        )

    def field(self, name: str) -> str:
        """What stands under the heading of a field; empty without it."""
        _, _, after = f"\n\n{self.text}".partition(f"\n\n### {label(name)}\n")
        return after.partition("\n\n### ")[0].strip()

    def list_of(self, name: str) -> list[str]:
        """A field of values between commas."""
        return [value for value in self.field(name).split(", ") if value]


_INSTRUCTIONS = {
    cleandoc(getattr(signature, "instructions", "")).splitlines()[0]: name
    for name, signature in vars(signatures).items()
    if isinstance(signature, type) and issubclass(signature, dspy.Signature)
}
_ASPECTS = {
    **{question: aspect for aspect, (question, _) in TOY_QUESTIONS.items()},
    **{question: aspect for aspect, questions in HELD_OUT_QUESTIONS.items() for question in questions},
    **{question.text: OPEN_QUESTIONS[question.aspect] for question in QUESTIONS},
}


def _aspect(asked: _Asked) -> str:
    """What a question asks for, by its choices, else by its words; empty for what toys do not have."""
    choices, question = set(asked.list_of("choices")), asked.field("question")
    by_choices = [aspect for aspect, forms in FORMS.items() if choices and choices <= forms.keys()]
    if len(by_choices) == 1:
        return by_choices[0]
    if question not in _ASPECTS:
        raise LookupError(f"the oracle does not know the question {question!r}; ask those of srec.toy_questions()")
    return _ASPECTS[question]


def _tells(text: str, item: Item, toy: Toy) -> bool:
    """Whether a text is of a toy: it has the title, or its end, where an item stands, names all that can be liked."""
    words = set(WORD.findall(LAST.split(text)[-1]))
    return clean(item.title) in text or all(toy.facts[aspect] in words for aspect in LIKED)


def _beginnings(events: Sequence[Event]) -> Iterator[str]:
    """How the lines of a prompt's events begin (`srec.stages.wording.event_lines`), up to the item."""
    before = None
    for event in events:
        when = "first" if before is None else gap(event.at - before)
        rated = f", rated {event.rating:g}" if event.rating is not None else ""
        yield f"{when}{rated}: "
        before = event.at


def _much(liking: Mapping[str, float]) -> list[str]:
    """What is liked much, most of all first."""
    return sorted((value for value, much in liking.items() if much >= LIKED_MUCH), key=lambda value: -liking[value])


def _either(values: Sequence[str]) -> str:
    return " or ".join(values)


def _chances(truth: Truth, history: History, candidates: Sequence[Item], at: int) -> dict[str, float]:
    """Probability of each candidate, by item id; which one is the target plays no part in it."""
    case = Case(
        user_id=history.user_id,
        at=at,
        history=history,
        candidates=tuple(candidates),
        target_ids=(candidates[0].item_id,),
    )
    ids = (item.item_id for item in candidates)
    return dict(zip(ids, truth.probability(case).tolist(), strict=True))


def _verdict(request: Request, probability: float) -> Response:
    """Yes and No, sharing all of the mass."""
    shares = sorted((("Yes", probability), ("No", 1.0 - probability)), key=lambda one: -one[1])
    top = tuple(TopLogprob(token, math.log(max(share, 1e-12))) for token, share in shares)
    return _written(request, top[0].token, logprobs=(TokenLogprob(top[0].token, top[0].logprob, top=top),))


def _written(request: Request, text: str, *, logprobs: tuple[TokenLogprob, ...] | None = None) -> Response:
    return Response(
        id=None,
        model=request.model,
        message=Message.assistant([TextPart(text)]),
        finish_reason="stop",
        usage=Usage(input_tokens=1, output_tokens=1),
        logprobs=logprobs,
    )
