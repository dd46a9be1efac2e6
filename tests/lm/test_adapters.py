import json
import math
from typing import Literal

import dspy
import pytest
from dspy.lm15 import Message, Response, TextPart, TokenLogprob, TopLogprob, Usage
from dspy.utils.exceptions import AdapterParseError, LMError
from pydantic import BaseModel

from srec.errors import ModelError
from srec.lm.adapters import ScoreAdapter, StructuredAdapter, form_of, schema_of, write_answer
from srec.lm.usage import count_usage


class Part(BaseModel):
    name: str
    weight: float


class Describe(dspy.Signature):
    """Describe the item."""

    title: str = dspy.InputField()
    text: str = dspy.OutputField(desc="two sentences")
    tags: list[str] = dspy.OutputField()
    year: int = dspy.OutputField()
    parts: list[Part] = dspy.OutputField()


class Judge(dspy.Signature):
    """Would the user like it?"""

    candidate: str = dspy.InputField()
    answer: str = dspy.OutputField()


ANSWER = {"text": "A film.", "tags": ["a", "b"], "year": 1995, "parts": [{"name": "x", "weight": 0.5}]}


class Engine:
    """Answers what it was given, and keeps the requests."""

    supports_response_schema = True
    supported_params = frozenset({"max_tokens", "temperature", "logprobs", "top_logprobs", "response_format"})

    def __init__(self, text, *, top=None, reason="stop"):
        self.text, self.top, self.reason = text, top, reason
        self.requests = []

    def complete(self, request):
        self.requests.append(request)
        logprobs = None
        if self.top is not None:
            entries = tuple(TopLogprob(token, math.log(p)) for token, p in self.top)
            logprobs = (TokenLogprob(self.text, entries[0].logprob, top=entries),)
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(self.text)]),
            finish_reason=self.reason,
            usage=Usage(input_tokens=7, output_tokens=3),
            logprobs=logprobs,
        )


class LabelEngine(Engine):
    """Can be asked for certain tokens, as vLLM and the local engine can."""

    scores_labels = True
    special_tokens = ("<own>",)

    def answer_token_ids(self, answers):
        return tuple(range(5, 5 + len(answers)))


def ask(engine, signature, adapter, *, lm_options=None, **inputs):
    lm = dspy.LM(
        "test/engine", engine=engine, **{"cache": False, "num_retries": 0, "max_tokens": 99, **(lm_options or {})}
    )
    with dspy.context(lm=lm, adapter=adapter, disable_history=True, trace=None):
        return dspy.Predict(signature)(**inputs)


def test_the_schema_requires_every_output_and_allows_nothing_else():
    schema = schema_of(Describe)
    assert schema["required"] == ["text", "tags", "year", "parts"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Part"]["additionalProperties"] is False
    assert schema["$defs"]["Part"]["required"] == ["name", "weight"]
    assert "title" not in schema


def test_the_form_names_every_output_with_its_kind():
    form = form_of(Describe)
    assert form.splitlines()[:4] == [
        "Answer with one JSON object:",
        '"text": text, two sentences',
        '"tags": list of short texts',
        '"year": whole number',
    ]


def test_a_structured_answer_comes_back_typed():
    engine = Engine(f"Sure! ```json\n{json.dumps(ANSWER)}\n```")
    answer = ask(engine, Describe, StructuredAdapter(), title="Toy Story")
    assert answer.year == 1995
    assert answer.tags == ["a", "b"]
    assert answer.parts == [Part(name="x", weight=0.5)]


def test_what_is_written_for_training_is_read_back_the_same():
    values = StructuredAdapter().parse(Describe, json.dumps(ANSWER))
    written = write_answer(Describe, values)
    assert StructuredAdapter().parse(Describe, written) == values
    assert written.startswith('{"text":"A film.","tags":["a","b"]')
    row = StructuredAdapter().format_finetune_data(Describe, [], {"title": "T"}, values)
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][-1]["content"] == written


def test_the_schema_travels_with_the_request():
    engine = Engine(json.dumps(ANSWER))
    ask(engine, Describe, StructuredAdapter(), title="T")
    assert "additionalProperties" in json.dumps(dict(engine.requests[0].config.response_format), default=dict)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot.",
        "}{",
        '{"text": "cut off',
        json.dumps({**ANSWER, "year": "soon"}),
        json.dumps({key: value for key, value in ANSWER.items() if key != "tags"}),
        '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}",
        json.dumps({**ANSWER, "text": "half a pair \ud83d"}),
    ],
    ids=["empty", "prose", "reversed", "cut", "wrong type", "missing field", "deep", "lone surrogate"],
)
def test_an_answer_that_is_not_what_was_asked_for_is_a_parse_error(text):
    engine = Engine(text)
    with pytest.raises(AdapterParseError, match="not the JSON object asked for"):
        ask(engine, Describe, StructuredAdapter(), title="T")
    assert len(engine.requests) == 1  # never a second call in another format


def test_literals_are_checked():
    class Mood(dspy.Signature):
        """Mood?"""

        title: str = dspy.InputField()
        mood: Literal["calm", "wild"] = dspy.OutputField()

    assert StructuredAdapter().parse(Mood, '{"mood": "calm"}') == {"mood": "calm"}
    with pytest.raises(AdapterParseError):
        StructuredAdapter().parse(Mood, '{"mood": "sad"}')


