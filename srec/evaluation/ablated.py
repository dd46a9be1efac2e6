"""A program with one thing changed, as a ranker: what a probe changes, in the same table as all else."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from srec.evaluation.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from srec.data.cases import CaseSet
    from srec.evaluation.probes import Probe
    from srec.evaluation.rankers import Ranker
    from srec.recommender import MLLMSRec
    from srec.types import Case, Item, Score


class Ablated:
    """`program` under a probe; `cases` are those that will be asked, of which the probe must know."""

    def __init__(
        self, probe: Probe, program: MLLMSRec, *, cases: Iterable[Case], items: Mapping[str, Item], seed: int
    ) -> None:
        self.probe = probe
        self.rankers: Mapping[str, Ranker] = {"program": program}  # who is asked in the end, and whose results are kept
        self._program, self._cases, self._items, self._seed = program, cases, items, seed

    def of(self, cases: CaseSet) -> Ablated:
        """The same for other cases, such as those of another seed."""
        return Ablated(self.probe, self._program, cases=cases, items=cases.items, seed=cases.seed)

    @cached_property
    def scene(self) -> Scene:
        """What the probe must know beside a case."""
        return Scene.of(self._cases, self._program, items=self._items, seed=self._seed)

    @property
    def hindered(self) -> str:
        """Why the probe changes nothing here; empty if it does."""
        return self.probe.why_not(self.scene)

    @cached_property
    def _changed(self) -> MLLMSRec:
        return self.probe.program(self.scene) if self.probe.program is not None else self._program

    def __call__(self, case: Case) -> Sequence[Score]:
        """One score per candidate, by the changed program or of the changed case."""
        scores: Sequence[Score] = self._changed(self.probe.shown(case, self.scene)).scores
        return scores
