"""A toy shop with something taken away or exchanged, and the truth of what is shown then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from srec.data.toy import Toy
from srec.data.toyshop import ToyShop
from srec.evaluation.changes import blank, strangers, with_picture_of, without_text
from srec.types import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All items of a shop as `change` shows them, and by item id the truth of what is shown."""

    shop: ToyShop
    change: Callable[[Item], Item]
    truth: Mapping[str, Toy]

    def items(self) -> Iterator[Item]:
        """The items as they are shown, made when they are asked for."""
        return map(self.change, self.shop.data.items.values())


def worlds(shop: ToyShop, *, seed: int) -> dict[str, World]:
    """The shop as it is (`plain`), with blank pictures, with the pictures of other items, and without texts."""
    toys, items = shop.truth.toys, shop.data.items
    stranger = strangers(tuple(toys), seed=seed)
    exchanged = {item_id: replace(toy, look=toys[stranger[item_id]].look) for item_id, toy in toys.items()}
    silent = {item_id: replace(toy, says={}, box="") for item_id, toy in toys.items()}
    return {
        "plain": World(shop=shop, change=lambda item: item, truth=toys),
        "blank_image": World(shop=shop, change=blank, truth=toys),
        "other_image": World(
            shop=shop,
            change=lambda item: with_picture_of(item, items[stranger[item.item_id]]),
            truth=exchanged,
        ),
        "no_text": World(shop=shop, change=without_text, truth=silent),
    }
