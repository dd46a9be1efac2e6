"""Why an item stands where it stands: the events and facts that speak for it, and what the LM wrote.

Evidence is found by comparison, not by asking an LM: an event speaks for a candidate when both items have a fact in
common (`genres: Animation`), read from the text, from the picture, or from both. It shows what the ranking can rest
on; it does not prove what moved the LM.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from srec.recommender import Recommendation
from srec.stages.wording import chosen_attributes, parts
from srec.types import Event, Fact, Item, Score

MOST_EVENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One event that speaks for an item, and the facts that its item shares with it."""

    event: Event
    shared: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one item has its score.

    `evidence` is ordered by number of shared facts, then by recency; `tastes` are those of the last summary and the
    profile that the item's description names; `score.reason` is what the LM wrote before it answered.
    """

    item: Item
    score: Score
    evidence: tuple[Evidence, ...]
    tastes: tuple[str, ...]
    contradictions: tuple[str, ...]


def explain(recommendation: Recommendation, *, top: int = 10) -> list[Explanation]:
    """Explanations of the first `top` items, best first."""
    items = {item.item_id: item for item in recommendation.candidates}
    return [_explanation(recommendation, items[score.item_id], score) for score in recommendation.ranking.top(top)]


def _explanation(recommendation: Recommendation, item: Item, score: Score) -> Explanation:
    last, profile = recommendation.summaries[-1], recommendation.profile
    description = recommendation.descriptions.get(item.item_id)
    text = description.text if description else ""
    named: dict[str, str] = {}
    for taste in [*last.rising, *last.stable, *profile.traits]:
        named.setdefault(taste.lower(), taste)
    return Explanation(
        item=item,
        score=score,
        evidence=_evidence(recommendation, item),
        tastes=tuple(taste for taste in named.values() if says(text, taste)),
        contradictions=description.contradictions if description else (),
    )


def _evidence(recommendation: Recommendation, item: Item) -> tuple[Evidence, ...]:
    facts = facts_of(recommendation, item)
    found = []
    for event in _liked(recommendation.history.events):
        others = {_name(fact) for fact in facts_of(recommendation, event.item)}
        shared = tuple(fact for fact in facts if _name(fact) in others)
        if shared and event.item.item_id != item.item_id:
            found.append(Evidence(event=event, shared=shared))
    found.sort(key=lambda one: (-len(one.shared), -one.event.at, one.event.item.item_id))
    return tuple(found[:MOST_EVENTS])


def _liked(events: Sequence[Event]) -> list[Event]:
    """The events that can speak for anything: unrated ones, and those rated no lower than the user's mean."""
    ratings = [event.rating for event in events if event.rating is not None]
    mean = sum(ratings) / len(ratings) if ratings else 0.0
    return [event for event in events if event.rating is None or event.rating >= mean]


def facts_of(recommendation: Recommendation, item: Item) -> tuple[Fact, ...]:
    """The facts of an item's description, else those of the catalogue."""
    description = recommendation.descriptions.get(item.item_id)
    if description is not None and description.facts:
        return description.facts
    attributes = chosen_attributes(item).items()
    return tuple(
        Fact(aspect=aspect, value=part, source="text") for aspect, value in attributes for part in parts(value)
    )


def says(text: str, taste: str) -> bool:
    """Whether a taste stands in a text as whole words."""
    return bool(taste) and re.search(rf"(?<!\w){re.escape(taste)}(?!\w)", text, re.IGNORECASE) is not None


def _name(fact: Fact) -> tuple[str, str]:
    return fact.aspect.lower(), fact.value.lower()
