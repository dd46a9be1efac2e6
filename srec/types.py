"""The nouns of srec, frozen.

Time is Unix seconds everywhere (`at`, `until`), and a wall: `History.before(t)` is the only cut.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from srec.errors import CandidateError, InputError, LeakageError

FactSource = Literal["image", "text", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One picture, normalized once by `srec.data.intake`: RGB, bounded in size, encoded to stable bytes."""

    data: bytes = field(repr=False)
    width: int
    height: int
    media_type: str = "image/jpeg"

    @property
    def digest(self) -> str:
        """SHA-256 of the encoded bytes, 64 hex digits."""
        return sha256(self.data).hexdigest()

    @property
    def data_uri(self) -> str:
        """The picture as a `data:` URI, the form in which it travels to an LM."""
        return f"data:{self.media_type};base64,{b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What a catalogue knows of one thing: text, attributes, and a picture if there is one.

    `attributes` keeps the order of the catalogue's columns; a value with several parts separates them by `|`.
    """

    item_id: str
    title: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    image: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One interaction of a user with an item, `at` a Unix second; `rating` is None where the log has none."""

    item: Item
    at: int
    rating: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What one user did, ordered by (time, item id)."""

    user_id: str
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        keys = [(event.at, event.item.item_id) for event in self.events]
        if keys != sorted(keys):
            raise InputError(
                f"history of user {self.user_id!r} is not ordered by (time, item id); sort its events first"
            )

    def __len__(self) -> int:
        return len(self.events)

    def before(self, at: int) -> History:
        """The events strictly before the Unix second `at`."""
        return History(user_id=self.user_id, events=tuple(event for event in self.events if event.at < at))

    @property
    def until(self) -> int | None:
        """Unix second of the last event; None for an empty history."""
        return self.events[-1].at if self.events else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive events `events` of a history, the first of them at position `start` (0-based)."""

    user_id: str
    start: int
    events: tuple[Event, ...]

    @property
    def stop(self) -> int:
        """Position after the last event."""
        return self.start + len(self.events)

    @property
    def until(self) -> int:
        """Unix second of the last event."""
        return self.events[-1].at


def windows(history: History, *, size: int, step: int) -> Iterator[Window]:
    """Cut a history into windows of `size` events, each starting `step` events after the one before.

    The windows cover every event; only the last may be shorter. Those already full never change when events are
    appended, so one new event changes or adds exactly one window. An empty history has no window.

    >>> from srec.types import Event, History, Item, windows
    >>> history = History(user_id="u", events=tuple(Event(item=Item(item_id=str(i)), at=i) for i in range(7)))
    >>> [(w.start, w.stop) for w in windows(history, size=4, step=2)]
    [(0, 4), (2, 6), (4, 7)]
    """
    if not 1 <= step <= size:
        raise InputError(
            f"windows need 1 <= step <= size, got size={size} and step={step}; a larger step would skip events"
        )
    for start in range(0, len(history), step):
        yield Window(user_id=history.user_id, start=start, events=history.events[start : start + size])
        if start + size >= len(history):
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing known of an item (`aspect="colour"`, `value="teal"`) and where it was read."""

    aspect: str
    value: str
    source: FactSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDescription:
    """Output of fusion: one text for image and text together, with the facts that it was made from.

    `seen` is False where the item has a picture that the LM could not see, and where it has none.
    """

    item_id: str
    text: str
    facts: tuple[Fact, ...] = ()
    contradictions: tuple[str, ...] = ()
    seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSummary:
    """Output of temporal preference after `events` events of a history, the last of them at `until`, a Unix second."""

    user_id: str
    text: str
    stable: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()
    fading: tuple[str, ...] = ()
    until: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile:
    """Output of profiling: the lasting person, from the events up to `until`, a Unix second."""

    user_id: str
    text: str
    traits: tuple[str, ...] = ()
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a ranker says of one item: a finite number, larger for better; None where it could not be computed.

    For an LM, `value` is P(Yes) / (P(Yes) + P(No)) in [0, 1] and `mass` is P(Yes) + P(No). `error` says why a value is
    missing, `reason` is what the LM wrote before it answered.
    """

    item_id: str
    value: float | None
    mass: float | None = None
    reason: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise InputError(
                f"score of item {self.item_id!r} is {self.value}; give a finite number, or None for 'not scored'"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Scores of one user, best first; what was not scored comes last. Equal scores are ordered by item id."""

    user_id: str
    scores: tuple[Score, ...]

    @classmethod
    def of(cls, user_id: str, scores: Sequence[Score]) -> Ranking:
        """Sort `scores` into a ranking."""
        best_first = sorted(scores, key=lambda s: (s.value is None, -(s.value or 0.0), s.item_id))
        return cls(user_id=user_id, scores=tuple(best_first))

    def top(self, k: int) -> tuple[Score, ...]:
        """The first `k` scores."""
        return self.scores[:k]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One evaluation example: a history strictly before the Unix second `at`, candidates, and the targets among them.

    `tied` says that a target shares its second with another event of the user, so that the order in time does not
    single it out. Candidates are ordered by item id: their order carries nothing.
    """

    user_id: str
    at: int
    history: History
    candidates: tuple[Item, ...]
    target_ids: tuple[str, ...]
    tied: bool = False

    def __post_init__(self) -> None:
        until = self.history.until
        if until is not None and until >= self.at:
            raise LeakageError(
                f"case of user {self.user_id!r}: history reaches {until}, target is at {self.at}; "
                f"cut with history.before({self.at})"
            )
        if not self.target_ids:
            raise CandidateError(f"case {self.case_id}: no target; a case needs at least one")
        ids = [item.item_id for item in self.candidates]
        if len(set(ids)) != len(ids):
            raise CandidateError(f"case {self.case_id}: a candidate appears twice; list each item once")

    @property
    def case_id(self) -> str:
        """`user@second`, unique within an evaluation."""
        return f"{self.user_id}@{self.at}"
