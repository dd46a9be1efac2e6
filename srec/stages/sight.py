"""What an LM gets to see: a model without eyes gets no pictures, and nobody has to guess that it did not."""

from __future__ import annotations

import warnings
from typing import Any

from srec.lm.adapters import BlindModelWarning
from srec.lm.connect import sees
from srec.lm.usage import record
from srec.types import Image


def in_sight(image: Image | None, lm: Any) -> Image | None:
    """The picture, or None where the LM cannot see it: counted each time, warned of once for each LM."""
    if image is None or sees(lm):
        return image
    record(unseen_images=1)
    # stacklevel 1: the place is the same for every stage, so Python shows the sentence once
    warnings.warn(f"{lm.model} cannot see: pictures are passed over, and counted", BlindModelWarning, stacklevel=1)
    return None
