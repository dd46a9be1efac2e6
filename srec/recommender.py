"""MLLM-SRec on one screen: fuse each item, follow the taste, profile the user, score the candidates.

    Case ─▶ ItemFusion ─▶ TemporalPreference ─▶ UserProfiling ─▶ CoTScoring ─▶ Recommendation

`MLLMSRec` composes the four stages; any of them can be replaced by a callable of the same type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import dspy

from srec.errors import InputError, LeakageError, StageError
from srec.lm.usage import at_stage, record
from srec.parallel import parallel
from srec.stages.calls import about
from srec.stages.fusion import ItemFusion
from srec.stages.kept import FAILURES
from srec.stages.preference import TemporalPreference
from srec.stages.profile import UserProfiling
from srec.stages.scoring import CoTScoring
from srec.types import Case, History, Item, ItemDescription, PreferenceSummary, Ranking, Score, UserProfile

Descriptions = Mapping[str, ItemDescription]
Fusion = Callable[[Item], ItemDescription]
Preference = Callable[[History, Descriptions], Sequence[PreferenceSummary]]
Profiling = Callable[[Sequence[PreferenceSummary]], UserProfile]
Scoring = Callable[[UserProfile, PreferenceSummary, Sequence[Item], Descriptions], Sequence[Score]]
Made = TypeVar("Made")

RETURNS = {
    "fusion": "an srec.ItemDescription",
    "preference": "a list of srec.PreferenceSummary, oldest first",
    "profiling": "an srec.UserProfile",
    "scoring": "a list of srec.Score, one for each candidate in order",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What the program says of one user's candidates, with all that it was made from.

    `scores` has one score for each of `candidates`, in their order; `descriptions` is by item id and lacks those items
    whose fusion failed.
    """

    history: History
    candidates: tuple[Item, ...]
    scores: tuple[Score, ...]
    descriptions: Descriptions
    summaries: tuple[PreferenceSummary, ...]
    profile: UserProfile

    @property
    def ranking(self) -> Ranking:
        """The scores, best first."""
        return Ranking.of(self.history.user_id, self.scores)


