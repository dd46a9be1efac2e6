import tomllib
from datetime import UTC, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srec.card import read_card, write_card
from srec.errors import InputError, ModelError
from srec.learn.train import Lora

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    st.booleans(), st.integers(min_value=-(2**63), max_value=2**63 - 1), st.floats(allow_nan=False), TEXT
)
TABLES = st.recursive(
    st.dictionaries(TEXT, st.one_of(SCALARS, st.lists(SCALARS))),
    lambda inner: st.dictionaries(TEXT, st.one_of(SCALARS, inner, st.lists(inner, min_size=1))),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("cards") / "card.toml"


@given(card=TABLES)
def test_what_is_written_is_read(path, card):
    write_card(path, card)
    assert read_card(path) == card
    assert [file.name for file in path.parent.iterdir()] == ["card.toml"]


def test_text_numbers_and_tables_are_told_as_toml(path):
    card = {
        "text": 'a "quoted"\nline \x7f \\',
        "yes": True,
        "t": {"k @ 1": 1.5, "in": {"e": "ü"}},
        "dev": [{"step": 1}],
    }
    write_card(path, card)
    assert path.read_text("utf-8").startswith('text = "a \\"quoted\\"\\nline \\u007f \\\\"\nyes = true\n')
    assert tomllib.loads(path.read_text("utf-8")) == card


def test_none_is_left_out_at_any_depth(path):
    write_card(path, {"a": None, "t": {"b": None, "c": 1}, "dev": [{"step": 1, "auc": None}], "deep": [[{"d": None}]]})
    assert read_card(path) == {"t": {"c": 1}, "dev": [{"step": 1}], "deep": [[{}]]}


@pytest.mark.parametrize(
    "value", [{1}, b"bytes", object(), [1, None]], ids=["set", "bytes", "object", "None in a list"]
)
def test_what_toml_has_no_word_for_is_refused_and_the_card_stays(path, value):
    write_card(path, {"seed": 0})
    with pytest.raises(InputError, match=r"cannot hold 'table\.a(\[1\])?' \(.*not TOML serializable\).*leave it out"):
        write_card(path, {"table": {"a": value}})
    assert read_card(path) == {"seed": 0}


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"seed": {1: "a"}}, r"'seed\.1' \(a key is no text\)"),
        ({"rows": [{"at": time(tzinfo=UTC)}]}, r"'rows\[0\]\.at' \(TOML does not support offset times\)"),
        ({"by": "half \ud800"}, r"'by' \(.*surrogates not allowed\)"),
    ],
)
def test_what_no_file_of_toml_can_hold_is_refused_too(tmp_path, card, words):
    with pytest.raises(InputError, match=words):
        write_card(tmp_path / "card.toml", card)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damaged", [None, b"= 1", b"a = '\xff'"], ids=["missing", "not TOML", "not UTF-8"])
def test_a_card_that_cannot_be_read_is_named(tmp_path, damaged):
    if damaged is not None:
        (tmp_path / "card.toml").write_bytes(damaged)
    with pytest.raises(InputError, match=r"card\.toml cannot be read .*; restore it, or make what it describes anew"):
        read_card(tmp_path / "card.toml")


def test_a_lora_without_a_card_that_can_be_read_is_a_model_that_cannot_be_used(tmp_path):
    with pytest.raises(ModelError, match=r"card\.toml cannot be read .* anew with srec\.train"):
        Lora.read(tmp_path)
