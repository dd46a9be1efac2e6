"""The ways to optimize: three that are ready, and any optimizer of DSPy's."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dspy

from srec.errors import InputError
from srec.learn.trial import Trial

PICTURES = 2
"""How many demos of one prompt may show a picture."""
NAMES = "'gepa', 'bootstrap', 'instructions', one of srec.learn.optimizers', or an optimizer object of DSPy's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an optimizer works with; both LMs spend from the budget, and `meter` makes any other LM do so.

    `rollouts` is how many cases may be ranked at most. It ends what goes round in circles, where all is answered from
    the store and no call is spent.
    """

    trial: Trial
    lm: Any
    reflection_lm: Any
    meter: Callable[[Any], Any]
    rollouts: int
    seed: int
    workers: int


Compile = Callable[[dspy.Module, list[Any], list[Any], Bench], Any]
"""Program, examples to learn from, examples to choose by, bench -> program with other prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """A way to optimize, by name and options (for the card).

    `divides` says that it learns from one part of the training cases and chooses by the other.
    """

    name: str
    compile: Compile
    divides: bool = False
    only_right: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def gepa(*, images: bool = False, minibatch: int = 3, max_chars: int | None = None) -> Optimizer:
    """Instructions rewritten by an LM that reads what went wrong (Agrawal et al. 2025, *GEPA*).

    Args:
        images: Whether the reflecting LM sees the pictures too; it must have eyes then, and they are dear.
        minibatch: Cases looked at before an instruction is rewritten.
        max_chars: Longest instruction; a longer one is shortened by one more call.
    """
    options: dict[str, Any] = {"images": images, "minibatch": minibatch, "max_chars": max_chars}
    return Optimizer(name="gepa", compile=partial(_gepa, **options), divides=True, options=options)


def bootstrap(*, demos: int = 4, at_least: float = 0.5) -> Optimizer:
    """Demos: the program's own calls on cases where the metric is at least `at_least`, the right verdicts only."""
    options: dict[str, Any] = {"demos": demos, "at_least": at_least}
    return Optimizer(name="bootstrap", compile=partial(_bootstrap, **options), only_right=True, options=options)


def instructions(*, breadth: int = 4, depth: int = 2, temperature: float = 1.0) -> Optimizer:
    """Instructions searched without looking at data: `breadth` of each prompt, `depth` times (DSPy's COPRO)."""
    options: dict[str, Any] = {"breadth": breadth, "depth": depth, "temperature": temperature}
    return Optimizer(name="instructions", compile=partial(_instructions, **options), options=options)


READY: Mapping[str, Callable[[], Optimizer]] = {"gepa": gepa, "bootstrap": bootstrap, "instructions": instructions}


def optimizer_of(given: Any) -> Optimizer:
    """The way to optimize that is meant.

    An optimizer object of DSPy's keeps its own metric, which finds the case's score as `pred.score`; where it has none
    it gets ours. A function gets our metric and returns such an object: `lambda metric: dspy.GEPA(metric=metric, ...)`.

    Raises:
        InputError: none is meant.
    """
    if isinstance(given, Optimizer):
        return given
    if isinstance(given, str) and given in READY:
        return READY[given]()
    if hasattr(given, "compile") and not isinstance(given, type):
        parameters = inspect.signature(given.compile).parameters
        if getattr(given, "max_labeled_demos", 0):
            raise InputError("a case is no demo of any stage; give the optimizer max_labeled_demos=0")
        options = {name: value for name, value in vars(given).items() if isinstance(value, (bool, int, float, str))}
        name = type(given).__name__
        return Optimizer(name=name, compile=partial(_theirs, given), divides="valset" in parameters, options=options)
    if callable(given) and not isinstance(given, str):
        return Optimizer(name=getattr(given, "__name__", "function"), compile=partial(_made, given), divides=True)
    raise InputError(f"optimizer {given!r} is not known; give {NAMES}")


