"""The questions that srec-tiny learns from: many wordings, four prompts, and the answers that are true.

The wordings by which srec-tiny is tested stand in `srec.evaluation.questions` and must not be among these; a test
compares the two.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dspy
from pictures import FACTS

from srec.lm.adapters import ScoreAdapter, StructuredAdapter
from srec.stages.signatures import AnswerVisualQuestion, VerifyFact

NOUNS = ("product", "toy", "item", "object", "article", "piece", "thing on sale")
NAMES: dict[str, tuple[str, ...]] = {
    "category": ("kind", "type", "sort", "kind of toy", "type of toy", "category", "class of toy", "product type"),
    "colour": ("colour", "color", "main colour", "shade", "tint", "tone", "basic colour", "body colour"),
    "pattern": ("pattern", "surface pattern", "motif", "design", "print", "ornament", "texture", "decoration"),
}
"""Other words for the aspects, for the frames below."""
FRAMES = (
    "What {name} does the {noun} have?",
    "Which {name} does this {noun} have?",
    "What is the {name} of the {noun}?",
    "What would you say is the {name} of this {noun}?",
    "State the {name} of the {noun}.",
    "Report the {name}.",
    "Please specify the {name} of this {noun}.",
    "Write down the {name} of the {noun}.",
    "I would like to know the {name} of this {noun}.",
    "Can you see the {name} of the {noun}? Which is it?",
    "Which word says the {name} of the {noun}?",
    "What word describes the {name} best?",
    "Complete the form. {name}:",
    "The {name} of the {noun} is",
    "{name} of the {noun}:",
    "For the label we need the {name}. What is it?",
    "If I order the same {noun}, which {name} should I ask for?",
    "How would you describe the {name} of the {noun}?",
    "Look at the {noun} and say its {name}.",
    "Its {name}, please.",
    "What can you say about the {name} of the {noun}?",
    "My catalogue lacks the {name} of this {noun}. What should stand there?",
    "Two people argue about the {name} of the {noun}. Who says what is right?",
    "Judging by the picture, what is its {name}?",
    "Guess the {name} of this {noun}.",
    "Let us fill in the {name}. What is it here?",
    "Somebody cannot see the picture and wonders about the {name}. Help.",
    "Choose the right word for the {name} of the {noun}.",
)
WORDINGS: dict[str, tuple[str, ...]] = {
    "category": (
        "What kind of {noun} is this?",
        "What is this {noun}?",
        "What is shown here?",
        "Which kind of {noun} is it?",
        "What kind of {noun} is it?",
        "What kind of item is it?",
        "What type of {noun} is in the picture?",
        "What is the {noun} in the image?",
        "Which toy is this?",
        "What does the picture show?",
        "Tell what kind of {noun} it is.",
        "Say what this {noun} is.",
        "What do we have here?",
        "What would you call this {noun}?",
        "What is it that somebody can buy here?",
        "What does this {noun} represent?",
        "What is the {noun} modelled on?",
        "What do you see?",
        "A child would call this {noun} a",
        "What is it?",
        "Under which word would I search for this {noun}?",
        "This is a toy in the shape of what?",
        "What has the maker built?",
        "The {noun} is a what?",
        "What category does the {noun} belong to?",
        "Give the kind of the {noun}.",
        "What can be seen in this photo?",
    ),
    "colour": (
        "What colour is the {noun}?",
        "What color is this {noun}?",
        "Which colour is it?",
        "Which colour does the {noun} have?",
        "Which colour does the item have?",
        "Which colours does the {noun} have?",
        "What is the colour of the {noun}?",
        "What is the main color of this {noun}?",
        "Say the colour of the {noun}.",
        "The {noun} is of what colour?",
        "In which colour is the {noun} painted?",
        "Give the color of the {noun}.",
        "How is the {noun} coloured?",
        "Which pot of paint was used for the {noun}?",
        "Is the {noun} red, blue, green or something else?",
        "Which colour would match this {noun}?",
        "Which crayon would a child need to draw this {noun}?",
        "The {noun} is painted",
        "What colour do you see on the {noun}?",
        "Say which colour it has.",
        "The colour of the {noun}?",
        "Which shade does the {noun} have?",
    ),
    "pattern": (
        "What pattern does the {noun} have?",
        "Which pattern does it have?",
        "Which pattern does the item have?",
        "Which pattern or texture does the {noun} have?",
        "Which pattern is on the {noun}?",
        "What is the pattern of the {noun}?",
        "What kind of pattern is on this {noun}?",
        "Say the pattern of the {noun}.",
        "The {noun} has which pattern?",
        "Give the pattern on the {noun}.",
        "What does the surface of the {noun} look like?",
        "Is the {noun} plain, striped, or something else?",
        "What is drawn on the {noun}?",
        "What runs over the {noun}: stripes, dots, squares, zigzags or nothing?",
        "Which pattern would the cloth of this {noun} have?",
        "What is painted on its surface?",
        "Say which pattern it has.",
        "Which design covers the {noun}?",
        "The pattern?",
        "What pattern do you see on the {noun}?",
        "How is the surface of the {noun} made up?",
    ),
    "whole": (
        "Describe the {noun}.",
        "Describe this {noun} in a few words.",
        "Describe the picture.",
        "Give pattern, colour and kind of the {noun}.",
        "What is it, and what does it look like?",
        "Caption this picture.",
        "What is in the picture, with pattern and colour?",
        "Write a short caption.",
        "Give a brief description of the {noun}.",
    ),
}
CHECKS = (
    "Is the {aspect} of the {noun} {value}?",
    "Is {value} the {aspect} of the {noun}?",
    "Does the {noun} have the {aspect} {value}?",
    "The {aspect} is {value}. Is that right?",
    "Would you say that its {aspect} is {value}?",
    "Its {aspect} is {value}, yes or no?",
    "Can the {aspect} of this {noun} be called {value}?",
    "Check this: the {noun} has the {aspect} {value}. Correct?",
)
LEADS = (
    *("",) * 8,
    "Please help: ",
    "Look closely. ",
    "I am looking at a photo of one {noun}. ",
    "For our catalogue: ",
    "Quick question about the {noun}. ",
    "Ignore the background. ",
    "Somebody wrote to us. ",
)
ENDS = (
    *("",) * 4,
    " Answer with one word.",
    " Answer briefly.",
    " One word, please.",
    " Be short.",
    " No more than a word or two.",
    " Just the answer.",
)
KEPT = 3  # wordings of each list that are kept for trials
PICTURE = dspy.Image("data:image/png;base64,iVBORw0KGgo=")  # stands where the picture comes; never decoded


@dataclass(frozen=True, slots=True)
class Example:
    """One chat about a picture: OpenAI-style messages, what to answer, and what stands before the learnt answer."""

    messages: tuple[Mapping[str, Any], ...]
    opening: str
    answer: str
    closing: str = ""


def truth(facts: Sequence[int]) -> dict[str, str]:
    """The values by aspect, of their places in `FACTS`; `whole` is all of them."""
    told = {aspect: values[place] for (aspect, values), place in zip(FACTS.items(), facts, strict=True)}
    article = "an" if told["pattern"][0] in "aeiou" else "a"
    return {**told, "whole": f"{article} {told['pattern']} {told['colour']} {told['category']}"}


def examples(
    facts: Sequence[int], *, prompt: str, count: int, rng: random.Random, wide: bool = True, trial: bool = False
) -> list[Example]:
    """`count` examples about one picture, all under one of `PROMPTS`; on `trial` in wordings kept from practice."""
    told, ask = truth(facts), Wordings(rng, wide=wide, trial=trial)
    aspects = itertools.islice(itertools.cycle(rng.sample(sorted(FACTS), len(FACTS))), count)
    return [_MAKERS[prompt](told, aspect, ask) for aspect in aspects]


class Wordings:
    """Draws wordings for practice; on `trial`, the last `KEPT` of each list, which practice never draws.

    Half of the `wide` questions about an aspect are frames, with one of its many names.
    """

    def __init__(self, rng: random.Random, *, wide: bool, trial: bool) -> None:
        self.rng, self._wide = rng, wide
        self._part = slice(-KEPT, None) if trial else slice(None, -KEPT)

    def chance(self, share: float) -> bool:
        """Whether something of this share happens."""
        return self.rng.random() < share

    def question(self, aspect: str) -> str:
        """A question about an aspect, or about the whole."""
        framed = self._wide and aspect in NAMES and self.chance(0.5)
        wording = self.rng.choice((FRAMES if framed else WORDINGS[aspect])[self._part])
        name = self.rng.choice(NAMES[aspect]) if framed else ""
        return (self.rng.choice(LEADS) + wording).format(noun=self.rng.choice(NOUNS), name=name)

    def check(self, told: Mapping[str, str], aspect: str) -> tuple[str, str]:
        """A yes-no question and its answer, as often right as wrong; half of them in the words that the stage uses."""
        right = self.chance(0.5)
        value = told[aspect] if right else self.rng.choice([v for v in FACTS[aspect] if v != told[aspect]])
        wording, noun = CHECKS[0], "item"
        if self.chance(0.5):
            wording, noun = self.rng.choice(CHECKS[1:][self._part]), self.rng.choice(NOUNS)
        return wording.format(aspect=aspect, value=value, noun=noun), "Yes." if right else "No."


def plain(told: Mapping[str, str], aspect: str, ask: Wordings, *, system: str = "") -> Example:
    """What a user would write: the picture and a question, now and then with the choices or as a yes-no question."""
    if ask.chance(0.15):
        question, answer = ask.question("whole"), told["whole"]
    elif ask.chance(0.15):
        question, answer = ask.check(told, aspect)
    elif ask.chance(0.15):
        values = ask.rng.sample(FACTS[aspect], len(FACTS[aspect]))
        question, answer = f"{ask.question(aspect)} Choose from: {', '.join(values)}.", told[aspect]
    else:
        question, answer = ask.question(aspect) + ask.rng.choice(ENDS), told[aspect]
    content = [{"type": "image"}, {"type": "text", "text": ask.rng.choice(("", "\n", " ")) + question}]
    before = [{"role": "system", "content": system}] if system else []
    return Example(messages=(*before, {"role": "user", "content": content}), opening="", answer=answer)


def closed(told: Mapping[str, str], aspect: str, ask: Wordings) -> Example:
    """The stage's question with its choices, in the order of the facts or in any other."""
    values = list(FACTS[aspect])
    if ask.chance(0.5):
        ask.rng.shuffle(values)
    return _structured(ask.question(aspect), ", ".join(values), told[aspect])


