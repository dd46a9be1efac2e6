"""From a DSPy signature to one LM call and back: structured answers, and one-token answers with their probability.

Both adapters make one call per answer, never a second one in another format, and raise DSPy's `AdapterParseError` when
the answer is not what was asked for. Calls are made with typed requests, so that usage, the reason an answer ended
and log-probabilities come back as they are.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import dspy
from dspy.lm15 import Request, Response, request_from_openai_chat
from dspy.utils.exceptions import AdapterParseError
from pydantic import TypeAdapter, ValidationError, create_model

from srec.errors import ModelError
from srec.lm import render
from srec.lm.usage import record
from srec.lm.verbalizer import NO, YES

LABEL_IDS = "logprob_token_ids"
TOP_LOGPROBS = 20


class BlindModelWarning(UserWarning):
    """A model that cannot see was given items with pictures."""


class StructuredAdapter(dspy.Adapter):
    """Answers as one JSON object with the signature's output fields.

    The schema is sent along, and enforced while decoding, wherever the LM says that it can
    (`supports_response_schema`).
    """

    def format(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The chat that asks for the output fields."""
        return self._chat(signature, demos, inputs, special_tokens=())

    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: Any,
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Ask once; the values of the output fields."""
        messages = self._chat(signature, demos, inputs, special_tokens=special_tokens(lm))
        response_format = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema_of(signature), "strict": True},
        }
        options = {"response_format": response_format} if lm.supports_response_schema else {}
        response = ask(lm, messages, {**lm_kwargs, **options})
        return [self.parse(signature, _written(response))]

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The output fields of an answer; text around the JSON object is passed over."""
        try:
            values = json.loads(completion[completion.find("{") : completion.rfind("}") + 1])
            json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair could not be kept
            return {
                name: _type(field.annotation).validate_python(values[name])
                for name, field in signature.output_fields.items()
            }
        except (
            json.JSONDecodeError,
            UnicodeEncodeError,
            RecursionError,
            ValidationError,
            KeyError,
            TypeError,
        ) as error:
            raise AdapterParseError(
                adapter_name="StructuredAdapter",
                signature=signature,
                lm_response=completion,
                message=f"the answer is not the JSON object asked for ({type(error).__name__}: {_first_line(error)})",
            ) from error

    def format_finetune_data(
        self,
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
        outputs: dict[str, Any],
    ) -> dict[str, list[Any]]:
        """The chat with its answer, as a row to train on."""
        answer = {"role": "assistant", "content": write_answer(signature, outputs)}
        return {"messages": [*self.format(signature, demos, inputs), answer]}

    def _chat(
        self, signature: Any, demos: Any, inputs: Any, *, special_tokens: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        return render.chat(
            signature,
            demos,
            inputs,
            form=form_of(signature),
            answer=lambda demo: write_answer(signature, demo),
            special_tokens=special_tokens,
        )


class ScoreAdapter(dspy.Adapter):
    """`Yes.` or `No.` in one token, with `probability` = P(Yes) / (P(Yes) + P(No)) and `mass` = P(Yes) + P(No).

    The signature has one output field, which the adapter fills with the likelier answer. An answer that the LM does not
    report among its likeliest tokens counts as probability 0.
    """

    def format(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The chat up to where the answer begins."""
        return self._chat(signature, demos, inputs, special_tokens=())

    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Ask once; the answer, its probability and the mass on both answers."""
        messages = self._chat(signature, demos, inputs, special_tokens=special_tokens(lm))
        options = {**lm_kwargs, "max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
        ids = label_ids(lm)
        response = ask(lm, messages, options, label_ids=ids)
        yes, no = self._label_probabilities(lm, signature, response, exact=bool(ids))
        answer = YES if yes >= no else NO
        (field,) = signature.output_fields
        return [{field: answer, "probability": yes / (yes + no), "mass": yes + no}]

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The answer alone, where only text is at hand."""
        (field,) = signature.output_fields
        word = completion.strip().rstrip(".").lower()
        if word not in {"yes", "no"}:
            raise AdapterParseError(
                adapter_name="ScoreAdapter",
                signature=signature,
                lm_response=completion,
                message="the answer is neither Yes nor No",
            )
        return {field: YES if word == "yes" else NO}

    def format_finetune_data(
        self,
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
        outputs: dict[str, Any],
    ) -> dict[str, list[Any]]:
        """The chat with its answer, as a row to train on."""
        (field,) = signature.output_fields
        return {"messages": [*self.format(signature, demos, inputs), {"role": "assistant", "content": outputs[field]}]}

    def _chat(
        self, signature: Any, demos: Any, inputs: Any, *, special_tokens: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        (field,) = signature.output_fields
        return render.chat(
            signature, demos, inputs, form="", answer=lambda demo: demo[field], special_tokens=special_tokens
        )

    def _label_probabilities(self, lm: Any, signature: Any, response: Response, *, exact: bool) -> tuple[float, float]:
        """P(Yes), P(No); unless the LM was asked for `exact` tokens, with other spellings of the words (` yes`)."""
        if not response.logprobs:
            raise ModelError(f"{lm.model} returned no log-probabilities; judge with a model or server that does")
        probability = {YES: 0.0, NO: 0.0}
        for token, logprob in {entry.token: entry.logprob for entry in response.logprobs[0].top}.items():
            word = token.strip() if exact else token.strip().capitalize()
            if f"{word}." in probability:
                probability[f"{word}."] += math.exp(logprob)
        if not sum(probability.values()):
            raise AdapterParseError(
                adapter_name="ScoreAdapter",
                signature=signature,
                lm_response=response.text or "",
                message=f"neither Yes nor No is among the {TOP_LOGPROBS} likeliest first tokens",
            )
        return probability[YES], probability[NO]


NOT_ASKED = frozenset({"rollout_id", "timeout", "api_key", "api_base", "base_url", "headers", "extra_headers"})
"""Settings of a hosted LM that are of its connection, which it sets up itself: no part of what is asked."""


def ask(
    lm: Any, messages: list[dict[str, Any]], options: Mapping[str, Any], *, label_ids: tuple[int, ...] = ()
) -> Response:
    """One typed call with the LM's own defaults under `options`; counted as it was, not as it was meant."""
    _quiet_truncation_log()
    settings = {
        key: value for key, value in {**lm.kwargs, **options}.items() if value is not None and key not in NOT_ASKED
    }
    request: Request = request_from_openai_chat({"model": lm.model, "messages": messages, **settings})
    if label_ids:
        request = replace(request, config=replace(request.config, extensions={LABEL_IDS: list(label_ids)}))
    calls = _CallTracker(dspy.settings.usage_tracker)
    with dspy.context(usage_tracker=calls):
        response: Response = lm(request)
    if calls.made:
        record(
            lm_calls=1,
            prompt_tokens=response.usage.input_tokens or 0,
            output_tokens=response.usage.output_tokens or 0,
            truncated=int(response.finish_reason == "length" and request.config.max_tokens != 1),
        )
    else:
        record(cache_hits=1)
    return response


def _written(response: Response) -> str:
    """The text of an answer; DSPy hands some JSON answers on as values and no text (`response.data`)."""
    if response.text is None and response.data is not None:
        return json.dumps(response.data, ensure_ascii=False)
    return response.text or ""


def special_tokens(lm: Any) -> tuple[str, ...]:
    """Tokens of the LM's own that text from outside must not contain, where they are known."""
    return tuple(getattr(lm.engine, "special_tokens", ()))


def label_ids(lm: Any) -> tuple[int, ...]:
    """Token ids of `Yes.` and `No.`, where the LM's engine can be asked for exactly these."""
    engine = lm.engine
    if not getattr(engine, "scores_labels", False):
        return ()
    if engine not in _LABEL_IDS:
        _LABEL_IDS[engine] = tuple(engine.answer_token_ids((YES, NO)))
    return _LABEL_IDS[engine]


_LABEL_IDS: WeakKeyDictionary[Any, tuple[int, ...]] = WeakKeyDictionary()  # weak: an engine holds its weights


@lru_cache(maxsize=256)
def schema_of(signature: Any) -> dict[str, Any]:
    """The JSON schema of the output fields: every field required, nothing else allowed."""
    fields: dict[str, Any] = {name: (field.annotation, ...) for name, field in signature.output_fields.items()}
    schema: dict[str, Any] = create_model("answer", **fields).model_json_schema()
    _close(schema)
    return schema


@lru_cache(maxsize=256)
def form_of(signature: Any) -> str:
    """The sentence that tells how to answer, from the output fields' types and descriptions."""
    kinds = {
        "string": "text",
        "array": "list of short texts",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
    }
    lines = []
    properties = schema_of(signature)["properties"]
    for name, field in signature.output_fields.items():
        kind = kinds.get(properties[name].get("type", ""), json.dumps(properties[name]))
        description = (field.json_schema_extra or {}).get("desc", "")
        lines.append(f'"{name}": {kind}' + (f", {description}" if description != f"${{{name}}}" else ""))
    return "Answer with one JSON object:\n" + "\n".join(lines)


def write_answer(signature: type[dspy.Signature], values: Mapping[str, Any]) -> str:
    """The JSON object with the output fields, in the compact form that guided decoding writes."""
    answer = {n: _type(f.annotation).dump_python(values[n], mode="json") for n, f in signature.output_fields.items()}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _close(schema: dict[str, Any]) -> None:
    """Drop titles, and close every object against further properties."""
    schema.pop("title", None)
    if schema.get("type") == "object":
        schema["additionalProperties"] = False
        schema["required"] = list(schema.get("properties", {}))
    for part in [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), schema.get("items")]:
        if isinstance(part, dict):
            _close(part)


@lru_cache(maxsize=256)
def _type(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else ""


class _CallTracker:
    """Told by DSPy of each call that really was made; passes it on to the tracker that was there before."""

    def __init__(self, outer: Any) -> None:
        self._outer = outer
        self.made = False

    def add_usage(self, model: str, usage: Any) -> None:
        self.made = True
        if self._outer is not None:
            self._outer.add_usage(model, usage)


class _TruncationIsCounted(logging.Filter):
    """DSPy logs a line for each answer that met its bound; `srec.lm.usage` counts them instead."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("LM response was truncated")


_TRUNCATION_FILTER = _TruncationIsCounted()


def _quiet_truncation_log() -> None:
    logging.getLogger("dspy.clients.lm").addFilter(_TRUNCATION_FILTER)  # adding it again changes nothing


def picture(image: Any) -> dspy.Image:
    """A normalized picture as DSPy's type; its bytes are sent as they are."""
    return dspy.Image(image.data_uri)


__all__: Sequence[str] = [
    "BlindModelWarning",
    "ScoreAdapter",
    "StructuredAdapter",
    "ask",
    "form_of",
    "picture",
    "schema_of",
    "write_answer",
]
