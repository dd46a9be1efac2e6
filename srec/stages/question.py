"""What is asked of an item, and which of a question's values a text mentions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from srec.errors import InputError
from srec.text import clean

Asked = Literal["picture", "text", "both"]
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask of every item, and the aspect of the item that the answer is about.

    Attributes:
        choices: The values to choose among, or each value with the word forms by which texts say it; none for an open
            question. Kept as a mapping in which a value is its own first form. The picture's answer is always one of
            the values: list "not visible" among them where the picture may not show the aspect.
        of: What is asked. A text can be asked closed questions only: it says a value if a form of it occurs there.
        beside: Words for what comes with the item and is not it (`box`, `wrapping`); a sentence of the text that has
            one is not read for this question.

    Example:
        >>> from srec import Question
        >>> Question("material", "What is it made of?", choices={"wood": ["wooden"], "tin": []}, of="text").choices
        {'wood': ('wood', 'wooden'), 'tin': ('tin',)}
    """

    aspect: str
    text: str
    _: KW_ONLY
    choices: Mapping[str, Sequence[str]] | Sequence[str] = ()
    of: Asked = "picture"
    beside: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.of not in get_args(Asked):
            raise InputError(
                f"question of {self.aspect!r}: of={self.of!r} is not known; give one of: {', '.join(get_args(Asked))}"
            )
        if self.of != "picture" and not self.choices:
            raise InputError(f"question of {self.aspect!r}: a text is asked closed questions only; give it choices")
        if isinstance(self.beside, str) or not all(clean(word) for word in self.beside):
            raise InputError(f"question of {self.aspect!r}: beside must be a list of words; got {self.beside!r}")
        object.__setattr__(self, "choices", _forms(self.aspect, self.choices))
        object.__setattr__(self, "beside", tuple(self.beside))

    @property
    def forms(self) -> Mapping[str, Sequence[str]]:
        """Each value with its word forms; empty for an open question."""
        assert isinstance(self.choices, Mapping)
        return self.choices


def mentioned(
    texts: Iterable[str], forms: Mapping[str, Sequence[str]], *, beside: Sequence[str] = ()
) -> tuple[str, ...]:
    """The values of which a word form occurs in one of `texts`, in the order of `forms`.

    Forms are whole words in any case; where two overlap the longer one counts, so "dark blue" does not mention blue. A
    form of two values mentions both. Sentences with a word of `beside` are passed over. Negations are not resolved:
    "not of wood" mentions wood.

    >>> from srec.stages.question import mentioned
    >>> mentioned(["A Wooden car. In a tin box."], {"tin": ["tin"], "wood": ["wood", "wooden"]}, beside=["box"])
    ('wood',)
    """
    said_by: dict[str, list[str]] = {}
    for value, words in forms.items():
        for form in words:
            said_by.setdefault(_plain(form), []).append(value)
    pattern, apart = _any_of(said_by), _any_of(map(_plain, beside))
    sentences = [sentence for text in texts for sentence in SENTENCE_END.split(_plain(text))]
    read = [sentence for sentence in sentences if not (beside and apart.search(sentence))]
    said = {value for sentence in read for form in pattern.findall(sentence) for value in said_by[form]}
    return tuple(value for value in forms if value in said)


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Any of the words as a whole, the longest first."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _forms(aspect: str, choices: Mapping[str, Sequence[str]] | Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each value with its word forms, itself the first."""
    given = choices if isinstance(choices, Mapping) else {} if isinstance(choices, str) else dict.fromkeys(choices, ())
    listed = not isinstance(choices, str) and not any(isinstance(words, str) for words in given.values())
    forms = {value: tuple(dict.fromkeys([value, *words])) for value, words in given.items()}
    if not listed or not all(clean(form) for words in forms.values() for form in words):
        raise InputError(
            f"question of {aspect!r}: choices must be a list of values, or a mapping of values to lists of word forms, "
            f"none of them blank; got {choices!r}"
        )
    return forms


def _plain(text: str) -> str:
    return clean(text).casefold()