def opened(told: Mapping[str, str], aspect: str, ask: Wordings) -> Example:
    """The stage's question without choices."""
    return _structured(ask.question(aspect), "", told[aspect])


def check(told: Mapping[str, str], aspect: str, ask: Wordings) -> Example:
    """The stage's question whether the picture shows what the text says."""
    question, answer = ask.check(told, aspect)
    inputs = {"picture": PICTURE, "question": question}
    rows = ScoreAdapter().format_finetune_data(VerifyFact, [], inputs, {"answer": answer})["messages"]
    return Example(messages=tuple(rows[:-1]), opening="", answer=answer)


def _structured(question: str, choices: str, answer: str) -> Example:
    inputs = {"picture": PICTURE, "question": question, "choices": choices}
    rows = StructuredAdapter().format_finetune_data(AnswerVisualQuestion, [], inputs, {"answer": answer})["messages"]
    before, after = rows[-1]["content"].split(answer)
    return Example(messages=tuple(rows[:-1]), opening=before, answer=answer, closing=after)


_MAKERS: Mapping[str, Callable[[Mapping[str, str], str, Wordings], Example]] = {
    "plain": plain,
    "plain, short": partial(plain, system="Answer the question about the picture."),
    "plain, shop": partial(plain, system="You are a helpful shopping assistant. Answer with one word."),
    "closed": closed,
    "open": opened,
    "check": check,
}
PROMPTS = {"plain": 4.0, "plain, short": 1.0, "plain, shop": 1.0, "closed": 2.0, "open": 0.5, "check": 2.5}
"""The prompts, and how often each is practised."""
