"""Several rankers' scores of one case on one scale, and the weights under which the targets are most probable.

The weights are those of a conditional logit (McFadden 1974), whose estimate stays consistent where the candidates are
drawn alike from all items (McFadden 1978), with a slight pull towards 0 that keeps it finite. A weight is never
negative: a ranker is there to help, or gets 0.

Scores enter as z-scores or as log-ranks, whichever fits better. Log-ranks treat the head of a list alike whether the
scores are skewed or not, as those of rankers that count are; z-scores keep how far candidates lie apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Floats = NDArray[np.float64]
Observed = tuple[Floats, NDArray[np.bool_]]  # of one case: z-scores [candidates, rankers], and who is a target
Scale = Literal["z-score", "log-rank"]

PULL = 1e-3  # weight of the squared weights beside the mean log-probability of a target
ALIKE = 1e-6  # losses that differ by less are alike, as of two candidates, which are one apart on either scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Weights, [rankers] from 0, of scores on a scale; `loss` is the mean -log p of a target, in nats, plus pull."""

    weights: Floats
    loss: float
    scale: Scale = "z-score"


def z_scores(said: Sequence[Floats]) -> Floats:
    """Scores of one case, [candidates, rankers], of each ranker with mean 0 and standard deviation 1.

    What a ranker did not score gets the least that it gave; a ranker that tells no candidates apart says 0 of all.
    """
    columns = []
    for values in said:
        known = values[~np.isnan(values)]
        columns.append(_standard(np.where(np.isnan(values), known.min() if len(known) else 0.0, values)))
    return np.column_stack(columns)


def scaled(features: Floats, scale: Scale) -> Floats:
    """Z-scores [candidates, rankers] on a scale; log-ranks, -log of the rank from 1, are standardized in their turn.

    Candidates that a ranker scored alike share the mean of their ranks.
    """
    if scale == "z-score":
        return features
    return np.column_stack([_standard(-np.log(stats.rankdata(-column))) for column in features.T])


def best_weights(seen: Sequence[Observed]) -> Weighed:
    """The weights and the scale with the least loss; z-scores where both are alike."""
    plain = weigh(seen)
    ranked = weigh([(scaled(features, "log-rank"), wanted) for features, wanted in seen])
    return replace(ranked, scale="log-rank") if ranked.loss < plain.loss - ALIKE else plain


def weigh(seen: Sequence[Observed], *, pull: float = PULL) -> Weighed:
    """The weights under which the targets are most probable, beside `pull` times their squares, of scores as they are.

    Of several targets, each is chosen among itself and what is no target.
    """

    def loss(weights: Floats) -> tuple[float, Floats]:
        total, slope, targets = 0.0, np.zeros_like(weights), 0
        for features, wanted in seen:
            values = features @ weights
            for place in np.flatnonzero(wanted):
                choice = ~wanted
                choice[place] = True
                chance = special.softmax(values[choice])
                total += float(special.logsumexp(values[choice]) - values[place])
                slope += chance @ features[choice] - features[place]
                targets += 1
        return total / targets + pull * float(weights @ weights), slope / targets + 2 * pull * weights

    count = seen[0][0].shape[1]
    found = optimize.minimize(loss, np.ones(count), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * count)
    return Weighed(weights=found.x, loss=float(found.fun))


def _standard(values: Floats) -> Floats:
    """Mean 0 and standard deviation 1, or 0 of all where all are alike."""
    apart = len(values) > 0 and np.ptp(values) > 0
    return (values - values.mean()) / values.std() if apart else np.zeros(len(values))
