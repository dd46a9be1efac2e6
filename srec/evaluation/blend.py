"""Several rankers as one: a weighted sum of their scores, with weights fitted on validation cases only.

The validation cases are made from the training events alone, which hold nothing of the cases that are evaluated: under
leave-last-out they ask for each user's second last event. The rankers are fitted on what lies before those, the weights
on how they rank there, and the rankers then anew on all training events. The validation cases have candidates by the
same rule as those that are evaluated: the weights fitted among 21 drawn items are others than in the whole catalogue.

Within a case the scores of all rankers are brought to one scale, and the weights are those under which the targets are
most probable; `weighing` has both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from srec import bulk
from srec.data.candidates import Rule
from srec.data.cases import CaseSet, LeakWarning, cases
from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.report import IntakeReport
from srec.errors import InputError
from srec.evaluation.fitting import concurrent, fitted
from srec.evaluation.rankers import BASELINES, Baseline, Ranker
from srec.evaluation.shift import values_of
from srec.evaluation.weighing import Floats, Observed, Scale, best_weights, scaled, z_scores
from srec.types import Case, Item, Score

if TYPE_CHECKING:
    from srec.data.interactions import Interactions

CANDIDATES = "uniform:20"  # where the rule of the cases cannot be followed anew
USERS = 200
NOUGHT = 1e-3  # below it a weight moves nothing
WORKERS = 16


class BlendWarning(UserWarning):
    """What the weights of a blend stand on is less than was asked for, or they are all nought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
    """A ranker that adds the scores of others on one scale, each times its weight; unscored only where all of them are.

    `basis` says which cases the weights and the scale were fitted on.
    """

    rankers: Mapping[str, Ranker] = field(repr=False)
    weights: Mapping[str, float]
    scale: Scale = "z-score"
    basis: str = "cases of your own"

    def __call__(self, case: Case) -> list[Score]:
        """One score per candidate."""
        said = [ranker(case) for ranker in self.rankers.values()]
        features = scaled(z_scores([*map(values_of, said)]), self.scale)
        values = features @ np.array(list(self.weights.values()))
        return [
            first if _unscored_by_all(said, place) else Score(item_id=first.item_id, value=value)
            for place, (first, value) in enumerate(zip(said[0], values.tolist(), strict=True))
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Rankers by name, to be weighted on validation cases of `task` and `protocol` with candidates of their own.

    At most `users` users give a validation case, drawn by the seed; a program among the rankers is asked for all
    candidates of each. A case whose candidates lack its targets, as a retriever may leave them out, tells nothing and
    is passed over.
    """

    rankers: Mapping[str, Ranker | Baseline]
    task: str = "next"
    protocol: str = "leave-last-out"
    candidates: str = CANDIDATES
    users: int | None = USERS

    def __post_init__(self) -> None:
        if len(self.rankers) < 2:  # noqa: PLR2004  the fewest that can be blended
            raise InputError(f"a blend of {', '.join(self.rankers) or 'nothing'} needs two different rankers at least")
        for name, ranker in self.rankers.items():
            if not (callable(ranker) or isinstance(ranker, Baseline)):
                raise InputError(f"{name!r} of a blend is {ranker!r}; give a ranker, or its name to Blend.like")

    @classmethod
    def like(cls, like: CaseSet, rankers: Mapping[str, Ranker | Baseline | str], *, users: int | None = None) -> Blend:
        """A blend for the task, protocol and candidates of these cases; a baseline may be given by its name.

        Where nobody else can choose candidates as theirs were chosen, by a retriever or in a file of your own, the
        weights are fitted with `uniform:20`.
        """
        meant = {name: BASELINES.get(one, one) if isinstance(one, str) else one for name, one in rankers.items()}
        return cls(
            rankers=cast("Any", meant),
            task=like.task,
            protocol=like.protocol,
            candidates=_rule(like.candidates),
            users=USERS if users is None else users,
        )

    def fit(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Blended:
        """Weigh the rankers on validation cases out of `train`, then fit them on all of it.

        A case that a ranker left without any score, as where an LM failed, is not weighed, since the ranker would
        count as one that has no opinion there; a `BlendWarning` tells how many those are. Raises InputError where
        fewer than half of the cases are left, such as by a run file that lacks them, or a ranker tells no candidates
        apart in any. Where a retriever finds the target of no validation case, weights are fitted with `uniform:20`,
        and a `BlendWarning` says so.
        """
        seen = list(self._observed(self.validation(train, items=items, seed=seed), seed=seed))
        if not seen:
            warnings.warn(
                f"no validation case has its target among its candidates, {self.candidates}, so the weights are fitted "
                f"with {CANDIDATES}; retrieve more",
                BlendWarning,
                stacklevel=2,
            )
            return replace(self, candidates=CANDIDATES).fit(train, items=items, seed=seed)
        whole = [(scores, wanted) for scores, wanted in seen if not np.isnan(scores).any()]
        self._check(whole, seen)
        best = best_weights(whole)
        if best.weights.max() < NOUGHT:
            warnings.warn(
                f"no ranker of {', '.join(self.rankers)} helps on the {len(whole)} validation cases, so all weights "
                "are nought and the blend is at chance; blend others, or give it more validation cases",
                BlendWarning,
                stacklevel=2,
            )
        return Blended(
            rankers={name: fitted(one, train, items=items, seed=seed) for name, one in self.rankers.items()},
            weights=dict(zip(self.rankers, best.weights.tolist(), strict=True)),
            scale=best.scale,
            basis=f"{len(whole):,} validation cases with candidates {self.candidates}, scores as {best.scale}s",
        )

    def _check(self, whole: Sequence[Observed], seen: Sequence[Observed]) -> None:
        """Refuse to weigh by too few cases, and tell of those that are left out."""
        scored = {name: sum(not np.isnan(x[:, i]).any() for x, _ in seen) for i, name in enumerate(self.rankers)}
        silent = [name for i, name in enumerate(self.rankers) if not any(x[:, i].any() for x, _ in whole)]
        least = min(scored, key=scored.__getitem__)
        if 2 * len(whole) < len(seen):
            raise InputError(
                f"ranker {least!r} scored {scored[least]} of the {len(seen)} validation cases, too few to weigh it by; "
                "a run file needs the scores of those cases too"
            )
        if silent:
            raise InputError(
                f"ranker {silent[0]!r} tells no candidates apart in any of the {len(whole)} validation cases, so it "
                "cannot be weighed"
            )
        if len(whole) < len(seen):
            told = ", ".join(f"{name} {count}" for name, count in scored.items())
            warnings.warn(
                f"weights are fitted on {len(whole)} of {len(seen)} validation cases, those that all rankers scored: "
                f"{told}",
                BlendWarning,
                stacklevel=3,
            )

    def validation(self, train: Interactions, *, items: Mapping[str, Item], seed: int) -> CaseSet:
        """The cases that the weights are fitted on."""
        catalogue = Catalogue(
            train.item_ids,
            open_item=lambda position: OpenedItem(item=items[train.item_ids[position]]),
            report=IntakeReport(),
        )
        data = Dataset(name="validation", items=catalogue, interactions=train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeakWarning)  # it was given for the cases themselves
            return cases(
                data, task=self.task, protocol=self.protocol, candidates=self.candidates, users=self.users, seed=seed
            )

    def _observed(self, validation: CaseSet, *, seed: int) -> Iterator[Observed]:
        """Z-scores and targets of each validation case; NaN where a ranker scored none of its candidates."""
        for fold in validation.folds:
            said: list[list[Floats]] = []
            held = [case for case in validation.of(fold) if _wanted(case).any()]  # for all rankers; `users` bounds them
            for name, ranker in self.rankers.items():
                rank = fitted(ranker, fold.train, items=validation.items, seed=seed)
                workers = WORKERS if concurrent(ranker) else 1
                label = f"validate {name}"
                outcomes = bulk.run(rank, held, workers=workers, label=label, total=len(held))
                with closing(outcomes):
                    said.append([values_of(outcome.value or _unscored(outcome.input)) for outcome in outcomes])
            for case, *scores in zip(held, *said, strict=True):
                silent = [bool(np.isnan(one).all()) for one in scores]
                yield np.where(silent, np.nan, z_scores(scores)), _wanted(case)


def _rule(candidates: str) -> str:
    """The rule by which validation cases get candidates as those of these cases."""
    try:
        rule = Rule.of(candidates)
    except InputError:  # only the file knows it that the cases came from
        return CANDIDATES
    return CANDIDATES if rule.kind == "retriever" and not rule.name else candidates


def _wanted(case: Case) -> NDArray[np.bool_]:
    """Which candidates are targets."""
    targets = frozenset(case.target_ids)
    return np.array([item.item_id in targets for item in case.candidates], dtype=np.bool_)


def _unscored_by_all(said: Sequence[Sequence[Score]], place: int) -> bool:
    return said[0][place].value is None and all(scores[place].value is None for scores in said)


def _unscored(case: Case) -> list[Score]:
    return [Score(item_id=item.item_id, value=None) for item in case.candidates]
