"""How values read on the page. Whatever comes from a dataset or an LM is text, and all of it can be seen."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from srec.evaluation import paired, tables
from srec.stages import wording

JOINERS = "\u200c\u200d"  # format characters that scripts and emoji need
UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffc"
    r"\u115f\u1160\u180e\u3164\uffa0\U000e0000-\U000e0fff]"  # fillers; tags, which spell words that nobody sees
)
MOST_CHARS = 4000
DASH = "–"
APART = 0.05  # the corrected p below which two systems are told apart


def visible(text: str) -> str:
    """`text` with every character that hides or reorders others spelled out, as `⟨U+202E⟩`, and of bounded length."""
    cut = text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"
    return UNSEEN.sub(lambda found: found[0] if found[0] in JOINERS else f"⟨U+{ord(found[0]):04X}⟩", cut)


def number(value: float | None) -> str:
    """Three decimals without the leading zero; a dash for what is no number."""
    return DASH if value is None or math.isnan(value) else tables.number(value)


def interval(value: Any) -> str:
    """`[.213 .379]`."""
    return f"[{number(value['low'])} {number(value['high'])}]"


def p(value: float | None) -> str:
    """A p with four decimals."""
    return DASH if value is None else paired.shown_p(value)


def told_apart(p_corrected: float | None) -> str:
    """Whether a difference is more than noise: `yes`, `no`, or a dash without a p."""
    if p_corrected is None:
        return DASH
    return "yes" if p_corrected < APART else "no"


def count(value: float | None) -> str:
    """A count with thousands apart; a rank that is the mean of tied ones keeps its half."""
    return DASH if value is None else f"{value:,.1f}".removesuffix(".0")


def seconds(value: float) -> str:
    """Seconds as a reader takes them in: `<0.01`, `0.03`, `12.4`, `3,410`."""
    if 0 < value < 0.01:  # noqa: PLR2004  what two decimals can show
        return "<0.01"
    return f"{value:,.2f}" if value < 1 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004


def day(at: int) -> str:
    """A Unix second as a day, in UTC; the number itself where no calendar has it."""
    try:
        return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return str(at)


def share(value: float) -> str:
    """`12 %`."""
    return f"{100 * value:.0f} %"


head = tables.head
gap = wording.gap
