"""A program as DSPy's optimizers want it: it takes `case=`, and its prediction has a score.

`Trial` holds what the copies that an optimizer makes have in common: the metric, and the record of which prompts got
which score, from which the best so far can be taken whenever an optimizer ends.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy

from srec.artifact import Prompt, predictors_of, prompts_of
from srec.digest import digest
from srec.errors import InputError, StageError
from srec.learn.budget import BudgetSpent
from srec.learn.feedback import candidate_of, feedback
from srec.learn.objective import Metric
from srec.lm.usage import record
from srec.recommender import Recommendation
from srec.stages.kept import FAILURES, keep, unkept
from srec.store import Store
from srec.text import clean
from srec.types import Case

PREFIX = "program."  # what DSPy puts before the name of a predictor, since `Ranked` holds the program
REASON_CHARS = 300
PATIENCE_S = 60.0  # for an LM call that is under way when its budget ends
Entry = tuple[Any, dict[str, Any], Any]
"""One call in DSPy's trace: predictor, inputs, prediction."""


@dataclass
class Trial:
    """What all copies of a program that is optimized share; copies of it are itself.

    With `only_right`, of the verdicts about single candidates only those that are right are shown to the optimizer.
    """

    metric: Metric
    only_right: bool = False
    prompts: dict[str, dict[str, Prompt]] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    is_closed: bool = False
    _running: int = 0
    _idle: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Trial:
        """The trial itself."""
        return self

    @contextmanager
    def running(self) -> Iterator[None]:
        """A case in work; after the end of the trial, nothing is."""
        with self._idle:
            if self.is_closed:
                raise BudgetSpent
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def close(self) -> None:
        """End the trial: DSPy leaves threads behind when a budget ends its work, and these are waited for."""
        with self._idle:
            self.is_closed = True
            self._idle.wait_for(lambda: not self._running, timeout=PATIENCE_S)

    def note(self, program: dspy.Module, case: Case, score: float) -> None:
        """Record what the present prompts of a program reached on a case."""
        key = self.start_with(program)
        with self._idle:
            self.scores[key][case.case_id] = score

    def start_with(self, program: dspy.Module) -> str:
        """Record prompts as tried on no case yet; of equals, those recorded first are the best. Returns their key."""
        prompts = prompts_of(program)
        key = digest({name: [one.instructions, *map(_demo_text, one.demos)] for name, one in prompts.items()})
        with self._idle:
            self.prompts.setdefault(key, prompts)
            self.scores.setdefault(key, {})
        return key

    def best(self, cases: Sequence[Case]) -> dict[str, Prompt] | None:
        """The prompts with the best mean on `cases`, of those tried on all of them; the earliest of equals."""
        ids = [case.case_id for case in cases]
        with self._idle:
            means = {
                key: math.fsum(scores[one] for one in ids) / len(ids)
                for key, scores in self.scores.items()
                if scores.keys() >= set(ids)
            }
            return self.prompts[max(means, key=lambda key: means[key])] if means else None

    def dspy_metric(
        self,
        gold: Any,
        pred: Any,
        trace: Any = None,  # noqa: ARG002  DSPy's contract
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> Any:
        """The score of a prediction; with `pred_name`, as GEPA asks for it, beside words for that predictor."""
        score = float(pred.get("score") or 0.0)
        if pred_name is None:
            return score
        made: Recommendation | None = pred.get("recommendation")
        if made is None:
            return dspy.Prediction(score=score, feedback=f"The program failed: {pred.get('error')}")
        inputs = pred_trace[0][1] if pred_trace else None
        words = feedback(pred_name.removeprefix(PREFIX), made, gold.case, inputs=inputs)
        return dspy.Prediction(score=score, feedback=words)


class Ranked(dspy.Module):
    """`case=` -> `dspy.Prediction(score, recommendation, error)`, which never fails on what an LM did."""

    def __init__(self, program: dspy.Module, trial: Trial) -> None:
        super().__init__()
        self.program = program
        self.trial = trial

    def forward(self, case: Case) -> dspy.Prediction:
        """Rank one case, score it, and show in DSPy's trace the calls that teach something, in a fixed order."""
        with self.trial.running():
            return self._ranked(case)

    def _ranked(self, case: Case) -> dspy.Prediction:
        outer = dspy.settings.trace
        made, error = None, ""
        with dspy.context(trace=[]), unkept():
            try:
                made = self.program(case)
            except StageError:
                raise  # a bug, which fails every case alike
            except FAILURES as failure:
                record(failures=1)
                error = clean(f"{type(failure).__name__}: {failure}", max_chars=REASON_CHARS)
            trace = list(dspy.settings.trace)
        score = 0.0 if made is None else self.trial.metric(made.scores, case.target_ids)
        if not 0.0 <= score <= 1.0:
            raise InputError(f"the metric gave {score} for case {case.case_id}; give a number from 0 to 1")
        self.trial.note(self.program, case, score)
        names = {id(predictor): name for name, predictor in predictors_of(self.program).items()}
        self.trial.asked.update(names[id(entry[0])] for entry in trace if id(entry[0]) in names)
        if outer is not None:
            outer.extend(sorted(_telling(trace, made, case, only_right=self.trial.only_right), key=_order(names)))
        return dspy.Prediction(score=score, recommendation=made, error=error)


class Frozen:
    """A stage or predictor that is not optimized: DSPy does not see it. With a store, its results are kept."""

    def __init__(self, inner: Any, store: Store | None = None) -> None:
        self._inner, self._store = inner, store

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        """The same: what is not optimized is shared by all copies."""
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What it says."""
        with _keeping(self._store):
            return self._inner(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)


@contextmanager
def _keeping(store: Store | None) -> Iterator[None]:
    if store is None:
        yield
        return
    with keep(store):
        yield


def _telling(trace: Sequence[Entry], made: Recommendation | None, case: Case, *, only_right: bool) -> list[Entry]:
    """The calls to learn from: of those about single candidates, those about a target and the best-scored other."""
    if made is None:
        return list(trace)
    others = [score for score in made.ranking.scores if score.item_id not in case.target_ids]
    rival = others[0].item_id if others else ""
    chosen = []
    for entry in trace:
        item = candidate_of(entry[1], made)
        if item is None:
            chosen.append(entry)
            continue
        is_wanted = item.item_id in case.target_ids
        answer = entry[2].get("answer")
        is_right = answer is None or answer == ("Yes." if is_wanted else "No.")
        if (is_wanted or item.item_id == rival) and (is_right or not only_right):
            chosen.append(entry)
    return chosen


def _order(names: Mapping[int, str]) -> Any:
    """Calls come from many threads; what an optimizer draws from them must not depend on which was faster."""
    return lambda entry: (names.get(id(entry[0]), ""), digest(sorted((key, str(v)) for key, v in entry[1].items())))


def _demo_text(demo: Any) -> str:
    return json.dumps({key: str(value) for key, value in dict(demo).items()}, sort_keys=True)
