"""What probes must know beside the case at hand: the other items of the cases, and how much of them is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from srec.evaluation.changes import strangers
from srec.lm.connect import sees
from srec.recommender import MLLMSRec
from srec.stages.fusion import ItemFusion
from srec.stages.kept import lm_of
from srec.stages.scoring import CoTScoring
from srec.types import Case, History, Item

if TYPE_CHECKING:
    from srec.evaluation.rankers import Ranker


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The program, the catalogue, and what was seen in one look at all cases.

    `others` has another item's id for each item of the cases; `others_with_picture` and `others_with_text` for those
    that have one, among themselves. `read` are the lengths of the histories as the program reads them. `has_negatives`
    says whether any case has a candidate that is no target.
    """

    program: MLLMSRec | Ranker
    items: Mapping[str, Item] = field(repr=False)
    seed: int
    others: Mapping[str, str] = field(repr=False)
    others_with_picture: Mapping[str, str] = field(repr=False)
    others_with_text: Mapping[str, str] = field(repr=False)
    read: frozenset[int]
    has_negatives: bool

    @classmethod
    def of(cls, cases: Iterable[Case], program: MLLMSRec | Ranker, *, items: Mapping[str, Item], seed: int) -> Scene:
        """Look once at every case."""
        pictured: dict[str, bool] = {}
        told: dict[str, bool] = {}
        read: set[int] = set()
        has_negatives = False
        for case in cases:
            events = program.read(case.history).events if isinstance(program, MLLMSRec) else case.history.events
            read.add(len(events))
            has_negatives = has_negatives or bool(negatives(case))
            for item in (*(event.item for event in events), *case.candidates):
                pictured[item.item_id] = item.image is not None
                told[item.item_id] = bool(item.title or item.attributes)
        return cls(
            program=program,
            items=items,
            seed=seed,
            others=_others(pictured, seed=seed),
            others_with_picture=_others((item_id for item_id, has in pictured.items() if has), seed=seed),
            others_with_text=_others((item_id for item_id, has in told.items() if has), seed=seed),
            read=frozenset(read),
            has_negatives=has_negatives,
        )

    @property
    def stages(self) -> MLLMSRec:
        """The program, where it is known to be one of stages."""
        assert isinstance(self.program, MLLMSRec)
        return self.program

    @cached_property
    def looks(self) -> bool:
        """Whether pictures can reach a model that sees; stages of one's own, and other rankers, are taken to look."""
        if not isinstance(self.program, MLLMSRec):
            return True
        fusion, scoring = self.program.fusion, self.program.scoring
        fuses = not isinstance(fusion, ItemFusion) or (
            any(question.of != "text" for question in fusion.questions) and sees(lm_of(fusion.answer_question))
        )
        judges = not isinstance(scoring, CoTScoring) or (scoring.view != "description" and sees(lm_of(scoring.judge)))
        return fuses or judges

    @cached_property
    def shows_pictures_alone(self) -> bool:
        """Whether the judge sees the picture of each candidate, all have one, and it is told no text of them."""
        scoring = self.program.scoring if isinstance(self.program, MLLMSRec) else None
        if not isinstance(scoring, CoTScoring) or scoring.view != "image":
            return False
        return len(self.others_with_picture) == len(self.others) > 0 and sees(lm_of(scoring.judge))

    def reads(self, history: History) -> History:
        """The part of a history that the program reads; all of it for a ranker that is no program of stages."""
        return self.program.read(history) if isinstance(self.program, MLLMSRec) else history

    def other(self, item: Item, *, having: Mapping[str, str] | None = None) -> Item | None:
        """The item that stands in for `item`, of `others` or of those of them that are `having` something."""
        other_id = (self.others if having is None else having).get(item.item_id)
        return self.items[other_id] if other_id is not None else None


def negatives(case: Case) -> list[str]:
    """Ids of the candidates that are no target, in their order."""
    return [item.item_id for item in case.candidates if item.item_id not in case.target_ids]


def _others(item_ids: Iterable[str], *, seed: int) -> dict[str, str]:
    """Another item for each, whatever order the items come in; none for fewer than two."""
    ordered = sorted(item_ids)
    return strangers(ordered, seed=seed) if len(ordered) > 1 else {}
