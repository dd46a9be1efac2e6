"""What a teacher is asked to do: a program with its LM, on cases of those who may be learnt from."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

import dspy

from srec.data.cases import CaseSet
from srec.errors import InputError, LeakageError
from srec.stages.kept import predictor_state
from srec.stages.wording import headline

if TYPE_CHECKING:
    from srec.types import Case

JUDGE, REASON = "scoring.judge", "scoring.reason"
SCORING = "scoring."
KNOWN = (
    "You know what the user took next: {taken}. Let your reasoning lead there, from what the fields say alone, and do "
    "not write that you know it."
)


def taught(program: Any, lm: dspy.LM) -> Any:
    """A copy of a program of which every predictor asks `lm`."""
    copy = program.deepcopy()
    predictors = copy.named_predictors()
    if not predictors:
        raise InputError(
            f"{type(program).__name__} has no predictor to learn from; give a program such as srec.MLLMSRec"
        )
    for _, predictor in predictors:
        predictor.lm = lm
    return copy


def knowing(program: Any, case: Case, *, lms: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """A copy of a program that tells its reasoning what the user took, and the instructions that do not, by name.

    `lms` are the LMs of the copy's predictors, by name.

    Raises:
        InputError: the program does not reason.
    """
    copy = program.deepcopy()
    predictors = dict(copy.named_predictors())
    if REASON not in predictors or getattr(program.scoring, "reasoning", "") == "none":
        raise InputError(f"show_answer=True needs a program that reasons (its predictor {REASON!r}); this one does not")
    for name, predictor in predictors.items():
        predictor.lm = lms[name]
    plain = predictors[REASON].signature.instructions
    titles = [headline(item) for item in case.candidates if item.item_id in case.target_ids]
    taken = " and ".join(titles) or "none of what is offered"
    told = f"{inspect.cleandoc(plain)}\n\n{KNOWN.format(taken=taken)}"
    predictors[REASON].signature = predictors[REASON].signature.with_instructions(told)
    return copy, {REASON: plain}


def state_of_program(program: Any) -> dict[str, Any]:
    """What decides the results of a program, for a digest: predictors, and plain settings of every stage.

    Of what is no module (a function in the place of a stage) only the name counts.
    """
    state: dict[str, Any] = {"type": f"{type(program).__module__}.{type(program).__qualname__}"}
    for name, value in sorted(vars(program).items()):
        if isinstance(value, dspy.Predict):
            state[name] = predictor_state(value)
        elif isinstance(value, dspy.Module):
            state[name] = state_of_program(value)
        elif not name.startswith("_") and name not in {"callbacks", "history"}:
            state[name] = _plain(value)
    return state


def _plain(value: Any) -> Any:
    """A setting as a digest takes it."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Users and items that may be learnt from; None for all."""

    users: frozenset[str] | None
    items: frozenset[str] | None

    @classmethod
    def of(cls, users: Iterable[str] | None, items: Iterable[str] | None) -> Allowed:
        """Users and items by their ids."""
        if isinstance(users, str) or isinstance(items, str):
            raise InputError("users= and items= take lists of ids, not one id")
        return cls(users=None if users is None else frozenset(users), items=None if items is None else frozenset(items))

    def only(self, cases: CaseSet | Iterable[Case]) -> Iterator[Case]:
        """The cases, of which all that can be looked at twice are checked before the first is given out.

        Raises:
            LeakageError: a case has a user or shows an item that is held out.
        """
        if isinstance(cases, CaseSet):
            for fold in cases.folds:
                for spec in fold.specs:
                    shown = (*cases.pool.seen(spec).tolist(), *cases.choosers[fold.name](spec).tolist())
                    self._check(spec.case_id, spec.user_id, cases.pool.ids(shown) if self.items is not None else ())
        elif isinstance(cases, Sequence):
            for case in cases:
                self._check_case(case)
        return self._checked(cases)

    def _checked(self, cases: Iterable[Case]) -> Iterator[Case]:
        for case in cases:
            self._check_case(case)
            yield case

    def _check_case(self, case: Case) -> None:
        items = (*(event.item for event in case.history.events), *case.candidates)
        self._check(case.case_id, case.user_id, [item.item_id for item in items])

    def _check(self, case_id: str, user_id: str, item_ids: Iterable[str]) -> None:
        if self.users is not None and user_id not in self.users:
            raise LeakageError(
                f"case {case_id}: user {user_id!r} is none of the training users; make cases of those alone"
            )
        strange = next((i for i in item_ids if self.items is not None and i not in self.items), None)
        if strange is not None:
            raise LeakageError(
                f"case {case_id} shows item {strange!r}, which is none of the training items; make cases of a dataset "
                "without it (srec.data.part.part)"
            )
