"""Profile: the lasting person behind what moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy

from srec.errors import InputError
from srec.lm.adapters import StructuredAdapter
from srec.stages.kept import kept, predict
from srec.stages.signatures import ProfileUser
from srec.stages.wording import phrases, preference_text
from srec.types import PreferenceSummary, UserProfile


class UserProfiling(dspy.Module):
    """`summaries -> UserProfile`: what holds across all periods of one user. One LM call.

    Args:
        max_tokens: Bound of a profile, in tokens; 192.
        lm: The LM to ask; None for that of the context.
    """

    def __init__(self, *, max_tokens: int = 192, lm: Any = None) -> None:
        super().__init__()
        self.describe = dspy.Predict(ProfileUser, max_tokens=max_tokens)
        if lm is not None:
            self.set_lm(lm)

    def options(self) -> dict[str, Any]:
        """What decides the results beside the prompts."""
        return {}

    def forward(self, summaries: Sequence[PreferenceSummary]) -> UserProfile:
        """The profile of the user whose summaries these are, oldest first.

        Raises:
            InputError: there is no summary, or they belong to several users.
        """
        users = {summary.user_id for summary in summaries}
        if len(users) != 1:
            raise InputError(f"a profile needs the summaries of one user, got those of {len(users)}")
        said = self._describe(tuple(preference_text(summary) for summary in summaries))
        return UserProfile(user_id=summaries[-1].user_id, until=summaries[-1].until, **said)

    @kept(returns=dict[str, str | tuple[str, ...]])
    def _describe(self, summaries: tuple[str, ...]) -> dict[str, Any]:
        said = predict(self.describe, StructuredAdapter(), summaries=list(summaries))
        return {"text": said.profile, "traits": phrases(said.traits)}