def slim(demos: Sequence[Any], *, pictures: int = PICTURES) -> tuple[Any, ...]:
    """The demos without those that show a picture after the first few."""
    kept, shown = [], 0
    for demo in demos:
        has_picture = any(isinstance(value, dspy.Image) for value in dict(demo).values())
        shown += has_picture
        if not has_picture or shown <= pictures:
            kept.append(demo)
    return tuple(kept)


def _gepa(
    student: dspy.Module,
    train: list[Any],
    valid: list[Any],
    bench: Bench,
    *,
    images: bool,
    minibatch: int,
    max_chars: int | None,
) -> Any:
    from dspy.teleprompt.gepa import InstructionProposer  # noqa: PLC0415 (slow)

    propose = InstructionProposer(max_chars=max_chars)
    optimizer = dspy.GEPA(
        metric=bench.trial.dspy_metric,
        max_metric_calls=bench.rollouts,
        reflection_lm=bench.reflection_lm,
        reflection_minibatch_size=minibatch,
        instruction_proposer=propose if images else _blind(propose),
        num_threads=bench.workers,
        seed=bench.seed,
        warn_on_score_mismatch=False,
    )
    return optimizer.compile(student, trainset=train, valset=valid)


def _blind(propose: Any) -> Any:
    """The proposer, which gets to read that there was a picture."""

    def proposed(*, candidate: Any, reflective_dataset: Any, components_to_update: Any) -> Any:
        told = {
            name: [{**one, "Inputs": {key: _told(value) for key, value in one["Inputs"].items()}} for one in examples]
            for name, examples in reflective_dataset.items()
        }
        return propose(candidate=candidate, reflective_dataset=told, components_to_update=components_to_update)

    return proposed


def _told(value: Any) -> Any:
    return "(a picture)" if isinstance(value, dspy.Image) else "" if value is None or value == "None" else value


def _bootstrap(
    student: dspy.Module, train: list[Any], _: list[Any], bench: Bench, *, demos: int, at_least: float
) -> Any:
    optimizer = dspy.BootstrapFewShot(
        metric=lambda gold, pred, trace=None: bench.trial.dspy_metric(gold, pred, trace) >= at_least,
        max_bootstrapped_demos=demos,
        max_labeled_demos=0,
    )
    return optimizer.compile(student, trainset=train)


def _instructions(
    student: dspy.Module,
    train: list[Any],
    _: list[Any],
    bench: Bench,
    *,
    breadth: int,
    depth: int,
    temperature: float,
) -> Any:
    optimizer = dspy.COPRO(
        prompt_model=bench.reflection_lm,
        metric=bench.trial.dspy_metric,
        breadth=breadth,
        depth=depth,
        init_temperature=temperature,
    )
    return optimizer.compile(student, trainset=train, eval_kwargs=_evaluation(bench))


def _theirs(given: Any, student: dspy.Module, train: list[Any], valid: list[Any], bench: Bench) -> Any:
    """A user's optimizer, whose own LMs spend from the budget too; the object itself stays as it is."""
    optimizer = copy.copy(given)
    for name, value in vars(given).items():
        if isinstance(value, dspy.LM):
            setattr(optimizer, name, bench.meter(value))
        elif isinstance(value, dict) and isinstance(value.get("lm"), dspy.LM):
            setattr(optimizer, name, {**value, "lm": bench.meter(value["lm"])})
        elif name in {"metric", "metric_fn"} and value is None:
            setattr(optimizer, name, bench.trial.dspy_metric)
    parameters = inspect.signature(optimizer.compile).parameters
    known = {"trainset": train, "valset": valid, "eval_kwargs": _evaluation(bench)}
    return optimizer.compile(student, **{name: value for name, value in known.items() if name in parameters})


def _made(make: Any, student: dspy.Module, train: list[Any], valid: list[Any], bench: Bench) -> Any:
    return _theirs(make(bench.trial.dspy_metric), student, train, valid, bench)


def _evaluation(bench: Bench) -> dict[str, Any]:
    return {"num_threads": bench.workers, "display_progress": False, "display_table": 0}
