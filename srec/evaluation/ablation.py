"""Programs with one stage made to do without something; all other stages, prompts and LMs are the program's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy

from srec.recommender import Descriptions, Fusion, MLLMSRec
from srec.stages.scoring import CoTScoring
from srec.types import Fact, History, Item, ItemDescription, PreferenceSummary, UserProfile

Other = Callable[[Item], Item | None]
"""Another item in the place of an item; None where there is none."""


def with_stages(program: MLLMSRec, **stages: Any) -> MLLMSRec:
    """The program with some of its stages replaced; the others are shared with it."""
    changed = copy.copy(program)
    for name, stage in stages.items():
        setattr(changed, name, stage)
    return changed


def unprofiled(program: MLLMSRec) -> MLLMSRec:
    """The program with a profile that says nothing."""
    return with_stages(program, profiling=_nobody)


def unreasoned(program: MLLMSRec) -> MLLMSRec:
    """The program with its own question to the judge, and no word in the place of the reasoning."""
    scoring = copy.copy(program.scoring)
    assert isinstance(scoring, CoTScoring)
    scoring.reason = _Silent(lm=scoring.reason.lm)
    return with_stages(program, scoring=scoring)


def rewindowed(program: MLLMSRec, *, window: int, step: int) -> MLLMSRec:
    """The program reading the same events in other windows."""
    return with_stages(program, preference=Rewindowed(program.preference, window=window, step=step))


def hallucinating(program: MLLMSRec, *, other: Other) -> MLLMSRec:
    """The program with descriptions that also claim what was seen on another item."""
    return with_stages(program, fusion=Hallucinating(program.fusion, other))


class Rewindowed:
    """A preference stage with its own `window` and `step` changed.

    The `step` that it tells is the old one: the program rounds by it where its reading of a history starts.
    """

    def __init__(self, preference: Any, *, window: int, step: int) -> None:
        self.step = preference.step
        self._preference = copy.copy(preference)
        self._preference.window, self._preference.step = window, step

    def __call__(self, history: History, descriptions: Descriptions) -> Sequence[PreferenceSummary]:
        """The summaries of all windows, oldest first."""
        summaries: Sequence[PreferenceSummary] = self._preference(history, descriptions)
        return summaries


@dataclass(frozen=True, slots=True)
class Hallucinating:
    """A fusion whose descriptions invent: what the picture of another item showed, else all that was said of it."""

    fusion: Fusion
    other: Other

    def __call__(self, item: Item) -> ItemDescription:
        """The description with the invention at its end."""
        own = self.fusion(item)
        stranger = self.other(item)
        if stranger is None:
            return own
        other = self.fusion(stranger)
        invented = _invented(own, other)
        words = ", ".join(f"{fact.aspect} {fact.value}" for fact in invented) or ("" if other.facts else other.text)
        if not words:
            return own
        return replace(own, text=f"{own.text} The item also has: {words}.".lstrip(), facts=(*own.facts, *invented))


def _invented(own: ItemDescription, other: ItemDescription) -> tuple[Fact, ...]:
    """What the other picture showed and the own item has not."""
    known = {(fact.aspect, fact.value) for fact in own.facts}
    return tuple(fact for fact in other.facts if fact.source != "text" and (fact.aspect, fact.value) not in known)


@dataclass(frozen=True, slots=True)
class _Silent:
    """Stands where the predictor of the reasoning stands, asks nobody and says nothing."""

    lm: Any

    def __call__(self, **_: Any) -> dspy.Prediction:
        return dspy.Prediction(reasoning="")


def _nobody(summaries: Sequence[PreferenceSummary]) -> UserProfile:
    return UserProfile(user_id=summaries[-1].user_id, text="", until=summaries[-1].until)
