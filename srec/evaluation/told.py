"""What of `report.json` a page reads, held against the file before anything is written of it.

A run folder may come from anybody: its digests say that its files belong together, not that srec wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import FiniteFloat, TypeAdapter

Number = FiniteFloat | None  # what is no number is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldInterval:
    """A mean with its interval over `n` cases; all three None where no case has a value."""

    value: Number
    low: Number
    high: Number
    n: int

    def __post_init__(self) -> None:
        if len({one is None for one in (self.value, self.low, self.high)}) > 1:
            raise ValueError("an interval is numbers throughout or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldBin:
    """A reliability bin."""

    low: FiniteFloat
    high: FiniteFloat
    score: Number
    share: Number
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldCalibration:
    """The reliability of one ranker; at least one bin holds a score."""

    bins: Sequence[ToldBin]
    ece: ToldInterval
    brier: ToldInterval
    brier_of_base_rate: Number
    n: int

    def __post_init__(self) -> None:
        held = [one for one in self.bins if one.n > 0]
        if not held or any(one.score is None or one.share is None for one in held):
            raise ValueError("a calibration has bins with scores")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldStage:
    """What one stage took."""

    seconds: FiniteFloat
    lm_calls: int
    cache_hits: int
    prompt_tokens: int
    output_tokens: int
    truncated: int
    unseen_images: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldBeyond:
    """What is recommended in the first `k`."""

    k: int
    coverage: Number
    gini: Number
    popularity: ToldInterval


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldRanked:
    """One case as a ranker left it."""

    case_id: str
    metrics: Mapping[str, Number]
    ranks: Sequence[Number]
    item_ids: Sequence[str]
    candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldRanker:
    """What one ranker reached and took."""

    metrics: Mapping[str, ToldInterval]
    unscored: int
    lm_calls: int
    cache_hits: int
    prompt_tokens: int
    output_tokens: int
    truncated: int
    unseen_images: int
    failures: int
    seconds: FiniteFloat
    beyond: Sequence[ToldBeyond]
    calibration: ToldCalibration | None
    stages: Mapping[str, ToldStage]
    cases: Sequence[ToldRanked]
    fitting: Mapping[str, FiniteFloat] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldPair:
    """One ranker beside another."""

    a: str
    b: str
    metric: str
    value: Number
    low: Number
    high: Number
    p: Number
    p_holm: Number
    better: int
    same: int
    worse: int
    n: int

    def __post_init__(self) -> None:
        if len({one is None for one in (self.value, self.low, self.high)}) > 1:
            raise ValueError("a difference is numbers throughout or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldSlice:
    """Some of the cases, and how the rankers did on them."""

    name: str
    n: int
    rankers: Mapping[str, ToldInterval]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldSlices:
    """One metric on slices; empty where there are none."""

    metric: str = ""
    slices: Sequence[ToldSlice] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldCase:
    """Whose case it is."""

    case_id: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The report of a run, as far as a page tells of it; what else is in it is passed over."""

    data: str
    n: int
    users: int
    protocol: str
    task: str
    candidates: str
    model: str
    seed: int
    cases_seed: int
    seconds: FiniteFloat
    shown_k: int
    chance: Mapping[str, Number]
    rankers: Mapping[str, ToldRanker]
    cases: Sequence[ToldCase]
    comparisons: Sequence[ToldPair]
    slices: ToldSlices
    notes: Sequence[str]

    def __post_init__(self) -> None:
        ids = [case.case_id for case in self.cases]
        wanted = {*(f"{name}@{self.shown_k}" for name in ("ndcg", "recall", "mrr")), "auc", "pooled_auc"}
        if not self.rankers or wanted - set(self.chance):
            raise ValueError("it has no ranker, or not what chance gets")
        for name, row in self.rankers.items():
            if [case.case_id for case in row.cases] != ids or wanted - set(row.metrics):
                raise ValueError(f"ranker {name!r} has other cases or metrics than the report")


TOLD: TypeAdapter[Told] = TypeAdapter(Told)
