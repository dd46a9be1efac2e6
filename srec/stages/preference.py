"""Follow: how one user's taste moves through time, window by window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from srec.errors import InputError
from srec.lm.adapters import StructuredAdapter
from srec.stages.kept import kept, predict
from srec.stages.signatures import SummarizePreference
from srec.stages.wording import event_lines, phrases, preference_text
from srec.types import History, ItemDescription, PreferenceSummary, Window, windows


class TemporalPreference(dspy.Module):
    """`History -> list[PreferenceSummary]`: a sliding window, each summary built on the one before (paper, Fig. 3).

    One LM call for each window. A new event changes or adds one window, so with results kept it costs one call at most;
    `update` does the same without a store.

    Args:
        window: Events in a window; 10.
        step: By how many events a window starts after the one before; 5, at most `window`.
        max_tokens: Bound of a summary, in tokens; 256.
        lm: The LM to ask; None for that of the context.
    """

    def __init__(self, *, window: int = 10, step: int = 5, max_tokens: int = 256, lm: Any = None) -> None:
        super().__init__()
        if not 1 <= step <= window:
            raise InputError(f"TemporalPreference needs 1 <= step <= window, got window={window} and step={step}")
        self.window = window
        self.step = step
        self.summarize = dspy.Predict(SummarizePreference, max_tokens=max_tokens)
        if lm is not None:
            self.set_lm(lm)

    def options(self) -> dict[str, Any]:
        """What decides the results beside the prompts; windows are part of the input."""
        return {}

    def forward(
        self, history: History, descriptions: Mapping[str, ItemDescription] | None = None
    ) -> list[PreferenceSummary]:
        """One summary for each window, oldest first; an event's item is shown by its description or its headline."""
        summaries: list[PreferenceSummary] = []
        for window in windows(history, size=self.window, step=self.step):
            previous = summaries[-1] if summaries else None
            summaries.append(self.update(previous, window, descriptions))
        return summaries

    def update(
        self,
        previous: PreferenceSummary | None,
        window: Window,
        descriptions: Mapping[str, ItemDescription] | None = None,
    ) -> PreferenceSummary:
        """The summary after one more window: one LM call, or none if it is kept."""
        lines = event_lines(window.events, descriptions or {})
        said = self._summarize(preference_text(previous) if previous else "", tuple(lines))
        return PreferenceSummary(user_id=window.user_id, until=window.until, events=window.stop, **said)

    @kept(returns=dict[str, str | tuple[str, ...]])
    def _summarize(self, previous: str, lines: tuple[str, ...]) -> dict[str, Any]:
        said = predict(self.summarize, StructuredAdapter(), previous_summary=previous, events=list(lines))
        return {"text": said.summary, **{name: phrases(said[name]) for name in ("stable", "rising", "fading")}}
