"""Are scores good, and do they mean what they say?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from srec.evaluation.metrics import LEVEL, RESAMPLES, Floats, Ints
from srec.evaluation.report import Report
from srec.evaluation.stages.figure import Figure
from srec.evaluation.stages.witness import Made

BINS = 10
METRICS = ("auc", "ndcg@10")


def ranking(report: Report, ranker: str, *, ceiling: str) -> dict[str, Figure]:
    """AUC and NDCG@10 of one ranker of the report; another one, that knows the truth, is the ceiling."""
    return {
        metric: Figure.of(
            report.rankers[ranker].metrics[metric],
            chance=report.chance[metric],
            ceiling=report.rankers[ceiling].metrics[metric].value,
        )
        for metric in METRICS
    }


def calibration(made: Sequence[Made], *, seed: int) -> Figure:
    """Expected calibration error of P(Yes) as the probability of being a target, in [0, 1]; 0 is best.

    Scores of all cases are ordered into `BINS` of equal size; of each, the mean score and the share of targets differ,
    and the differences are averaged (Naeini et al. 2015). Chance is the error of the same scores if they had nothing to
    do with the targets. The interval draws users, each with all of their scores, and leaves the bins as they are.
    """
    rows = [
        (one.user_id, score.value, score.item_id in one.target_ids)
        for one in made
        for score in one.scores
        if score.value is not None
    ]
    if not rows:
        return Figure(value=math.nan, low=math.nan, high=math.nan, chance=math.nan, n=0, ceiling=0.0)
    users, owner = np.unique([user for user, _, _ in rows], return_inverse=True)
    said = np.array([value for _, value, _ in rows])
    wanted = np.array([is_target for _, _, is_target in rows], dtype=np.float64)
    excess, count = _by_user_and_bin(owner, said, said - wanted, users=len(users))
    unrelated, _ = _by_user_and_bin(owner, said, said - wanted.mean(), users=len(users))
    even = np.full(len(users), 1 / len(users))
    drawn = np.random.default_rng(seed).multinomial(len(users), even, size=RESAMPLES).astype(np.float64)
    low, high = np.quantile(_error(drawn, excess, count), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    everybody = np.ones((1, len(users)))
    return Figure(
        value=float(_error(everybody, excess, count)[0]),
        low=float(low),
        high=float(high),
        chance=float(_error(everybody, unrelated, count)[0]),
        n=len(users),
        ceiling=0.0,
    )


def _by_user_and_bin(owner: Ints, said: Floats, excess: Floats, *, users: int) -> tuple[Floats, Floats]:
    """Sum of `excess` [users, bins], and how many scores each user has [users]."""
    order = np.argsort(said, kind="stable")
    cell = np.empty(len(said), dtype=np.int64)
    for place, rows in enumerate(np.array_split(order, BINS)):
        cell[rows] = owner[rows] * BINS + place
    sums = np.bincount(cell, weights=excess, minlength=users * BINS).astype(np.float64).reshape(users, BINS)
    return sums, np.bincount(owner, minlength=users).astype(np.float64)


def _error(times: Floats, excess: Floats, count: Floats) -> Floats:
    """The error [draws] where each user counts `times` [draws, users] times."""
    errors: Floats = np.abs(times @ excess).sum(axis=1) / (times @ count)
    return errors
