"""Score: how likely the user is to like each candidate, by multistep reasoning and one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import dspy

from srec.errors import InputError
from srec.lm.adapters import ScoreAdapter, StructuredAdapter, picture
from srec.lm.usage import at_stage, record
from srec.parallel import parallel
from srec.stages.calls import about
from srec.stages.kept import FAILURES, kept, lm_of, predict
from srec.stages.sight import in_sight
from srec.stages.signatures import DeduceNext, JudgeItem, JudgeReasonedItem, ReasonAboutItem, ReasonAboutUser
from srec.stages.wording import described, preference_text, profile_text
from srec.text import clean
from srec.types import Image, Item, ItemDescription, PreferenceSummary, Score, UserProfile

Reasoning = Literal["user", "candidate", "none"]
View = Literal["description", "image", "both"]
ERROR_CHARS = 300


class CoTScoring(dspy.Module):
    """`UserProfile, PreferenceSummary, candidates -> list[Score]`: P(Yes) / (P(Yes) + P(No)) of each, in order.

    A prompt puts what is shared by a user's candidates first and the candidate last, so that an engine or server with a
    prefix cache computes it once.

    Args:
        reasoning: "user", the default, reasons once for each user, then asks one token for each candidate; "candidate"
            reasons about each candidate; "none" asks in the words of the paper's Table 1.
        view: How a candidate is shown: "description" (the default), "image" or "both". A picture that is missing, or
            that the LM cannot see, leaves the description.
        workers: Candidates asked about at once; 16.
        max_tokens: Bound of the written reasoning, in tokens; 192.
        lm: The LM to ask; None for that of the context.
    """

    def __init__(
        self,
        *,
        reasoning: Reasoning = "user",
        view: View = "description",
        workers: int = 16,
        max_tokens: int = 192,
        lm: Any = None,
    ) -> None:
        super().__init__()
        _one_of("reasoning", reasoning, get_args(Reasoning))
        _one_of("view", view, get_args(View))
        self.reasoning = reasoning
        self.view = view
        self.workers = workers
        self.reason = dspy.Predict(
            ReasonAboutItem if reasoning == "candidate" else ReasonAboutUser, max_tokens=max_tokens
        )
        judge = {"user": JudgeItem, "candidate": JudgeReasonedItem, "none": DeduceNext}[reasoning]
        self.judge = dspy.Predict(judge)
        if lm is not None:
            self.set_lm(lm)

    def options(self) -> dict[str, Any]:
        """What decides the results beside the prompts."""
        return {"reasoning": self.reasoning}

    def forward(
        self,
        profile: UserProfile,
        preference: PreferenceSummary,
        candidates: Sequence[Item],
        descriptions: Mapping[str, ItemDescription] | None = None,
    ) -> list[Score]:
        """One score for each candidate, in order; what could not be computed is a score of None that says why."""
        lm_of(self.judge)
        who, wants = profile_text(profile), preference_text(preference)
        thought = self._once(who, wants) if self.reasoning == "user" else ""

        def score(item: Item) -> Score:
            text, shown = self._shown(item, descriptions or {})
            try:
                with about(item_id=item.item_id):
                    return self._score(
                        user_id=profile.user_id,
                        who=who,
                        wants=wants,
                        thought=thought,
                        item_id=item.item_id,
                        text=text,
                        shown=shown,
                    )
            except FAILURES as error:
                record(failures=1)
                return Score(item_id=item.item_id, value=None, error=_sentence(error))

        return parallel(score, candidates, workers=self.workers)

    def _once(self, who: str, wants: str) -> str:
        """The reasoning that all candidates of a user share; its cost is none of theirs."""
        with at_stage("reasoning", units=1):
            return self._reason(who, wants, "", None)

    def _shown(self, item: Item, descriptions: Mapping[str, ItemDescription]) -> tuple[str, Image | None]:
        """What stands for a candidate in the prompt: text, picture, or both."""
        text = described(item, descriptions)
        image = in_sight(item.image, lm_of(self.judge)) if self.view != "description" else None
        return ("" if image is not None and self.view == "image" else text), image

    @kept(returns=Score)
    def _score(
        self, *, user_id: str, who: str, wants: str, thought: str, item_id: str, text: str, shown: Image | None
    ) -> Score:
        if self.reasoning == "candidate":
            thought = self._reason(who, wants, text, shown)
        question = self._question(user_id=user_id, who=who, wants=wants, thought=thought, text=text, shown=shown)
        answer = predict(self.judge, ScoreAdapter(), **question)
        return Score(item_id=item_id, value=answer.probability, mass=answer.mass, reason=thought)

    def _question(
        self, *, user_id: str, who: str, wants: str, thought: str, text: str, shown: Image | None
    ) -> dict[str, Any]:
        image = picture(shown) if shown is not None else None
        if self.reasoning == "none":
            history = (
                f"The user_{user_id} is {who} and based on the previous multimodal interaction history, his "
                f"preferences are summarized as: {wants} Whether user_{user_id} will like the target item"
            )
            return {"history": history, "picture": image, "item": f"{text} next?".lstrip()}
        return {"profile": who, "preference": wants, "reasoning": thought, "target_picture": image, "target_item": text}

    @kept(returns=str)
    def _reason(self, who: str, wants: str, text: str, shown: Image | None) -> str:
        about_item = {}
        if self.reasoning == "candidate":
            about_item = {"target_picture": picture(shown) if shown is not None else None, "target_item": text}
        thought = predict(self.reason, StructuredAdapter(), profile=who, preference=wants, **about_item)
        return str(thought.reasoning)


def _sentence(error: Exception) -> str:
    """What an error says first, safe to print; DSPy adds the whole answer and more below."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return clean(first, max_chars=ERROR_CHARS)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r} is not known; give one of: {', '.join(allowed)}")