def test_probability_and_mass_come_from_the_logprobs():
    answer = ask(Engine("Yes", top=[("Yes", 0.6), ("No", 0.2), ("Maybe", 0.1)]), Judge, ScoreAdapter(), candidate="c")
    assert answer.answer == "Yes."
    assert answer.probability == pytest.approx(0.75)
    assert answer.mass == pytest.approx(0.8)


def test_other_spellings_of_the_answers_count_where_only_the_likeliest_tokens_are_known():
    top = [("Yes", 0.3), (" yes", 0.2), ("NO", 0.1), ("Not", 0.3)]
    answer = ask(Engine("Yes", top=top), Judge, ScoreAdapter(), candidate="c")
    assert answer.probability == pytest.approx(5 / 6)
    assert answer.mass == pytest.approx(0.6)


def test_only_the_tokens_asked_for_count_where_an_engine_can_be_asked_for_them():
    engine = LabelEngine("yes", top=[("yes", 0.5), ("Yes", 0.1), ("No", 0.3)])
    answer = ask(engine, Judge, ScoreAdapter(), candidate="c")
    assert answer.probability == pytest.approx(0.25)
    assert engine.requests[0].config.extensions == {"logprob_token_ids": [5, 6]}


def test_a_token_listed_twice_counts_once():
    answer = ask(Engine("Yes", top=[("Yes", 0.4), ("Yes", 0.4), ("No", 0.4)]), Judge, ScoreAdapter(), candidate="c")
    assert answer.probability == pytest.approx(0.5)


def test_an_answer_out_of_sight_counts_as_nothing():
    answer = ask(Engine("No", top=[("No", 0.9), ("The", 0.05)]), Judge, ScoreAdapter(), candidate="c")
    assert (answer.answer, answer.probability) == ("No.", 0.0)


def test_neither_answer_in_sight_is_a_parse_error():
    with pytest.raises(AdapterParseError, match="neither Yes nor No is among"):
        ask(Engine("The", top=[("The", 0.9)]), Judge, ScoreAdapter(), candidate="c")


def test_a_model_without_logprobs_is_refused_by_name():
    with pytest.raises(ModelError, match="test/engine returned no log-probabilities"):
        ask(Engine("Yes"), Judge, ScoreAdapter(), candidate="c")


def test_judging_asks_for_one_token_whatever_the_lm_is_set_to():
    engine = Engine("Yes", top=[("Yes", 0.6)])
    ask(engine, Judge, ScoreAdapter(), lm_options={"temperature": 1.0}, candidate="c")
    config = engine.requests[0].config
    assert (config.max_tokens, config.temperature, config.logprobs) == (1, 0.0, 20)


@pytest.mark.parametrize(("text", "answer"), [("Yes.", "Yes."), ("yes", "Yes."), (" No. ", "No.")])
def test_a_written_answer_is_read(text, answer):
    assert ScoreAdapter().parse(Judge, text) == {"answer": answer}


def test_a_written_answer_that_is_neither_is_a_parse_error():
    with pytest.raises(AdapterParseError, match="neither Yes nor No"):
        ScoreAdapter().parse(Judge, "Maybe")


def test_calls_and_tokens_are_counted():
    with count_usage() as usage:
        ask(Engine(json.dumps(ANSWER), reason="length"), Describe, StructuredAdapter(), title="T")
        ask(Engine("Yes", top=[("Yes", 0.6)], reason="length"), Judge, ScoreAdapter(), candidate="c")
    assert (usage.lm_calls, usage.prompt_tokens, usage.output_tokens) == (2, 14, 6)
    assert usage.truncated == 1  # an answer of one token is not cut off
    assert usage.cache_hits == 0


def test_an_answer_from_dspys_cache_is_not_counted_as_a_call():
    engine = Engine(json.dumps(ANSWER))
    with count_usage() as usage:
        for _ in range(2):
            ask(engine, Describe, StructuredAdapter(), lm_options={"cache": True}, title="cached or not?")
    assert len(engine.requests) <= 1  # none where an earlier run left its answer
    assert usage.cache_hits == 2 - len(engine.requests)
    assert usage.lm_calls == len(engine.requests)


def test_an_outer_usage_tracker_of_dspy_is_still_told():
    with dspy.track_usage() as tracker:
        ask(Engine(json.dumps(ANSWER)), Describe, StructuredAdapter(), title="T")
    assert tracker.get_total_tokens()


def test_the_engines_own_tokens_are_taken_out_of_the_text():
    engine = LabelEngine("Yes", top=[("Yes", 0.6)])
    ask(engine, Judge, ScoreAdapter(), candidate="a <own> b")
    assert engine.requests[0].messages[0].parts[0].text == "### Candidate\na b"


def test_a_failing_engine_is_an_lm_error():
    class Broken(Engine):
        def complete(self, request):
            raise RuntimeError("out of memory")

    with pytest.raises(LMError, match="out of memory"):
        ask(Broken(""), Judge, ScoreAdapter(), candidate="c")
