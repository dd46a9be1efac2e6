"""What others need to test with srec: an LM that answers from a script, one that knows a toy shop, and contracts.

lm = scripted({"FuseItem": {"description": "A red car.", "contradictions": []}, "JudgeItem": 0.8})
lm = oracle(srec.toyshop(items=60, users=20))
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, TokenLogprob, TopLogprob, Usage

from srec.learn.oracle import oracle
from srec.stages import signatures
from srec.types import Case, Score

__all__ = ["ScriptedEngine", "check_ranker", "oracle", "scripted"]

Answer = Mapping[str, Any] | float | BaseException
Script = Mapping[str, Answer | Callable[[str], Answer]]


class ScriptedEngine:
    """Stands at DSPy's engine seam and answers by the signature that a prompt belongs to.

    An answer is a mapping of output fields, a probability of `Yes.` for judging signatures, an exception to raise, or a
    function of the prompt's text that gives one of these. Every prompt is kept in `prompts`, and the request it
    came in under the same index of `requests`.
    """

    supports_response_schema = True
    supported_params = frozenset({"max_tokens", "temperature", "logprobs", "top_logprobs", "response_format"})

    def __init__(self, script: Script, *, sees_images: bool = True) -> None:
        self.sees_images = sees_images
        self.identity = "scripted"
        self.prompts: list[str] = []
        self.requests: list[Request] = []
        self._script = script
        self._lock = threading.Lock()
        named = {
            name: getattr(signatures, name) for name in dir(signatures) if isinstance(getattr(signatures, name), type)
        }
        self._first_lines = {
            _first_line(s.instructions): name for name, s in named.items() if issubclass(s, dspy.Signature)
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedEngine:
        """The engine itself, so that calls of copied programs are counted too."""
        return self

    def complete(self, request: Request) -> Response:
        """Answer from the script; LookupError if it has no answer for the prompt's signature."""
        system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
        parts = [part for message in request.messages for part in message.parts]
        text = "\n".join([system, *("<picture>" if not isinstance(part, TextPart) else part.text for part in parts)])
        with self._lock:
            self.prompts.append(text)
            self.requests.append(request)
        answer = self._answer_for(_first_line(system))
        answer = answer(text) if callable(answer) else answer
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, (int, float)):
            return _verdict(request, float(answer))
        return _response(request, json.dumps(answer))

    def _answer_for(self, first_line: str) -> Answer | Callable[[str], Answer]:
        name = self._first_lines.get(first_line)
        if name is None:
            raise LookupError(f"no signature of srec.stages.signatures begins with {first_line!r}")
        if name not in self._script:
            raise LookupError(f"the script has no answer for {name}")
        return self._script[name]


def scripted(script: Script, *, sees_images: bool = True) -> dspy.LM:
    """An LM that answers from a script; its engine is `lm.engine`."""
    engine = ScriptedEngine(script, sees_images=sees_images)
    return dspy.LM("scripted/lm", engine=engine, cache=False, max_tokens=256, temperature=0.0, num_retries=0)


def check_ranker(ranker: Callable[[Case], Sequence[Score]], case: Case) -> None:
    """Assert what every ranker owes: one score for each candidate, in order, and the same scores again."""
    scores = list(ranker(case))
    assert [score.item_id for score in scores] == [item.item_id for item in case.candidates], (
        "one score per candidate, in order"
    )
    assert all(score.value is None or math.isfinite(score.value) for score in scores), "values are finite, or None"
    assert [s.value for s in ranker(case)] == [s.value for s in scores], "the same case has the same scores"


def _first_line(instructions: str) -> str:
    return instructions.strip().splitlines()[0].strip()


def _verdict(request: Request, probability: float) -> Response:
    """Yes and No with the given probability of Yes, sharing all of the mass."""
    top = sorted(
        (TopLogprob(token, math.log(max(p, 1e-9))) for token, p in (("Yes", probability), ("No", 1 - probability))),
        key=lambda one: -one.logprob,
    )
    return _response(request, top[0].token, logprobs=(TokenLogprob(top[0].token, top[0].logprob, top=tuple(top)),))


def _response(request: Request, text: str, *, logprobs: tuple[TokenLogprob, ...] | None = None) -> Response:
    return Response(
        id=None,
        model=request.model,
        message=Message.assistant([TextPart(text)]),
        finish_reason="stop",
        usage=Usage(input_tokens=1, output_tokens=1),
        logprobs=logprobs,
    )
