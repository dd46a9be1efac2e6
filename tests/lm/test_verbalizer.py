import pytest

from srec.errors import VerbalizerError
from srec.lm.verbalizer import answer_token_ids


def by_pieces(*pieces):
    """A tokenizer that takes the first of `pieces` that fits; ids are positions in `pieces`."""

    def encode(text):
        ids = []
        while text:
            piece = next(p for p in pieces if text.startswith(p))
            ids.append(pieces.index(piece))
            text = text[len(piece) :]
        return ids

    return encode


def test_the_first_token_after_the_template_is_found():
    encode = by_pieces("<user>?<assistant>\n", "Yes", "No", ".")
    assert answer_token_ids(lambda: "<user>?<assistant>\n", encode) == (1, 2)


def test_an_answer_that_melts_into_the_template_is_refused():
    encode = by_pieces("\nYes", "\n", "<a>", "Yes", "No", ".")
    with pytest.raises(VerbalizerError, match=r"'Yes\.' melts into the chat template"):
        answer_token_ids(lambda: "<a>\n", encode)


def test_answers_with_the_same_first_token_are_refused():
    encode = by_pieces("<a>", "▁", "Yes", "No", ".")
    with pytest.raises(VerbalizerError, match="share their first token"):
        answer_token_ids(lambda: "<a>", lambda text: encode(text.replace("Yes", "▁Yes").replace("No", "▁No")))


def test_an_answer_that_adds_no_token_is_refused():
    with pytest.raises(VerbalizerError, match="melts"):
        answer_token_ids(lambda: "<a>", lambda text: [1])
