"""Any stage over many inputs: resumable, bounded in memory, with progress, failures as values.

    fusion = srec.ItemFusion(lm=lm)
    outcomes = bulk.run(fusion, items, key=fusion.key, returns=srec.ItemDescription, store="runs/shop")
    for outcome in outcomes:
        print(outcome.error or outcome.value.text)
    print(outcomes.summary)

A result is in the store as soon as its stage returns, under `key(input)`; a failure is kept under `failed:` and that
key, with its reason. What is there is not computed again, by whatever process, except the failures.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dspy.utils.exceptions import AdapterParseError, LMError
from pydantic import TypeAdapter

from srec import progress as progress_bar
from srec.crew import Crew, Task
from srec.errors import InputError, LeakageError, SrecError, StageError, StoreError
from srec.store import Store, opened
from srec.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from pathlib import Path

I = TypeVar("I")  # noqa: E741  an input; O is what the stage makes of it
O = TypeVar("O")  # noqa: E741  likewise

EXPECTED = (SrecError, LMError, AdapterParseError)  # what is an outcome and not a bug
ENDING = (StoreError, LeakageError, StageError)  # what ends the run all the same: its other outcomes mean nothing
FAILED = "failed:"  # before the key under which a failure is kept
REASON_CHARS = 500
AHEAD = 4  # inputs taken in per worker: a slow one holds back the order of the others, not their work
GRACE_S = 2.0  # what running work may take to finish and be kept when the caller leaves early


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[I, O]):
    """What became of one input: `value`, or None and the reason in `error`; `cached` where it is from the store."""

    input: I
    value: O | None = None
    error: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The counts of a run so far: values, failures, how many of both came from the store; failures by class of error.

    `examples` has the first reason of each class.
    """

    done: int = 0
    cached: int = 0
    failed: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Inputs per second that were computed, not found in the store."""
        return (self.done + self.failed - self.cached) / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        counts = f"{self.done} done, {self.failed} failed, {self.cached} from the store"
        pace = f"{self.seconds:.1f} s, {self.rate:.1f} computed per second"
        failures = [f"  {n} x {reason}, the first: {self.examples[reason]}" for reason, n in self.reasons.items()]
        return "\n".join([f"{counts}; {pace}", *failures])


class Run(Generic[I, O]):
    """The outcomes of a run in the order of the inputs, computed while you iterate, and their `summary` so far.

    Leaving early (`close`, a `break`, Ctrl-C) gives the work in progress two seconds to finish and be kept.
    """

    def __init__(self, outcomes: Generator[Outcome[I, O], None, None], tally: _Tally) -> None:
        self._outcomes = outcomes
        self._tally = tally

    def __iter__(self) -> Iterator[Outcome[I, O]]:
        return self._outcomes

    def __next__(self) -> Outcome[I, O]:
        return next(self._outcomes)

    def close(self) -> None:
        """Stop early."""
        self._outcomes.close()

    @property
    def summary(self) -> Summary:
        """What has been counted so far."""
        return self._tally.summary()

    def finish(self) -> Summary:
        """Run to the end without looking at the outcomes."""
        deque(self._outcomes, maxlen=0)
        return self.summary


def run(
    stage: Callable[[I], O],
    inputs: Iterable[I],
    *,
    key: Callable[[I], str] | None = None,
    store: Store | str | Path | None = None,
    returns: Any = None,
    encode: Callable[[O], str] | None = None,
    decode: Callable[[str], O] | None = None,
    workers: int = 16,
    retry_failed: bool = True,
    label: str = "",
    total: int | None = None,
    progress: bool | None = None,
) -> Run[I, O]:
    """Map `stage` over `inputs` in `workers` threads; work starts with the first outcome that is asked for.

    `inputs` may be endless: at most `4 * workers` of them are held. With a `store`, `key` must name everything that
    goes into a result (`srec.digest.digest` of stage state, weights and input), and results are kept as the JSON of
    the type `returns`, or as `encode` and `decode` say. Processes that share a store share the work.

    Errors of srec and of LMs are outcomes. A `StoreError` ends the run, since what follows could not be kept, and so
    do a `LeakageError`, a `StageError` and every error of others, since it is a bug; all are raised once the work in
    progress has ended. With `retry_failed=False` a failure kept by an earlier run is the outcome. Threads see the
    context variables of the caller, so `with dspy.context(lm=...)` around the call of `run` holds for all of them.

    `progress` shows a bar named `label`, by default only on a terminal; `total` is for inputs of unknown length.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; at least one is needed")
    if store is not None and key is None:
        raise InputError(
            "a store needs key=, a function from an input to all that its result depends on, as one string"
        )
    if store is not None and returns is None and (encode is None or decode is None):
        raise InputError("a store needs returns=, the type of the results, or both encode= and decode=")
    adapter: TypeAdapter[O] = TypeAdapter(returns)
    job = _Job(
        stage=stage,
        key=key,
        encode=encode or (lambda value: adapter.dump_json(value).decode()),
        decode=decode or adapter.validate_json,
        retry_failed=retry_failed,
    )
    tally = _Tally()
    bar = progress_bar.bar(label, total=total or length_hint(inputs) or None, show=progress)
    crew: Crew[I, Outcome[I, O]] = Crew(workers, copy_context())
    return Run(_outcomes(inputs, job=job, store=store, crew=crew, bar=bar, tally=tally), tally)


