"""A bound on LM calls that is kept, and answers that are kept, so that nothing is paid for twice.

Every answer is in a store before it is used. A run that was killed is run again from the start: what it had asked is
answered from the store, in the same words, until it comes to where it was.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Self

import dspy
from dspy._vendor.lm15.serde import (  # as DSPy's own cache does; there is no public name in 3.4
    request_to_dict,
    response_from_dict,
    response_to_dict,
)
from dspy.lm15 import Request, Response

from srec.digest import digest
from srec.lm.connect import sees
from srec.store import Store

ANSWER, SPENT, MEASURED = "answer:", "spent:", "measured:"


class BudgetSpent(BaseException):
    """No call is left.

    It passes, as Ctrl-C does, through code that takes every error of a program for a bad result of one example.
    """


class Meter:
    """The calls of one optimization, counted across all the runs that it took.

    `spent` is that count; `measured` is the key under which its first value after measuring is kept.
    """

    def __init__(self, store: Store, *, name: str, tell: Callable[[int], None] = lambda _: None) -> None:
        self._store, self._key, self._tell = store, SPENT + name, tell
        self.measured = MEASURED + name
        self._lock = threading.Lock()
        self.spent = int(store.get(self._key) or 0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        """The meter itself: programs are copied, what they spend is not."""
        return self

    def pay(self, allowance: Allowance) -> None:
        """Count one call before it is made, on disk too, so that a kill cannot make it forgotten."""
        with self._lock:
            if allowance.is_closed or self.spent >= allowance.limit:
                raise BudgetSpent
            self.spent += 1
            self._store.put(self._key, str(self.spent))
        self._tell(self.spent)

    def answer(self, key: str, ask: Callable[[], Response]) -> Response:
        """The kept answer, else a new one, which is kept; of many who ask alike at once, one asks."""
        text, _ = self._store.compute(ANSWER + key, lambda: json.dumps(response_to_dict(ask())))
        return response_from_dict(json.loads(text))


class Allowance:
    """What one phase may spend: until `limit` calls of the meter are spent, or until it is closed.

    `asked` has the distinct requests by what they were asked for. A thread that a phase leaves behind spends nothing.
    """

    def __init__(self, meter: Meter, *, limit: int) -> None:
        self.meter, self.limit, self.is_closed = meter, limit, False
        self.asked: defaultdict[str, set[str]] = defaultdict(set)
        self._repeated: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Allowance:
        """The allowance itself."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    def lm(self, lm: Any, *, asked_for: str) -> dspy.LM:
        """A copy of an LM that spends from this allowance; what DSPy's cache has costs nothing."""
        given = lm.engine
        engine = _Hosted(lm) if isinstance(given, str) else given
        clients = {} if not isinstance(given, str) else dict.fromkeys(CLIENT_KEYS)
        copied: dspy.LM = lm.copy(engine=MeteredEngine(engine, lm, self, asked_for), **clients)
        return copied

    def key(self, request: Request, asked_for: str) -> str:
        """A request's name; where the LM draws its answers, each time that it is asked is a name of its own."""
        name = digest(json.dumps(request_to_dict(request), sort_keys=True, default=str))
        with self._lock:
            if request.config.temperature:
                self._repeated[name] += 1
                name = f"{name}:{self._repeated[name]}"
            self.asked[asked_for].add(name)
        return name


CLIENT_KEYS = ("api_key", "api_base", "base_url", "timeout")
"""Settings of a connection, which stay with the LM that is copied."""


class MeteredEngine:
    """Stands at DSPy's engine seam before an engine, counts and keeps; all else is the engine's."""

    def __init__(self, engine: Any, lm: Any, allowance: Allowance, asked_for: str) -> None:
        self.sees_images = sees(lm)
        self.supports_response_schema = lm.supports_response_schema
        self.supported_params = lm.supported_params
        self._engine, self._allowance, self._asked_for = engine, allowance, asked_for

    def __deepcopy__(self, memo: dict[int, Any]) -> MeteredEngine:
        """The engine itself, so that calls of copied programs are counted too."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._engine, name)

    def complete(self, request: Request) -> Response:
        """The answer, kept or new; BudgetSpent where a new one is one too many."""
        meter = self._allowance.meter
        if self._allowance.is_closed:
            raise BudgetSpent

        def ask() -> Response:
            meter.pay(self._allowance)
            response: Response = self._engine.complete(request)
            return response

        return meter.answer(self._allowance.key(request, self._asked_for), ask)


class _Hosted:
    """A hosted LM, whose engine DSPy makes for itself, as an engine: one attempt a call, no cache."""

    def __init__(self, lm: Any) -> None:
        self._lm = lm.copy(cache=False, num_retries=0)

    def complete(self, request: Request) -> Response:
        with dspy.context(usage_tracker=None):  # the call around this one is tracked
            response: Response = self._lm(request)
        return response
