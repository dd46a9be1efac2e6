"""A dataset in numbers, counted anew from what was read: what one paper's table must agree with, and ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from srec.data.interactions import Interactions

MINUTE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts and shares of a log with its catalogue; shares are in [0, 1], NaN where there is nothing to share.

    `users` have at least one event, `items` are all of the catalogue, `items_with_events` those that anybody had.
    `density` is the share of (user, item) pairs with an event, `tied` that of events that share their second with
    another of the same user, `within_a_minute` that of the steps from one event of a user to the next that take at
    most 60 seconds, `repeated` that of events with an item that the user had before. `first` and `last` are Unix
    seconds; `rated` is the share of events with a rating, `mean_rating` their mean.
    """

    users: int
    items: int
    items_with_events: int
    interactions: int
    density: float
    median_per_user: float
    mean_per_user: float
    longest: int
    mean_per_item: float
    tied: float
    within_a_minute: float
    repeated: float
    rated: float
    mean_rating: float
    first: int
    last: int

    @classmethod
    def of(cls, log: Interactions) -> Statistics:
        """Count."""
        n, users, items = len(log), len(log.user_ids), len(log.item_ids)
        per_user = np.bincount(log.user, minlength=users) if users else np.zeros(1, np.int64)
        pairs = len(np.unique(log.user.astype(np.int64) * max(1, items) + log.item))
        with_events = len(np.unique(log.item))
        steps = np.diff(log.at)[log.user[1:] == log.user[:-1]]
        rated = ~np.isnan(log.rating)
        return cls(
            users=users,
            items=items,
            items_with_events=with_events,
            interactions=n,
            density=_share(pairs, users * items),
            median_per_user=float(np.median(per_user)),
            mean_per_user=_share(n, users),
            longest=int(per_user.max()),
            mean_per_item=_share(n, with_events),
            tied=_share(int(log.tied().sum()), n),
            within_a_minute=_share(int((steps <= MINUTE_S).sum()), len(steps)),
            repeated=_share(n - pairs, n),
            rated=_share(int(rated.sum()), n),
            mean_rating=float(log.rating[rated].astype(np.float64).mean()) if rated.any() else float("nan"),
            first=int(log.at.min()) if n else 0,
            last=int(log.at.max()) if n else 0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [
            f"{self.users:,} users, {self.items:,} items ({self.items_with_events:,} with events)",
            f"{self.interactions:,} interactions from {_day(self.first)} to {_day(self.last)}",
            f"density {self.density:.3%}",
            f"{self.mean_per_user:.1f} events a user (median {self.median_per_user:g}, most {self.longest:,})",
            f"{self.mean_per_item:.1f} events an item",
            f"{self.tied:.1%} tied in time",
            f"{self.within_a_minute:.1%} of steps within a minute",
            f"{self.repeated:.1%} repeated",
        ]
        if self.rated > 0:
            parts.append(f"{self.rated:.1%} rated, {self.mean_rating:.2f} on average")
        return "; ".join(parts)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
