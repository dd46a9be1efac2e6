"""Six toys with what a model says of them, the first five of a shop and the first one that it gets wrong.

    python evals/gallery.py --model local: --out evals/results/toys

writes OUT.png (the pictures side by side) and OUT.md (question, answer and truth of each).
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

import srec
from srec.data.toy import Toy
from srec.evaluation.stages.vqa import ASPECTS
from srec.evaluation.stages.words import named

SHOWN = 5


def main() -> None:
    args = parse()
    shop, lm = srec.toyshop(items=args.items, users=2, seed=args.seed), srec.connect(args.model)
    fusion = srec.ItemFusion(questions=srec.toy_questions(), write="composed", doubt=1, lm=lm)
    told = {item.item_id: fusion(item=item) for item in shop.data.items.values()}
    toys = shop.truth.toys
    wrong = [item_id for item_id in toys if not right(toys[item_id], told[item_id])]
    first = [item_id for item_id in toys if item_id not in wrong[:1]][:SHOWN]
    chosen = sorted([*first, *wrong[:1]]) if wrong else list(toys)[: SHOWN + 1]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    row([shop.data.items[item_id] for item_id in chosen]).save(args.out.with_suffix(".png"))
    lines = [line(shop.data.items[item_id], toys[item_id], told[item_id]) for item_id in chosen]
    head = ["| | text of the shop | what the model says | true |", "|---|---|---|---|"]
    numbered = [f"| {number} {rest}" for number, rest in enumerate(lines, start=1)]
    foot = f"\n{len(toys) - len(wrong)} of {len(toys)} toys have every visual fact and every contradiction right."
    text = "\n".join([*head, *numbered, foot])
    args.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def seen(said: srec.ItemDescription) -> dict[str, set[str]]:
    """By aspect, the values that were seen in the picture."""
    facts = [fact for fact in said.facts if fact.source in {"image", "both"}]
    return {aspect: {v for f in facts if f.aspect == aspect for v in named(f.value, aspect)} for aspect in ASPECTS}


def right(toy: Toy, said: srec.ItemDescription) -> bool:
    """Whether all that was seen is true, and every contradiction was found and none invented."""
    facts = all(values == {getattr(toy.look, aspect)} for aspect, values in seen(said).items())
    return facts and bool(said.contradictions) == toy.contradicts


def line(item: srec.Item, toy: Toy, said: srec.ItemDescription) -> str:
    """One row of the table after its number."""
    truth = f"{toy.look.pattern} {toy.look.colour} {toy.look.category}"
    truth += "".join(f"; the text wrongly says {toy.says[aspect]}" for aspect in toy.contradictions)
    text = f"**{item.title}** {item.attributes.get('description', '')}"
    return f"| {cell(text)} | {cell(said.text)} | {'' if right(toy, said) else '✗ '}{cell(truth)} |"


def cell(text: str) -> str:
    """Text that stays within its cell."""
    return " ".join(text.replace("|", "\\|").split())


def row(items: list[Any]) -> Image.Image:
    """The items' pictures side by side."""
    pictures = [Image.open(BytesIO(item.image.data)) for item in items]
    side = max(max(picture.size) for picture in pictures)
    wide = Image.new("RGB", (side * len(pictures), side), "white")
    for place, picture in enumerate(pictures):
        wide.paste(picture, (place * side, 0))
    return wide


if __name__ == "__main__":
    main()
