"""A model that knows the toy shop: it reads each picture's toy off a list, and texts as anybody would."""

import zlib
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from hashlib import sha256

import dspy
import pytest
from dspy.lm15 import Message, Response, TextPart, Usage

from srec.data.toy import FORMS
from srec.data.toyshop import toyshop
from srec.evaluation.questions import HELD_OUT_QUESTIONS, TOY_QUESTIONS
from srec.evaluation.stages.fused import fact
from srec.evaluation.stages.words import named
from srec.testing import ScriptedEngine

LIKED = ("colour", "pattern", "material", "price")


class Connoisseur:
    """An engine that tells the truth about every picture of a shop, and says the first value of any other."""

    supports_response_schema = True
    sees_images = True
    supported_params = ScriptedEngine.supported_params
    identity = "connoisseur"

    def __init__(self, shop):
        self.toys = {item.image.digest: shop.truth.toys[item.item_id] for item in shop.data.items.values()}
        self.shop = shop
        self.calls = 0
        self.script = ScriptedEngine(
            {
                "AnswerVisualQuestion": lambda prompt: {"answer": self.seen(prompt, aspect_of(prompt))},
                "AnswerTextQuestion": lambda prompt: {"answer": self.said(prompt, aspect_of(prompt))},
                "VerifyFact": self.verified,
                "SummarizePreference": summarized,
                "ProfileUser": profiled,
                "ReasonAboutUser": {"reasoning": "It should fit."},
                "JudgeItem": judged,
            }
        )

    def __deepcopy__(self, memo):
        return self

    def complete(self, request):
        self.calls += 1
        messages = tuple(
            replace(message, parts=tuple(self.as_text(part) for part in message.parts)) for message in request.messages
        )
        if request.system:
            return self.script.complete(replace(request, messages=messages))
        prompt = "\n".join(part.text for message in messages for part in message.parts)
        aspect = next(a for a, wordings in HELD_OUT_QUESTIONS.items() for words in wordings if words in prompt)
        return written(request, f"It is {self.seen(prompt, aspect)}.")

    def as_text(self, part):
        if isinstance(part, TextPart):
            return part
        toy = self.toys.get(sha256(b64decode(part.data)).hexdigest())
        return TextPart(f"<{toy.item_id}>" if toy else "<blank>")

    def seen(self, prompt, aspect):
        toy = next((toy for toy in self.toys.values() if f"<{toy.item_id}>" in prompt), None)
        return fact(toy, aspect) if toy else next(iter(FORMS[aspect]))

    def said(self, prompt, aspect):
        texts = {item_id: [item.title, *item.attributes.values()] for item_id, item in self.shop.data.items.items()}
        toy = next(self.shop.truth.toys[item_id] for item_id, text in texts.items() if all(t in prompt for t in text))
        return toy.says[aspect] if aspect in toy.says else fact(toy, aspect)

    def verified(self, prompt):
        aspect, value = prompt.rpartition("Is the ")[2].strip().rstrip("?").split(" of the item ")
        return 0.98 if self.seen(prompt, aspect) == value else 0.02


class Guesser(Connoisseur):
    """Guesses what it sees, by a hash of the prompt."""

    identity = "guesser"

    def seen(self, prompt, aspect):
        values = tuple(FORMS[aspect])
        return values[zlib.crc32(prompt.encode()) % len(values)]


def aspect_of(prompt):
    asked = {words: aspect for aspect, (words, _) in TOY_QUESTIONS.items()}
    asked |= {words: aspect for aspect, each in HELD_OUT_QUESTIONS.items() for words in each}
    return next(aspect for words, aspect in asked.items() if words in prompt)


def favourites(lines):
    """The values that most of the lines name, one an aspect."""
    counts = {aspect: Counter(v for line in lines for v in sorted(named(line, aspect))) for aspect in LIKED}
    return [count.most_common(1)[0][0] for count in counts.values() if count]


def summarized(prompt):
    events = [line for line in prompt.rpartition("### Events")[2].splitlines() if ":" in line]
    return {"summary": "", "stable": favourites(events[-5:]), "rising": [], "fading": []}


def profiled(prompt):
    lines = prompt.rpartition("### Summaries")[2].splitlines()
    lasting = [value for value in favourites(lines) if not named(value, "colour") and not named(value, "pattern")]
    return {"profile": "Somebody.", "traits": lasting}


def judged(prompt):
    head, _, item = prompt.rpartition("### Target item")
    fits = sum(bool(named(head, aspect) & named(item, aspect)) for aspect in LIKED)
    return 0.02 + 0.2 * fits


def written(request, text):
    message = Message.assistant([TextPart(text)])
    usage = Usage(input_tokens=1, output_tokens=1)
    return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage, logprobs=None)


@pytest.fixture(scope="session")
def connoisseur():
    """The engine that knows a shop."""
    return Connoisseur


@pytest.fixture(scope="session")
def guesser():
    """The engine that guesses what it sees."""
    return Guesser


@pytest.fixture(scope="session")
def asking():
    """An LM over an engine."""

    def lm(engine):
        return dspy.LM(f"test/{engine.identity}", engine=engine, cache=False, max_tokens=256, num_retries=0)

    return lm


@pytest.fixture(scope="session")
def shop():
    return toyshop(items=60, users=12, seed=3)
