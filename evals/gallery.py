"""Six toys with what a model says of them, the first four of a shop and the first two that it gets wrong.

    python evals/gallery.py --model local: --out evals/results/toys

writes OUT.png (the pictures side by side) and OUT.md (of each, the composed description, answers in free text to
questions in wordings that nobody was trained on, and the truth). What is false is marked ✗.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

import srec
from srec.data.toy import Toy
from srec.evaluation.stages.vqa import ASPECTS, answers, questions
from srec.evaluation.stages.words import named
from srec.store import Store

SHOWN, FALSE = 4, 2


def main() -> None:
    args = parse()
    shop, lm = srec.toyshop(items=args.items, users=2, seed=args.seed), srec.connect(args.model)
    fusion = srec.ItemFusion(questions=srec.toy_questions(), write="composed", doubt=1, lm=lm)
    told = {item.item_id: fusion(item=item) for item in shop.data.items.values()}
    free = answered(shop, lm)
    toys = shop.truth.toys
    unlike = [item_id for item_id in toys if not right(toys[item_id], told[item_id])]
    wrong = [item_id for item_id in toys if item_id in unlike or not all(map(is_true, free[item_id]))]
    first = [item_id for item_id in toys if item_id not in wrong[:FALSE]][: SHOWN + FALSE - len(wrong[:FALSE])]
    chosen = sorted([*first, *wrong[:FALSE]])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    row([shop.data.items[item_id] for item_id in chosen]).save(args.out.with_suffix(".png"))
    lines = [line(shop.data.items[item_id], toys[item_id], told[item_id], free[item_id]) for item_id in chosen]
    head = ["| | text of the shop | description, composed | in free text | true |", "|---|---|---|---|---|"]
    numbered = [f"| {number} {rest}" for number, rest in enumerate(lines, start=1)]
    spoken = [reply for replies in free.values() for reply in replies]
    foot = (
        f"\nOf {len(toys)} toys, {len(toys) - len(unlike)} have every visual fact and every contradiction right in the "
        f"description; of {len(spoken)} answers in free text {sum(map(is_true, spoken))} are right."
    )
    text = "\n".join([*head, *numbered, foot])
    args.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


@dataclass(frozen=True, slots=True)
class Reply:
    """What was asked, answered, and true."""

    question: str
    text: str
    aspect: str
    truth: str


def answered(shop: srec.ToyShop, lm: Any) -> dict[str, list[Reply]]:
    """By item id, the answers in free text to one question an aspect."""
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        asked = questions(shop.data.items.values())
        found, _ = answers(asked, "open", lm=lm, store=store, label="", workers=16, progress=None)
    replies: dict[str, list[Reply]] = {}
    for one in found:
        asked_of = one.question
        truth = getattr(shop.truth.toys[asked_of.item_id].look, asked_of.aspect)
        replies.setdefault(asked_of.item_id, []).append(Reply(asked_of.text, one.text, asked_of.aspect, truth))
    return replies


def is_true(reply: Reply) -> bool:
    """Whether an answer names the true value, and no other."""
    return named(reply.text, reply.aspect) == {reply.truth}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:")
    parser.add_argument("--items", type=int, default=60)
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


def line(item: srec.Item, toy: Toy, said: srec.ItemDescription, replies: list[Reply]) -> str:
    """One row of the table after its number."""
    truth = f"{toy.look.pattern} {toy.look.colour} {toy.look.category}"
    truth += "".join(f"; the text wrongly says {toy.says[aspect]}" for aspect in toy.contradictions)
    text = f"**{item.title}** {item.attributes.get('description', '')}"
    spoken = "<br>".join(f"{cell(one.question)} *{cell(one.text)}*{'' if is_true(one) else ' ✗'}" for one in replies)
    return f"| {cell(text)} | {'' if right(toy, said) else '✗ '}{cell(said.text)} | {spoken} | {cell(truth)} |"


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
