"""From what was handed in to what is asked: baselines fitted, programs reduced to their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dspy

from srec.errors import InputError
from srec.evaluation.rankers import Baseline, Ranker
from srec.recommender import MLLMSRec
from srec.stages.fusion import ItemFusion
from srec.stages.kept import lm_of
from srec.stages.preference import TemporalPreference
from srec.stages.profile import UserProfiling
from srec.stages.scoring import CoTScoring

if TYPE_CHECKING:
    from srec.data.interactions import Interactions
    from srec.types import Item


def fitted(ranker: Ranker | Baseline, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:
    """The ranker to ask: a baseline once fitted, the scores of a program's recommendations, or `ranker` itself."""
    if isinstance(ranker, Baseline):
        return ranker.fit(train, items=items, seed=seed)
    if isinstance(ranker, MLLMSRec):
        return lambda case: ranker(case).scores
    return ranker


def members(ranker: Ranker | Baseline) -> Sequence[Ranker | Baseline]:
    """The rankers that a ranker is made of, its own `rankers`; itself where it has none."""
    inner = getattr(ranker, "rankers", None)
    return tuple(inner.values()) if isinstance(inner, Mapping) else (ranker,)


def programs(ranker: Ranker | Baseline) -> list[MLLMSRec]:
    """The programs among the members, whose results are worth keeping."""
    return [member for member in members(ranker) if isinstance(member, MLLMSRec)]


def check_asks(ranker: Ranker | Baseline, *, name: str) -> None:
    """Raise InputError for a program with a stage that has no LM to ask, own or of the context, before anybody ranks.

    A changed program whose change does not apply, which says so as `hindered`, is refused, too.

    A stage of your own may bring its LM itself, so only those of srec are looked at.
    """
    for program in programs(ranker):
        for stage in (program.fusion, program.preference, program.profiling, program.scoring):
            if isinstance(stage, ItemFusion | TemporalPreference | UserProfiling | CoTScoring):
                for predictor in stage.predictors():
                    if predictor.lm is None and dspy.settings.lm is None:
                        raise InputError(
                            f"ranker {name!r}: {type(stage).__name__} has no LM to ask; pass lm=srec.connect(...)"
                        )
                    lm_of(predictor)
    if why := getattr(ranker, "hindered", ""):
        raise InputError(f"ranker {name!r} would change nothing: {why}; leave it out")


def concurrent(ranker: Ranker | Baseline) -> bool:
    """Whether several threads help: a baseline computes, all others may wait for somebody."""
    return not all(isinstance(member, Baseline) for member in members(ranker))
