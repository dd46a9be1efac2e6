"""Digests: equal for equal inputs everywhere, different for whatever could change a prompt."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srec.digest import digest
from srec.errors import InputError
from srec.types import Image, Item

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def picture(data: bytes) -> Image:
    return Image(data=data, width=1, height=1)


def test_an_item_has_the_same_digest_in_every_process():
    code = (
        "from srec.digest import digest; from srec.types import Image, Item;"
        "print(digest('fusion', Item(item_id='1', title='Teal mug', attributes={'b': '2', 'a': '1'},"
        " image=Image(data=b'jpeg', width=1, height=1)), 1, 2.5, None, (True, 'x')))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert digests == {"57aabccec3448d1eb6b258de174742201078480d894847892557aedd7c6c7bf0"}, (
        "a changed digest makes every store that exists useless"
    )


@given(one=PLAIN, other=PLAIN)
def test_different_parts_have_different_digests(one, other):
    assert (digest(one) == digest(other)) == (shape(one) == shape(other))


def shape(part):
    """What the digest promises to tell apart: type, value and order."""
    if isinstance(part, list):
        return ("list", [shape(member) for member in part])
    if isinstance(part, dict):
        return ("dict", [(key, shape(value)) for key, value in part.items()])
    return (type(part).__name__, repr(part))


def test_a_text_moved_from_one_part_to_the_next_changes_the_digest():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "b") != digest(("a", "b"))


def test_one_byte_of_an_image_changes_the_digest_of_its_item():
    assert digest(Item(item_id="1", image=picture(b"jpeg"))) != digest(Item(item_id="1", image=picture(b"jpeh")))
    assert digest(Item(item_id="1", image=picture(b"jpeg"))) != digest(Item(item_id="1"))


def test_the_order_of_attributes_changes_the_digest_because_it_changes_the_prompt():
    one = Item(item_id="1", attributes={"colour": "teal", "size": "L"})
    other = Item(item_id="1", attributes={"size": "L", "colour": "teal"})

    assert digest(one) != digest(other)


def test_a_mapping_cannot_pass_for_bytes_or_for_a_dataclass():
    @dataclass
    class Mug:
        colour: str

    assert digest(Mug(colour="teal")) != digest({"class": "Mug", "fields": {"colour": "teal"}})
    assert digest(b"") != digest({"bytes": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"})


@pytest.mark.parametrize("part", [{"a", "b"}, object(), Item, [1, {2}], {"k": object()}])
def test_a_part_without_a_stable_form_is_refused(part):
    with pytest.raises(InputError, match="cannot be made of a"):
        digest("fusion", part)


def test_half_of_a_surrogate_pair_has_a_digest():
    assert digest("\ud83d") != digest("\ude00")
