"""How the toys of the toy shop are made: any of them, alone, from a seed and its number."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from multiprocessing import get_context

import numpy as np

from srec.data.intake import normalize_image
from srec.data.render import COLOURS, PATTERNS, STICKERS, Look, draw
from srec.data.shopwords import Wordings, pick, text_of
from srec.data.silhouettes import CATEGORIES
from srec.data.toy import BRANDS, CLAIMABLE, MATERIALS, PRICES, VALUES, Toy, right_claim, silent_share
from srec.types import Item

BOX_COLOURS = 0.05  # share of items whose text names the colour of a box or ribbon; none that claims a look
QUALITY = 0.6  # standard deviation, beside `truth.WEIGHTS`
_BLOCK = 50  # items that a process makes at a time
_FEW = 400  # items that are made sooner than processes start


class Stream(IntEnum):
    """What a seed has random numbers of its own for, beside the number of the toy or shopper."""

    TOY = 0
    TEXT = 1
    PICTURE = 2
    SHOPPER = 3
    PURCHASES = 4
    HELD_OUT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What decides every toy and its item; a process makes any of them from this alone."""

    seed: int
    contradictions: float
    wordings: Wordings

    def toy(self, n: int) -> Toy:
        """The truth of the toy at position `n`."""
        return _toy(n, seed=self.seed, contradictions=self.contradictions)

    def text(self, n: int) -> tuple[str, dict[str, str]]:
        """Title and attributes of the toy at position `n`."""
        return text_of(self.toy(n), rng=np.random.default_rng((self.seed, Stream.TEXT, n)), wordings=self.wordings)

    def item(self, n: int) -> Item:
        """What the shop shows of the toy at position `n`: its text and its picture."""
        toy = self.toy(n)
        title, attributes = self.text(n)
        picture = BytesIO()
        draw(toy.look, np.random.default_rng((self.seed, Stream.PICTURE, n))).save(picture, "BMP")
        return Item(item_id=toy.item_id, title=title, attributes=attributes, image=normalize_image(picture.getvalue()))

    def block(self, start: int, stop: int) -> list[Item]:
        """The items from position `start` up to `stop`."""
        return [self.item(n) for n in range(start, stop)]


def made_in_order(recipe: Recipe, count: int, *, workers: int | None) -> Generator[Item, None, None]:
    """The first `count` items, made by `workers` processes that are never far ahead of who takes them.

    None for one process for each core, or none but this one where the items are few.
    """
    if workers is None:
        workers = (os.cpu_count() or 1) if count > _FEW else 1
    blocks = [(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
    if workers <= 1:
        for start, stop in blocks:
            yield from recipe.block(start, stop)
        return
    # New processes and not copies of this one, whose threads a copy would not have.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_parent)
    try:
        ahead: deque[Future[list[Item]]] = deque()
        for start, stop in blocks:
            ahead.append(pool.submit(recipe.block, start, stop))
            if len(ahead) > 2 * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _toy(n: int, *, seed: int, contradictions: float) -> Toy:
    rng = np.random.default_rng((seed, Stream.TOY, n))
    colours = tuple(COLOURS)
    look = Look(
        category=pick(rng, tuple(CATEGORIES)),
        colour=pick(rng, colours),
        pattern=pick(rng, PATTERNS),
        sticker=pick(rng, STICKERS) if rng.random() < 0.4 else "",  # noqa: PLR2004 - a share
        frame=pick(rng, colours) if rng.random() < 0.12 else "",  # noqa: PLR2004 - a share
    )
    says = _claims(look, rng, contradictions=contradictions)
    boxed = not says and rng.random() < BOX_COLOURS / silent_share(contradictions=contradictions)
    return Toy(
        item_id=f"toy{n:05d}",
        look=look,
        material=pick(rng, MATERIALS),
        price=pick(rng, PRICES),
        brand=pick(rng, BRANDS),
        says=says,
        box=pick(rng, colours) if boxed else "",  # any, so that it tells nothing of the toy
        quality=float(rng.normal(scale=QUALITY)),
    )


def _claims(look: Look, rng: np.random.Generator, *, contradictions: float) -> dict[str, str]:
    """What the text says of the look: at most one aspect wrongly, the others now and then rightly."""
    chance = rng.random()
    wrong = "colour" if chance < contradictions / 2 else "pattern" if chance < contradictions else ""
    says = {}
    for aspect in CLAIMABLE:
        shown = getattr(look, aspect)
        if aspect == wrong:
            says[aspect] = pick(rng, [value for value in VALUES[aspect] if value != shown])
        elif rng.random() < right_claim(aspect, contradictions=contradictions):
            says[aspect] = shown
    return says
