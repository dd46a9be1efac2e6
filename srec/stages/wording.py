"""Types outside, strings inside: how items, events, summaries and profiles read in a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from srec.text import clean
from srec.types import Event, Fact, Item, ItemDescription, PreferenceSummary, UserProfile

SHORT_VALUE_CHARS = 60
SHORT_VALUES = 5
SENTENCE_WORDS = 3  # `Warner Bros.` has fewer
BOOKKEEPING = ("_id", "_url", "_source", "_path")
"""Columns that end so are a catalogue's bookkeeping, not traits of the item."""

UNITS = (
    ("year", 31_557_600),
    ("month", 2_629_800),
    ("week", 604_800),
    ("day", 86_400),
    ("hour", 3_600),
    ("minute", 60),
)


def attribute_lines(item: Item, *, only: Sequence[str] | None = None) -> list[str]:
    """`genres: Adventure, Animation`, one line an attribute; all but bookkeeping, or those named in `only`."""
    return [f"{name}: {', '.join(parts(value))}" for name, value in chosen_attributes(item, only=only).items()]


def chosen_attributes(item: Item, *, only: Sequence[str] | None = None) -> dict[str, str]:
    """The attributes that a prompt shows, in the catalogue's order or that of `only`."""
    if only is not None:
        return {name: item.attributes[name] for name in only if item.attributes.get(name)}
    return {name: value for name, value in item.attributes.items() if value and not name.endswith(BOOKKEEPING)}


def parts(value: str) -> list[str]:
    """The parts of an attribute's value: `Adventure|Animation` has two."""
    return [part.strip() for part in value.split("|") if part.strip()]


def is_trait(value: str) -> bool:
    """Whether an attribute's value is short and not a sentence: free text may speak of anything."""
    is_sentence = value.endswith((".", "!", "?")) and len(value.split()) >= SENTENCE_WORDS
    return len(value) <= SHORT_VALUE_CHARS and not is_sentence


def headline(item: Item, *, only: Sequence[str] | None = None) -> str:
    """Title and short attributes: `Toy Story (1995; Adventure, Animation)`. This is all that is sure of an item."""
    values = (", ".join(parts(value)[:4]) for value in chosen_attributes(item, only=only).values())
    short = [value for value in values if is_trait(value)][:SHORT_VALUES]
    name = clean(item.title) or "an item without a title"
    return f"{name} ({'; '.join(short)})" if short else name


def composed(begin: str, facts: Sequence[Fact], contradictions: Mapping[str, str]) -> str:
    """A description of facts alone, after `begin`; each contradicted aspect stands in its contradiction only.

    `Toy. Picture and text agree on: category car. The picture shows: colour red.`
    """
    named = (("both", "Picture and text agree on"), ("image", "The picture shows"), ("text", "The text says"))
    sentences = [begin]
    for source, opening in named:
        of_source = [fact for fact in facts if fact.source == source and fact.aspect not in contradictions]
        if of_source:
            sentences.append(f"{opening}: {', '.join(f'{fact.aspect} {fact.value}' for fact in of_source)}")
    sentences += [f"Picture and text disagree on {contradiction}" for contradiction in contradictions.values()]
    return f"{'. '.join(sentences)}."


def listed(facts: Sequence[Fact], contradictions: Mapping[str, str]) -> str:
    """Facts alone, the shortest description; a contradicted aspect stands in its contradiction only.

    `category car, material tin. Picture and text disagree on colour: the picture shows red, the text says blue.`
    """
    plain = ", ".join(f"{fact.aspect} {fact.value}" for fact in facts if fact.aspect not in contradictions)
    differ = [f"Picture and text disagree on {contradiction}" for contradiction in contradictions.values()]
    return "".join(f"{sentence}. " for sentence in (plain, *differ) if sentence).strip()


def described(item: Item, descriptions: Mapping[str, ItemDescription]) -> str:
    """The item's description where there is one, else its headline."""
    known = descriptions.get(item.item_id)
    return known.text if known is not None and known.text else headline(item)


def event_lines(events: Sequence[Event], descriptions: Mapping[str, ItemDescription]) -> list[str]:
    """One line an event, oldest first: how long after the one before, the rating, the item."""
    lines, before = [], None
    for event in events:
        when = "first" if before is None else gap(event.at - before)
        rated = f", rated {event.rating:g}" if event.rating is not None else ""
        lines.append(f"{when}{rated}: {described(event.item, descriptions)}")
        before = event.at
    return lines


def gap(seconds: int) -> str:
    """`3 days later`, in the largest unit that fits once."""
    for unit, length in UNITS:
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} later"
    return "at once"


def phrases(said: Sequence[str]) -> tuple[str, ...]:
    """What an LM listed, cleaned, without blanks and repetitions."""
    return tuple(dict.fromkeys(phrase for entry in said if (phrase := clean(entry).strip(" .,;"))))


def preference_text(summary: PreferenceSummary) -> str:
    """A summary as one paragraph."""
    named = (("Stable", summary.stable), ("Rising", summary.rising), ("Fading", summary.fading))
    return " ".join([summary.text, *(f"{word}: {', '.join(tastes)}." for word, tastes in named if tastes)])


def profile_text(profile: UserProfile) -> str:
    """A profile as one paragraph."""
    return f"{profile.text} Lasting tastes: {', '.join(profile.traits)}." if profile.traits else profile.text
