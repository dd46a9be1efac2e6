"""A program as DSPy's optimizers of weights want it: its calls in DSPy's trace, and their text as it was asked.

DSPy takes a program's calls from its trace and has one adapter write them all. srec's stages ask through adapters of
their own, and a row must have the text that was asked; so each call in the trace knows how it was asked (`Asked`), and
`StageAdapter` writes it that way.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from srec.artifact import predictors_of
from srec.digest import digest
from srec.errors import InputError, StageError
from srec.learn.lesson import SCORING, taught
from srec.learn.objective import Metric, metric_named
from srec.lm.adapters import ScoreAdapter
from srec.lm.connect import identity
from srec.lm.usage import record
from srec.lm.verbalizer import YES
from srec.stages.calls import current_work
from srec.stages.kept import FAILURES, lm_of, unkept
from srec.text import clean
from srec.types import Case

REASON_CHARS = 300
Entry = tuple[dspy.Predict, "Asked", Any]
"""A call in DSPy's trace: predictor, inputs, prediction."""


def for_dspy(program: Any, *, lm: dspy.LM, metric: str | Metric = "ndcg@10", only_right: bool = False) -> dspy.Module:
    """A copy of a program for `dspy.BootstrapFinetune` and `dspy.BetterTogether`, of which every predictor asks `lm`.

    It takes `case=` and gives a `dspy.Prediction` with the `score` of the case in [0, 1], the `recommendation`, and the
    `error` of a case that failed, whose score is 0.0: what an LM did wrong stops no optimizer. The program itself is
    the module's `program`. An open store is not looked into, since results from there have no calls to learn from; an
    LM connected with `cache=True` is not asked again in a run that was killed.

    Args:
        program: An `MLLMSRec`, or a module of yours from a case to a `Recommendation`; it stays as it is.
        lm: For the student one of `srec.tunable`; a teacher may ask any.
        metric: The score of a case: "ndcg@10", "auc" and so on, or a function of scores and target ids.
        only_right: Leave verdicts on candidates out of the trace that the case's targets show to be wrong. A student
            that learns from itself would else learn its mistakes.

    Example:
        >>> student = for_dspy(program, lm=srec.tunable("local:", out="runs/finetune"))  # doctest: +SKIP
        >>> examples = [dspy.Example(case=case).with_inputs("case") for case in cases]  # doctest: +SKIP
    """
    return Pupil(taught(program, lm), metric=metric_named(metric)[1], only_right=only_right)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a row tells of its call beside the chat (`srec.learn.rows.Row`)."""

    stage: str
    case_id: str
    user_id: str
    item_id: str
    at: int | None
    label: bool | None
    score: float
    teacher: str


class Asked(dict[str, Any]):
    """The inputs of a call, as DSPy's optimizers see them; they know through which adapter they were asked."""

    def __init__(
        self, inputs: Mapping[str, Any], *, adapter: dspy.Adapter, signature: Any, about: About | None = None
    ) -> None:
        super().__init__(inputs)
        self.adapter = adapter
        self.signature = signature
        self.about = about


class StageAdapter(dspy.ChatAdapter):  # DSPy finetunes through ChatAdapters alone
    """Writes each call of a `for_dspy` program as it was asked: `dspy.BootstrapFinetune(adapter=StageAdapter())`."""

    def format_finetune_data(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any], outputs: Any
    ) -> dict[str, Any]:
        """The chat with its answer, and what a row tells beside it.

        Raises:
            InputError: the call is not of a program made by `for_dspy`.
        """
        if not isinstance(inputs, Asked) or inputs.about is None:
            raise InputError(
                f"a call of {signature.__name__} does not tell how it was asked; give DSPy srec.for_dspy(program, ...)"
            )
        chat = inputs.adapter.format_finetune_data(inputs.signature, demos, dict(inputs), dict(outputs))
        return {"messages": chat["messages"], **asdict(inputs.about)}


class Pupil(dspy.Module):
    """`case=` -> `dspy.Prediction(score, recommendation, error)`; its calls are in DSPy's trace, in a fixed order."""

    def __init__(self, program: dspy.Module, *, metric: Metric, only_right: bool) -> None:
        super().__init__()
        self.program = program
        self.metric = metric
        self.only_right = only_right

    def forward(self, case: Case) -> dspy.Prediction:
        """Rank one case and score it."""
        heard, made, error = Heard(), None, ""
        with dspy.context(callbacks=[*dspy.settings.get("callbacks", []), heard], trace=None), unkept():
            try:
                made = self.program(case)
            except StageError:
                raise  # a bug, which fails every case alike
            except FAILURES as failure:
                record(failures=1)
                error = clean(f"{type(failure).__name__}: {failure}", max_chars=REASON_CHARS)
        score = 0.0 if made is None else self.metric(made.scores, case.target_ids)
        score = 0.0 if math.isnan(score) else score
        if not 0.0 <= score <= 1.0:
            raise InputError(f"the metric gave {score} for case {case.case_id}; give a number from 0 to 1")
        if dspy.settings.trace is not None:
            dspy.settings.trace.extend(self._entries(heard.calls, case, score))
        return dspy.Prediction(score=score, recommendation=made, error=error)

    def _entries(self, calls: Sequence[tuple[Entry, str]], case: Case, score: float) -> list[Entry]:
        """The calls of a case with what is to be told of them, by stage, item and text."""
        names = {id(predictor): name for name, predictor in predictors_of(self.program).items()}
        entries = []
        for (predictor, asked, outputs), item_id in calls:
            stage = names.get(id(predictor))
            if stage is None:
                raise InputError(
                    f"a predictor of {asked.signature.__name__} is not part of the program; make it an attribute"
                )
            is_verdict = isinstance(asked.adapter, ScoreAdapter) and stage.startswith(SCORING)
            label = item_id in case.target_ids if is_verdict else None
            if self.only_right and is_verdict and (outputs.answer == YES) != label:
                continue
            asked.about = About(
                stage=stage,
                case_id=case.case_id,
                user_id=case.user_id,
                item_id=item_id,
                at=case.at,
                label=label,
                score=score,
                teacher=identity(lm_of(predictor)),
            )
            entries.append((predictor, asked, outputs))
        place = {name: number for number, name in enumerate(names.values())}
        return sorted(entries, key=lambda entry: _place(entry, place))


def _place(entry: Entry, place: Mapping[str, int]) -> tuple[int, str, str]:
    about = entry[1].about
    assert about is not None
    return place[about.stage], about.item_id, digest(sorted((key, str(value)) for key, value in entry[1].items()))


class Heard(BaseCallback):
    """Keeps the calls of predictors that were answered, and the item that each was about, in order of time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Entry, str]] = []
        self._asked: dict[str, tuple[dspy.Predict, Asked]] = {}
        self._lock = threading.Lock()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Remember what is asked and through which adapter; of modules only predictors are of interest."""
        if not isinstance(instance, dspy.Predict):
            return
        given = inputs["kwargs"]
        signature = given.get("signature", instance.signature)
        fields = {field: given.get(field) for field in signature.input_fields}
        adapter = dspy.settings.adapter or dspy.ChatAdapter()
        with self._lock:
            self._asked[call_id] = (instance, Asked(fields, adapter=adapter, signature=signature))

    def on_module_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:
        """Keep the call with its answer."""
        with self._lock:
            asked = self._asked.pop(call_id, None)
            if asked is not None and exception is None and outputs is not None:
                self.calls.append(((*asked, outputs), current_work().item_id))


__all__: Sequence[str] = ["StageAdapter", "for_dspy"]
