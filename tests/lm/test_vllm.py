"""A real vLLM server on this machine's processor, held against the local engine."""

import io
import math
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import dspy
import numpy as np
import pytest
from dspy.lm15 import Config, ImagePart, Message, Request
from dspy.utils.exceptions import LMInvalidRequestError

from srec.data.render import COLOURS, PATTERNS, draw
from srec.data.render import Look as Looks
from srec.data.silhouettes import CATEGORIES
from srec.errors import ModelError
from srec.lm.adapters import ScoreAdapter, StructuredAdapter, picture
from srec.lm.checkpoint import packaged_file
from srec.lm.connect import connect
from srec.types import Image

pytestmark = [pytest.mark.server, pytest.mark.model]

ROUNDING = 0.005  # of float32, with much to spare


class Judge(dspy.Signature):
    """Say whether the user would like the candidate."""

    profile: str = dspy.InputField()
    candidate: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Look(dspy.Signature):
    """Say whether the sentence is true of the picture."""

    photo: dspy.Image = dspy.InputField()
    sentence: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Describe(dspy.Signature):
    """Describe the item in a few words."""

    title: str = dspy.InputField()
    year: int = dspy.OutputField()
    animated: bool = dspy.OutputField()


@pytest.fixture(scope="package")
def served(vllm):
    return vllm.lm(vllm.base, num_retries=0, max_tokens=64)


def judged(lm, rows):
    def judge(row):
        with dspy.context(lm=lm, adapter=ScoreAdapter(), disable_history=True, trace=None):
            return dspy.Predict(Look if "photo" in row else Judge)(**row)

    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(judge, rows))


def test_a_structured_question_is_answered_as_its_schema_says(served):
    with dspy.context(lm=served, adapter=StructuredAdapter(), disable_history=True, trace=None):
        answer = dspy.Predict(Describe)(title="Toy Story (1995), a computer-animated film")
    assert isinstance(answer.year, int)
    assert isinstance(answer.animated, bool)


def test_the_server_and_the_local_engine_name_the_same_tokens(served, sighted):
    answers = ("Yes.", "No.")
    assert served.engine.answer_token_ids(answers) == sighted.engine.answer_token_ids(answers)


def test_probabilities_agree_with_the_local_engine(served, exact):
    kinds = ("an animated film", "a horror film", "a garden hose", "a war film", "red shoes")
    rows = [
        {"profile": f"likes {like}", "candidate": kind}
        for like in ("quiet animated films for children", "horror and war, nothing else")
        for kind in kinds
    ]
    there, here = judged(served, rows), judged(exact, rows)
    assert [a.probability for a in there] == pytest.approx([a.probability for a in here], abs=ROUNDING)
    assert [a.mass for a in there] == pytest.approx([a.mass for a in here], rel=0.02)
    assert len({a.probability for a in there}) > 3


def toys():
    """Ten rendered toys, no two alike, as the bytes of a picture file."""
    rng, shown = np.random.default_rng(5), []
    for i, (category, colour) in enumerate(zip((*CATEGORIES, "car", "duck"), (*COLOURS, "red", "blue"), strict=True)):
        look = Looks(category=category, colour=colour, pattern=PATTERNS[i % len(PATTERNS)], sticker="", frame="")
        encoded = io.BytesIO()
        draw(look, rng).save(encoded, "PNG")
        shown.append(Image(data=encoded.getvalue(), media_type="image/png", width=160, height=160))
    return shown


def answered(lm, questions):
    def ask(question):
        photo, words = question
        part = ImagePart(media_type=photo.media_type, data=b64encode(photo.data).decode())
        config = Config(max_tokens=8, temperature=0.0)
        return lm(Request(model=lm.model, messages=(Message.user([part, words]),), config=config)).text.strip()

    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(ask, questions))


def test_twenty_questions_about_pictures_are_answered_as_by_the_local_engine(served, exact, given):
    photos = toys()
    questions = [(photo, words) for photo in photos for words in ("What colour is the toy?", "What kind of toy is it?")]
    there, here = (answered(lm, questions) for lm in (served, exact))
    assert there == here
    trained = given.name != "srec-tiny" or packaged_file("srec-tiny") is not None
    assert not trained or len(set(here)) > 8


def test_yes_probabilities_about_pictures_agree_with_the_local_engine(served, exact):
    sentences = ("It is red.", "It is a boat.")
    rows = [{"photo": picture(photo), "sentence": sentence} for photo in toys() for sentence in sentences]
    there, here = judged(served, rows), judged(exact, rows)
    apart = [abs(log_odds(a) - log_odds(b)) for a, b in zip(there, here, strict=True)]
    assert max(apart) <= ROUNDING
    assert len({a.probability for a in there}) > 3


def log_odds(judged):
    return math.log(judged.probability / (1 - judged.probability))


def test_a_model_that_is_not_served_is_named(vllm):
    with pytest.raises(ModelError, match=rf"does not serve 'other'; it serves: {vllm.base}"):
        connect(f"vllm:{vllm.url}#other")


def test_a_prompt_beyond_the_context_is_an_error_that_dspy_knows(served):
    with pytest.raises(LMInvalidRequestError, match="maximum context length is 1024"):
        served("word " * 3000)
