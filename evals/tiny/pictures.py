"""Training pictures for srec-tiny: rendered toys with their facts, at the size that the vision tower reads.

Only combinations of facts that are not held out; seeds that no toy shop uses. One block of pictures has one seed, so
that any number of processes makes the same bytes.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srec.data.render import COLOURS, PATTERNS, STICKERS, Look, draw
from srec.data.silhouettes import CATEGORIES

SIDE = 96  # px, the tower's input
BLOCK = 500
STREAM = 71  # first part of every seed: keeps the pictures apart from those of toy shops
FACTS: dict[str, tuple[str, ...]] = {"category": tuple(CATEGORIES), "colour": tuple(COLOURS), "pattern": PATTERNS}

Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]


def pictures(count: int, *, seed: int, folder: Path, held_out: bool = False) -> Pictures:
    """Pictures uint8[count, SIDE, SIDE, 3] and the places of their facts in `FACTS` int64[count, 3].

    Kept in `folder` and read from there the next time. `held_out` gives the combinations that training never sees.
    """
    stem = folder / f"{'held-out' if held_out else 'seen'}-{seed}-{count}"
    kept, facts = stem.with_suffix(".pictures.npy"), stem.with_suffix(".facts.npy")
    if not facts.exists():
        folder.mkdir(parents=True, exist_ok=True)
        blocks = [(seed, block, held_out) for block in range(-(-count // BLOCK))]
        with ProcessPoolExecutor(os.cpu_count()) as workers:
            made = list(workers.map(_block, blocks))
        np.save(kept, np.concatenate([block[0] for block in made])[:count])
        np.save(facts, np.concatenate([block[1] for block in made])[:count])
    return np.load(kept), np.load(facts)


def _block(which: tuple[int, int, bool]) -> Pictures:
    seed, block, held_out = which
    rng = np.random.default_rng((STREAM, seed, block, held_out))
    shown, facts = np.empty((BLOCK, SIDE, SIDE, 3), np.uint8), np.empty((BLOCK, 3), np.int64)
    for row in range(BLOCK):
        look = _look(rng, held_out=held_out)
        shown[row] = np.asarray(reduced(draw(look, rng)))
        facts[row] = [FACTS[aspect].index(getattr(look, aspect)) for aspect in FACTS]
    return shown, facts


def reduced(picture: Image.Image) -> Image.Image:
    """The picture as the model's image processor scales it."""
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _look(rng: np.random.Generator, *, held_out: bool) -> Look:
    while True:
        look = Look(
            **{aspect: values[rng.integers(len(values))] for aspect, values in FACTS.items()},
            sticker=STICKERS[rng.integers(len(STICKERS))] if rng.random() < 0.4 else "",  # noqa: PLR2004 - a share
            frame=FACTS["colour"][rng.integers(8)] if rng.random() < 0.2 else "",  # noqa: PLR2004 - a share
        )
        if look.held_out == held_out:
            return look
