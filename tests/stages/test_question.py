import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srec.digest import digest
from srec.errors import InputError
from srec.stages.question import Question, mentioned

COLOURS = {"red": ("red", "scarlet"), "blue": ("blue",), "dark blue": ("dark blue", "navy")}


def test_values_in_a_list_and_in_a_mapping_without_words_ask_the_same():
    listed = Question("colour", "Which?", choices=["red", "blue"])
    assert listed == Question("colour", "Which?", choices={"red": [], "blue": ["blue"]})
    assert listed.forms == {"red": ("red",), "blue": ("blue",)}


def test_a_question_can_be_copied_and_counts_in_a_key():
    question = Question("colour", "Which?", choices=COLOURS, of="both")
    assert copy.deepcopy(question) == question
    assert digest(question) != digest(Question("colour", "Which?", choices=dict(reversed(COLOURS.items())), of="both"))


@pytest.mark.parametrize("choices", ["red", {"red": "scarlet"}, ["red", " "], {"red": ["\x00"]}, {"": ["red"]}, ["##"]])
def test_choices_that_are_no_lists_of_words_are_refused(choices):
    with pytest.raises(InputError, match="question of 'colour': choices must be a list of values"):
        Question("colour", "Which?", choices=choices)


@pytest.mark.parametrize("of", ["text", "both"])
def test_a_text_is_asked_no_open_question(of):
    with pytest.raises(InputError, match="closed questions only; give it choices"):
        Question("colour", "Which?", of=of)


def test_an_unknown_place_to_look_is_refused():
    with pytest.raises(InputError, match="of='image' is not known; give one of: picture, text, both"):
        Question("colour", "Which?", of="image")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A SCARLET car.", ("red",)),
        ("a red-brown car", ("red",)),
        ("a covered, bored, blueish redder car", ()),
        ("a dark blue car", ("dark blue",)),
        ("a dark\n blue car", ("dark blue",)),
        ("a dark blue car, blue inside", ("blue", "dark blue")),
        ("navy and red", ("red", "dark blue")),
        ("not red at all", ("red",)),
        ("", ()),
    ],
)
def test_a_value_is_mentioned_by_whole_words_and_the_longest_of_them(text, values):
    assert mentioned([text], COLOURS) == values


def test_a_form_does_not_reach_from_one_text_into_the_next():
    assert mentioned(["dark", "blue"], COLOURS) == ("blue",)


def test_a_form_of_two_values_mentions_both():
    assert mentioned(["mixed"], {"a": ("mixed",), "b": ("mixed",), "c": ("c",)}) == ("a", "b")


@pytest.mark.parametrize("form", ["c++", "(red)", ".*", "a|b", "\\d", "[x", "^", "café", "STRASSE", "İ"])
def test_a_form_is_text_and_never_a_pattern(form):
    assert mentioned([f"it is {form}, they say"], {"it": (form,)}) == ("it",)
    assert mentioned(["anything 7 else"], {"it": (form,)}) == ()


def test_forms_are_the_same_however_their_letters_are_put_together():
    assert mentioned(["cafe\u0301"], {"coffee": ("CAFÉ",)}) == ("coffee",)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A red car. It comes in a blue Box!", ("red",)),
        ("Is it red? The box is blue", ("red",)),
        ("A blue box.", ()),
        ("A blue boxer.", ("blue",)),
    ],
)
def test_a_sentence_about_what_comes_with_the_item_is_passed_over(text, values):
    assert mentioned([text], COLOURS, beside=["box", "gift wrapping"]) == values


@pytest.mark.parametrize("beside", ["box", ["box", " "]])
def test_words_beside_the_item_that_are_no_list_are_refused(beside):
    with pytest.raises(InputError, match="beside must be a list of words"):
        Question("colour", "Which?", beside=beside)


@given(st.text(), st.dictionaries(st.text(min_size=1), st.lists(st.text(min_size=1)), min_size=1))
def test_only_values_of_the_question_are_ever_mentioned(text, choices):
    try:
        question = Question("aspect", "Which?", choices=choices)
    except InputError:
        return
    assert set(mentioned([text], question.forms)) <= choices.keys()
