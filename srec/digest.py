"""One name for everything that goes into a result: the key under which the store keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256

from srec.errors import InputError


def digest(*parts: object) -> str:
    """SHA-256 of `parts`, 64 hex digits; equal for equal parts in every process and on every machine.

    Parts are None, booleans, numbers, strings, bytes, and dataclasses, mappings, lists and tuples of them. The order of
    a mapping counts, because it is the order in which a prompt shows it. A list equals a tuple; 1, 1.0, True and "1"
    differ; dataclasses differ by the name of their class. An image counts by its bytes. Raises `InputError` on any
    other type, so that nothing enters by an address or a set's order.

    >>> digest("fusion", {"colour": "teal"}) == digest("fusion", {"colour": "teal"})
    True
    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    return sha256(json.dumps(_plain(parts), separators=(",", ":")).encode("ascii")).hexdigest()


def _plain(part: object) -> object:
    """`part` as JSON. Every JSON object made here is a tag, so no two different parts look the same."""
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, bytes):
        return {"bytes": sha256(part).hexdigest()}
    if isinstance(part, list | tuple):
        return [_plain(member) for member in part]
    if isinstance(part, Mapping):
        return {"mapping": [[_plain(key), _plain(value)] for key, value in part.items()]}
    if is_dataclass(part) and not isinstance(part, type):
        return {"class": type(part).__name__, "fields": {f.name: _plain(getattr(part, f.name)) for f in fields(part)}}
    raise InputError(
        f"a digest cannot be made of a {type(part).__name__}; give text, numbers, bytes, dataclasses, or lists, tuples "
        "and mappings of them (sort a set first)"
    )
