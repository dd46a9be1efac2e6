"""What an optimizer is to raise: one number in [0, 1] for the scores of one case's candidates, larger is better."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from functools import partial

from srec.errors import InputError
from srec.evaluation.metrics import auc, label, mrr_at, ndcg_at, recall_at
from srec.types import Score

Metric = Callable[[Sequence[Score], Collection[str]], float]
"""The scores of a case's candidates and the target ids, to a number in [0, 1]."""

AT = {"ndcg": ndcg_at, "recall": recall_at, "mrr": mrr_at}
FORMS = "'ndcg@10', 'recall@10', 'mrr@10', 'auc', 'pairwise', or a function of scores and target ids"
LEAST_PROBABILITY = 1e-4  # beyond it a log-odds says how a model rounds, not what it thinks


def metric_named(metric: str | Metric) -> tuple[str, Metric]:
    """A metric and its name."""
    if not isinstance(metric, str):
        return getattr(metric, "__name__", type(metric).__name__), metric
    if metric in {"auc", "pairwise"}:
        return metric, {"auc": auc, "pairwise": pairwise}[metric]
    found = re.fullmatch(r"(ndcg|recall|mrr)@([1-9]\d{0,5})", metric)
    if found is None:
        raise InputError(f"metric {metric!r} is not known; give {FORMS}")
    return metric, partial(AT[found[1]], int(found[2]))


def pairwise(scores: Sequence[Score], target_ids: Collection[str]) -> float:
    """How surely the targets are placed above the rest, without a step where two change places.

    `exp(-loss)` of the mean logistic loss `log(1 + exp(-(t - o)))` over all pairs of a target and another candidate,
    by the log-odds of their probabilities (RankNet: Burges et al. 2005); 1/2 where all score alike. What was not
    scored, or is no candidate, has probability 0. NaN without pairs.

    >>> from srec.types import Score
    >>> round(pairwise([Score(item_id="a", value=0.8), Score(item_id="b", value=0.2)], ["a"]), 3)
    0.941
    """
    case = label(scores, target_ids)
    if any(score.value is not None and not 0.0 <= score.value <= 1.0 for score in scores):
        raise InputError("the metric 'pairwise' needs scores that are probabilities; take 'auc' for others")
    odds = [_log_odds(score.value or 0.0) for score in scores]
    wanted = [one for one, hit in zip(odds, case.wanted, strict=True) if hit] + [_log_odds(0.0)] * case.missed
    others = [one for one, hit in zip(odds, case.wanted, strict=True) if not hit]
    if not others:
        return math.nan
    losses = [math.log1p(math.exp(other - target)) for target in wanted for other in others]
    return math.exp(-sum(losses) / len(losses))


def _log_odds(probability: float) -> float:
    p = min(max(probability, LEAST_PROBABILITY), 1.0 - LEAST_PROBABILITY)
    return math.log(p / (1.0 - p))
