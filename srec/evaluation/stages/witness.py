"""Stands where a ranker stands, and keeps what the program made on the way to its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from srec.recommender import MLLMSRec, Recommendation
from srec.types import Case, PreferenceSummary, Score, UserProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the program made of one case; `times` are the Unix seconds of the events that it read."""

    user_id: str
    times: tuple[int, ...]
    summaries: tuple[PreferenceSummary, ...]
    profile: UserProfile
    scores: tuple[Score, ...]
    target_ids: tuple[str, ...]


class Witness:
    """A ranker: the scores of `program` for a case as `change` makes it. Safe to ask from many threads."""

    def __init__(self, program: MLLMSRec, *, change: Callable[[Case], Case] = lambda case: case) -> None:
        self._program = program
        self._change = change
        self._made: dict[str, Made] = {}

    def __call__(self, case: Case) -> Sequence[Score]:
        """The scores of the candidates, in order."""
        made: Recommendation = self._program(self._change(case))
        self._made[case.case_id] = Made(
            user_id=case.user_id,
            times=tuple(event.at for event in made.history.events),
            summaries=made.summaries,
            profile=made.profile,
            scores=made.scores,
            target_ids=case.target_ids,
        )
        return made.scores

    @property
    def made(self) -> list[Made]:
        """What was made so far, by case id; cases on which the program failed are missing."""
        return [self._made[case_id] for case_id in sorted(self._made)]
