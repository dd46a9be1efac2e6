"""Which values of an aspect a text names, in whatever words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from srec.data.toy import FORMS
from srec.stages.question import mentioned

FREE_FORMS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "pattern": {
        "plain": ("solid", "no pattern"),
        "striped": ("stripe", "stripes"),
        "dotted": ("dot", "dots", "polka dot", "polka dots", "spots"),
        "checked": ("check", "checks", "checkered"),
        "zigzag": ("zigzags", "zig zag"),
    },
}
"""Forms that a free answer may have and no text of the shop has."""

_FORMS = {
    aspect: {value: (*own, *FREE_FORMS.get(aspect, {}).get(value, ())) for value, own in forms.items()}
    for aspect, forms in FORMS.items()
}


@lru_cache(maxsize=2**16)
def named(text: str, aspect: str) -> frozenset[str]:
    """The values of `aspect` that `text` names in any of their forms.

    >>> sorted(named("A CRIMSON boat, not a rediscovered one", "colour"))
    ['red']
    """
    return frozenset(mentioned([text], _FORMS[aspect]))
