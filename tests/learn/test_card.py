import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srec.errors import ModelError
from srec.learn.card import read_card, toml, write_card

SCALARS = st.one_of(
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TABLES = st.recursive(
    st.dictionaries(KEYS, st.one_of(SCALARS, st.lists(SCALARS))),
    lambda inner: st.dictionaries(KEYS, st.one_of(SCALARS, inner, st.lists(inner, min_size=1))),
    max_leaves=10,
)


@given(TABLES)
def test_what_is_written_is_read(card):
    assert tomllib.loads(toml(card)) == card


def test_none_is_left_out_and_other_things_are_refused(tmp_path):
    assert toml({"a": None, "b": 1}) == "b = 1\n"
    with pytest.raises(TypeError, match="cannot hold a set"):
        toml({"a": {1}})
    write_card(tmp_path / "card.toml", {"seed": 0, "dev": [{"step": 1, "auc": 0.5}]})
    assert read_card(tmp_path / "card.toml") == {"seed": 0, "dev": [{"step": 1, "auc": 0.5}]}
    assert [path.name for path in tmp_path.iterdir()] == ["card.toml"]


def test_a_card_that_is_not_there_is_an_error_with_words(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_card(tmp_path / "card.toml")
