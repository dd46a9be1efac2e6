"""What became of every row of a published dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from srec.data.fetch import Fetched
from srec.data.kcore import Round


@dataclass(slots=True, kw_only=True)
class Tally:
    """The rows of one file: `read` is the sum of `kept`, of those rejected and of those left out, by reason.

    A rejected row could not be used; one that was left out could, and is not in what was asked for.
    """

    read: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def rows(self) -> list[tuple[str, int]]:
        """What became of them, and of how many."""
        rejected = [(f"rejected: {reason}", times) for reason, times in sorted(self.rejected.items())]
        left_out = [(f"left out: {reason}", times) for reason, times in sorted(self.left_out.items()) if times]
        return [("read", self.read), *rejected, *left_out, ("kept", self.kept)]

    @classmethod
    def of(cls, rows: Mapping[str, int]) -> Tally:
        """The tally of which `rows` told."""
        tally = cls(read=rows["read"], kept=rows["kept"])
        for what, times in rows.items():
            how, _, reason = what.partition(": ")
            if reason:
                (tally.rejected if how == "rejected" else tally.left_out)[reason] = times
        return tally


@dataclass(slots=True, kw_only=True)
class Conversion:
    """What a conversion read, kept, rejected and left out, and the folder that it wrote."""

    kind: str
    folder: Path
    items: Tally = field(default_factory=Tally)
    interactions: Tally = field(default_factory=Tally)
    users: int = 0
    images: int = 0
    links_out: int = 0
    liked: int | None = None
    rating_threshold: float | None = None
    min_events: int = 0
    rounds: tuple[Round, ...] = ()
    fetched: Fetched | None = None

    def __str__(self) -> str:
        links = f"; {self.links_out:,} pictures are links out of their folder, and left out" if self.links_out else ""
        wrote = (
            f"{self.kind}: {self.items.kept:,} items ({self.images:,} with an image{links}), {self.users:,} users and "
            f"{self.interactions.kept:,} interactions in {self.folder}"
        )
        return "\n".join([wrote, "", *self.table(), *self._core(), *self._likes(), *self._pictures()])

    def table(self) -> list[str]:
        """What became of the rows, as lines of a Markdown table."""
        named = {"items": self.items, "interactions": self.interactions}
        cells = [(name, what, f"{times:,}") for name, tally in named.items() for what, times in tally.rows()]
        return ["| of | rows | count |", "|---|---|---:|", *(f"| {' | '.join(row)} |" for row in cells)]

    def losses(self) -> str:
        """What was rejected and left out, in one sentence's part."""
        tallies = {"item": self.items, "interaction": self.interactions}
        return "; ".join(
            f"{times:,} × {name}: {what}"
            for name, tally in tallies.items()
            for what, times in tally.rows()
            if what not in {"read", "kept"}
        )

    def to_object(self) -> dict[str, Any]:
        """The same for machines."""
        tallies = {"items": self.items, "interactions": self.interactions}
        return {
            "kind": self.kind,
            "folder": str(self.folder),
            "users": self.users,
            "images": self.images,
            "links_out": self.links_out,
            "rows": {name: dict(tally.rows()) for name, tally in tallies.items()},
            "min_events": self.min_events,
            "rounds": [asdict(one) for one in self.rounds],
            "rating_threshold": self.rating_threshold,
            "liked": self.liked,
            "fetched": None if self.fetched is None else self.fetched.to_object(),
        }

    @classmethod
    def of(cls, told: Mapping[str, Any], *, folder: Path) -> Conversion:
        """The conversion of which `to_object` told, without its download."""
        return cls(
            kind=told["kind"],
            folder=folder,
            items=Tally.of(told["rows"]["items"]),
            interactions=Tally.of(told["rows"]["interactions"]),
            users=told["users"],
            images=told["images"],
            links_out=told.get("links_out", 0),
            liked=told["liked"],
            rating_threshold=told["rating_threshold"],
            min_events=told["min_events"],
            rounds=tuple(Round(**one) for one in told["rounds"]),
        )

    def _core(self) -> list[str]:
        if self.min_events <= 1:
            return []
        rounds = (f"{self.min_events}-core, round {number}: {one}" for number, one in enumerate(self.rounds, start=1))
        return ["", *rounds, f"{self.min_events}-core: nothing more to drop after {len(self.rounds)} rounds"]

    def _likes(self) -> list[str]:
        if self.liked is None:
            return []
        share = self.liked / self.interactions.kept
        return ["", f"rated {self.rating_threshold:g} or better: {self.liked:,} of the kept interactions, {share:.1%}"]

    def _pictures(self) -> list[str]:
        return [] if self.fetched is None else ["", str(self.fetched)]
