import pytest
from hypothesis import given
from hypothesis import strategies as st

from srec.stages.wording import (
    attribute_lines,
    composed,
    described,
    event_lines,
    gap,
    headline,
    phrases,
    preference_text,
    profile_text,
)
from srec.types import Event, Fact, Item, ItemDescription, PreferenceSummary, UserProfile


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "at once"),
        (59, "at once"),
        (60, "1 minute later"),
        (7_199, "1 hour later"),
        (86_400, "1 day later"),
        (3 * 86_400 + 5, "3 days later"),
        (604_800, "1 week later"),
        (60 * 86_400, "1 month later"),
        (400 * 86_400, "1 year later"),
        (10 * 31_557_600, "10 years later"),
    ],
)
def test_a_gap_is_told_in_the_largest_unit_that_fits_once(seconds, words):
    assert gap(seconds) == words


@given(st.integers(0, 10**10))
def test_every_gap_has_words(seconds):
    assert gap(seconds) == "at once" or gap(seconds).endswith(" later")


def test_a_headline_leaves_out_long_values_and_keeps_five():
    attributes = {"plot": "x" * 61, **{f"a{n}": str(n) for n in range(8)}}
    assert headline(Item(item_id="1", title="Toy", attributes=attributes)) == "Toy (0; 1; 2; 3; 4)"


def test_a_headline_leaves_out_sentences_however_short():
    item = Item(item_id="1", title="T", attributes={"text": "Tied with a pink ribbon.", "maker": "Warner Bros."})
    assert headline(item) == "T (Warner Bros.)"


def test_a_headline_shows_four_parts_of_a_value():
    assert headline(Item(item_id="1", title="Toy", attributes={"tags": "a|b|c|d|e"})) == "Toy (a, b, c, d)"


def test_an_item_without_a_title_says_so():
    assert headline(Item(item_id="1")) == "an item without a title"


def test_attributes_keep_their_order_and_lose_bookkeeping():
    item = Item(
        item_id="1", attributes={"z": "1", "image_url": "http://x", "a": "b | c ||", "asin_id": "7", "empty": ""}
    )
    assert attribute_lines(item) == ["z: 1", "a: b, c"]
    assert attribute_lines(item, only=["asin_id", "z", "unknown"]) == ["asin_id: 7", "z: 1"]


def test_an_item_with_an_empty_description_is_shown_by_its_headline():
    item = Item(item_id="1", title="Toy")
    assert described(item, {"1": ItemDescription(item_id="1", text="")}) == "Toy"
    assert described(item, {"1": ItemDescription(item_id="1", text="A toy.")}) == "A toy."


def test_events_are_told_oldest_first_with_gap_and_rating():
    toy = Item(item_id="1", title="Toy")
    events = [Event(item=toy, at=0, rating=4.0), Event(item=toy, at=0, rating=3.5), Event(item=toy, at=90_000)]
    assert event_lines(events, {}) == ["first, rated 4: Toy", "at once, rated 3.5: Toy", "1 day later: Toy"]


def test_phrases_lose_blanks_repetitions_and_stops():
    assert phrases(["crime.", " crime ", "", "###", "a\nb;"]) == ("crime", "a b")


def test_a_summary_and_a_profile_read_as_one_paragraph():
    plain = PreferenceSummary(user_id="7", text="Likes toys.", until=1, events=1)
    assert preference_text(plain) == "Likes toys."
    full = PreferenceSummary(
        user_id="7", text="Likes toys.", stable=("a", "b"), rising=("c",), fading=("d",), until=1, events=1
    )
    assert preference_text(full) == "Likes toys. Stable: a, b. Rising: c. Fading: d."
    assert profile_text(UserProfile(user_id="7", text="A child.", until=1)) == "A child."
    assert (
        profile_text(UserProfile(user_id="7", text="A child.", traits=("a", "b"), until=1))
        == "A child. Lasting tastes: a, b."
    )


def test_a_composed_description_says_each_thing_once_and_where_it_was_read():
    facts = [
        Fact(aspect="category", value="car", source="both"),
        Fact(aspect="colour", value="red", source="image"),
        Fact(aspect="pattern", value="striped", source="image"),
        Fact(aspect="colour", value="blue", source="text"),
        Fact(aspect="material", value="wood", source="text"),
    ]
    contradictions = {"colour": "colour: the picture shows red, the text says blue"}
    assert composed("Comet", facts, contradictions) == (
        "Comet. Picture and text agree on: category car. The picture shows: pattern striped. The text says: material "
        "wood. Picture and text disagree on colour: the picture shows red, the text says blue."
    )
    assert composed("Comet", [], {}) == "Comet."