def _outcomes(
    inputs: Iterable[I],
    *,
    job: _Job[I, O],
    store: Store | str | Path | None,
    crew: Crew[I, Outcome[I, O]],
    bar: contextlib.AbstractContextManager[progress_bar.Tick],
    tally: _Tally,
) -> Generator[Outcome[I, O], None, None]:
    """Hand inputs to the crew, as many as may be held, and its outcomes to the caller, in order."""
    feed, waiting = iter(inputs), deque[Task[I, Outcome[I, O]]]()
    patience_s = None
    with contextlib.nullcontext() if store is None else opened(store) as open_store, bar as tick:
        crew.start(replace(job, store=open_store).answer)
        tally.start()
        try:
            while True:
                waiting.extend(map(crew.add, islice(feed, AHEAD * crew.size - len(waiting))))
                if not waiting:
                    return
                outcome = crew.wait_for(waiting[0])
                waiting.popleft()
                tally.count(outcome)
                tally.show(tick)
                yield outcome
        except (KeyboardInterrupt, GeneratorExit):
            patience_s = GRACE_S
            raise
        finally:
            crew.leave(patience_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job(Generic[I, O]):
    """What is done with each input."""

    stage: Callable[[I], O]
    key: Callable[[I], str] | None
    encode: Callable[[O], str]
    decode: Callable[[str], O]
    retry_failed: bool
    store: Store | None = None

    def answer(self, task: Task[I, Outcome[I, O]]) -> Outcome[I, O] | None:
        """The outcome of one input; None while another thread or process computes it."""
        try:
            if self.store is None or self.key is None:
                return Outcome(input=task.given, value=self.stage(task.given))
            task.key = task.key or self.key(task.given)
            return self._shared(task.given, task.key, self.store)
        except ENDING:
            raise
        except EXPECTED as error:
            return Outcome(input=task.given, error=_reason(error))

    def _shared(self, given: I, key: str, store: Store) -> Outcome[I, O] | None:
        if found := self._find(given, key, store):
            return found
        with store.claim(key, wait=False) as held:
            if not held:
                return None
            return self._find(given, key, store) or self._compute(given, key, store)

    def _find(self, given: I, key: str, store: Store) -> Outcome[I, O] | None:
        if (kept := store.get(key)) is not None:
            return Outcome(input=given, value=self._decoded(kept, key, store), cached=True)
        if not self.retry_failed and (reason := store.get(FAILED + key)):
            return Outcome(input=given, error=reason, cached=True)
        return None

    def _decoded(self, kept: str, key: str, store: Store) -> O:
        try:
            return self.decode(kept)
        except ValueError as error:
            raise StoreError(
                f"store {store.folder}: the result under {key!r} is not of the type of this stage ({_reason(error)}); "
                "let the key name the type, or use another folder"
            ) from error

    def _compute(self, given: I, key: str, store: Store) -> Outcome[I, O]:
        try:
            value = self.stage(given)
        except ENDING:
            raise
        except EXPECTED as error:
            store.put(FAILED + key, _reason(error))
            raise
        store.put(key, self.encode(value))
        if store.get(FAILED + key) is not None:
            store.drop(FAILED + key)
        return Outcome(input=given, value=value)


class _Tally:
    """The counts behind a `Summary`; one line is kept per class of error, however many there are."""

    def __init__(self) -> None:
        self._done = self._cached = 0
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._started_at: float | None = None  # monotonic seconds
        self._seconds = 0.0

    def start(self) -> None:
        self._started_at = time.monotonic()

    def count(self, outcome: Outcome[Any, Any]) -> None:
        if self._started_at is not None:
            self._seconds = time.monotonic() - self._started_at
        if outcome.error:
            name = outcome.error.partition(":")[0]
            self._reasons[name] += 1
            self._examples.setdefault(name, outcome.error)
        else:
            self._done += 1
        self._cached += outcome.cached

    def summary(self) -> Summary:
        return Summary(
            done=self._done,
            cached=self._cached,
            failed=self._reasons.total(),
            reasons=dict(self._reasons.most_common()),
            examples=dict(self._examples),
            seconds=self._seconds,
        )

    def show(self, tick: progress_bar.Tick) -> None:
        summary = self.summary()
        tick(finished=summary.done + summary.failed, cached=summary.cached, failed=summary.failed, rate=summary.rate)


def _reason(error: BaseException) -> str:
    """Class and message of an error on one line, safe to print: an LM's answer may be part of it."""
    return clean(f"{type(error).__name__}: {error}", max_chars=REASON_CHARS)
