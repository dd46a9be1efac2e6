"""What is asked about toys: by the stage that describes them, and by tests, in words that no training set has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from srec.data.toyshop import CHOICES
from srec.stages.question import Asked, Question

HELD_OUT_QUESTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "category": (
            "Name the kind of toy that is for sale here.",
            "Which sort of plaything do you recognise?",
            "Looking at the product photo, what would you call this object?",
            "A customer asks what this toy depicts. What do you reply?",
            "Identify the toy.",
            "If you had to sort this toy into a shelf, which type would it be?",
            "What has been photographed for the shop: which toy?",
            "Give the one word that says what the toy is.",
        ),
        "colour": (
            "Tell me the colour of this toy.",
            "What is the main colour of the article on sale?",
            "If you painted a copy of this toy, which colour would you buy?",
            "The product comes in one colour. Which?",
            "Name the hue of the toy's body.",
            "In what colour did the maker finish it?",
            "A customer wants to know its colour. What do you reply?",
            "Say in one word how the toy is coloured.",
        ),
        "pattern": (
            "Name the pattern of the product.",
            "Tell me how the surface of this toy is decorated.",
            "What sort of print does the article wear?",
            "If you described the toy's design to a tailor, which pattern would you name?",
            "Which decoration covers the body of the plaything?",
            "A customer asks about its pattern. What do you reply?",
            "How is the toy patterned?",
            "Say in one word what is printed on the toy.",
        ),
    }
)
"""By aspect, wordings that no training set of this project has."""

TOY_QUESTIONS: Mapping[str, tuple[str, Asked]] = MappingProxyType(
    {
        "category": ("What kind of item is it?", "both"),
        "colour": ("Which colour does the item have?", "both"),
        "pattern": ("Which pattern does the item have?", "both"),
        "material": ("What is the item made of?", "text"),
        "price": ("Which price tier is the item of?", "text"),
        "brand": ("Which brand is the item of?", "text"),
    }
)
"""By aspect, the question and what is asked."""
PACKAGING = ("box", "carton", "packaging", "package", "parcel", "bag", "wrapping", "paper", "ribbon")
"""Words of sentences that speak of what a toy comes in."""


def toy_questions() -> tuple[Question, ...]:
    """The closed questions by which `srec.ItemFusion` learns everything that is true of a toy."""
    return tuple(
        Question(aspect, text, choices=CHOICES[aspect], of=asked, beside=PACKAGING)
        for aspect, (text, asked) in TOY_QUESTIONS.items()
    )