class MLLMSRec(dspy.Module):
    """The whole method as one module: `program(case)` is a `Recommendation`.

    Args:
        fusion: `Item -> ItemDescription`.
        preference: `History, descriptions -> summaries`, oldest first.
        profiling: `summaries -> UserProfile`.
        scoring: `UserProfile, last summary, candidates, descriptions -> scores`, one for each candidate in order.
        recent: How many of the last events are read at least, by default 20; reading begins at a whole `step` from the
            first event, so up to `step - 1` more are. None for all. It bounds the calls for a user, at a price: at each
            `step`-th new event the reading starts later and all is summarized anew.
        workers: Items fused at once; 16.
        lm: The LM of all four stages; None for that of the context.

    Example:
        >>> program = MLLMSRec(scoring=CoTScoring(reasoning="none"))  # the paper's Table 1, word for word
    """

    def __init__(
        self,
        *,
        fusion: Fusion | None = None,
        preference: Preference | None = None,
        profiling: Profiling | None = None,
        scoring: Scoring | None = None,
        recent: int | None = 20,
        workers: int = 16,
        lm: Any = None,
    ) -> None:
        super().__init__()
        if recent is not None and recent < 1:
            raise InputError(f"recent={recent} leaves no event to read; give at least 1, or None for all")
        self.fusion = fusion if fusion is not None else ItemFusion()
        self.preference = preference if preference is not None else TemporalPreference()
        self.profiling = profiling if profiling is not None else UserProfiling()
        self.scoring = scoring if scoring is not None else CoTScoring()
        self.recent = recent
        self.workers = workers
        if lm is not None:
            self.set_lm(lm)

    def forward(self, case: Case) -> Recommendation:
        """Score the candidates of one evaluation case.

        Raises:
            LeakageError: a stage used events from the case's time on.
        """
        return self.recommend(case.history, case.candidates, at=case.at)

    def recommend(self, history: History, candidates: Sequence[Item], *, at: int | None = None) -> Recommendation:
        """Score candidates for one user; `at` is the Unix second that nothing may come from or after.

        A failed fusion leaves its item to be shown by title and attributes, and is counted; where the summary, the
        profile or the reasoning fails, so does the call.

        Raises:
            InputError: the history is empty, or a stage of your own gave no summary; as StageError, where a stage
                returned what it may not, or not one score a candidate.
            LeakageError: a stage used events from `at` on.
        """
        read = self.read(history)
        if not read:
            raise InputError(f"user {history.user_id!r} has no event to start from; rank by popularity instead")
        with about(history=history, candidates=tuple(candidates), at=at):
            return self._recommend(read, candidates, at=at)

    def _recommend(self, read: History, candidates: Sequence[Item], *, at: int | None) -> Recommendation:
        items = {item.item_id: item for item in [*(event.item for event in read.events), *candidates]}
        with at_stage("fusion", units=len(items)):
            described = parallel(partial(_or_none, self.fusion), list(items.values()), workers=self.workers)
        descriptions = {one.item_id: one for one in described if one is not None}
        with at_stage("preference", units=1):
            summaries = _several("preference", self.preference(read, descriptions), PreferenceSummary)
        if not summaries:
            raise InputError(f"the preference stage gave no summary for user {read.user_id!r}; give one at least")
        with at_stage("profiling", units=1):
            profile = _one("profiling", self.profiling(summaries), UserProfile)
        _check_time(summaries[-1], profile, user_id=read.user_id, at=at)
        with at_stage("scoring", units=len(candidates)):
            scores = _several("scoring", self.scoring(profile, summaries[-1], candidates, descriptions), Score)
        if [score.item_id for score in scores] != [item.item_id for item in candidates]:
            raise StageError(
                f"the scoring stage gave {len(scores)} scores for the {len(candidates)} candidates of user "
                f"{read.user_id!r}; give one for each, in their order"
            )
        return Recommendation(
            history=read,
            candidates=tuple(candidates),
            scores=scores,
            descriptions=descriptions,
            summaries=summaries,
            profile=profile,
        )

    def read(self, history: History) -> History:
        """The part of a history that the program reads: at least its last `recent` events."""
        if self.recent is None or len(history) <= self.recent:
            return history
        step = getattr(self.preference, "step", 1)
        start = (len(history) - self.recent) // step * step
        return History(user_id=history.user_id, events=history.events[start:])


def _or_none(fusion: Fusion, item: Item) -> ItemDescription | None:
    try:
        made = fusion(item)
    except FAILURES:
        record(failures=1)
        return None
    return _one("fusion", made, ItemDescription)


def _check_time(summary: PreferenceSummary, profile: UserProfile, *, user_id: str, at: int | None) -> None:
    """Raise LeakageError for what was made from events of `at` on."""
    for made, what in ((summary, "summary"), (profile, "profile")):
        if at is not None and made.until >= at:
            raise LeakageError(
                f"the {what} of user {user_id!r} was made from events until {made.until}, the case is at "
                f"{at}; make it from history.before({at})"
            )


def _one(stage: str, made: Any, kind: type[Made]) -> Made:
    """What a stage made, if it is of its kind."""
    if not isinstance(made, kind):
        raise _wrong(stage, type(made).__name__)
    return made


def _several(stage: str, made: Any, kind: type[Made]) -> tuple[Made, ...]:
    """All that a stage made, if each is of its kind."""
    if not isinstance(made, Iterable) or isinstance(made, str | Mapping):
        raise _wrong(stage, type(made).__name__)
    several = tuple(made)
    if others := {type(one).__name__: None for one in several if not isinstance(one, kind)}:
        raise _wrong(stage, f"{type(made).__name__} of {', '.join(others)}")
    return several


def _wrong(stage: str, returned: str) -> StageError:
    return StageError(f"the {stage} stage returned {returned.replace('NoneType', 'None')}; return {RETURNS[stage]}")
