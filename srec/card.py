"""Cards: what is told of a thing beside it, as TOML that people and programs read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from srec.errors import InputError


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a mapping as TOML, whole or not at all; raises what `card_text` raises."""
    write_text(path, card_text(card))


def card_text(card: Mapping[str, Any]) -> str:
    """A mapping as TOML; a None is left out of its table, at any depth.

    Raises:
        InputError: a value is none of text, numbers, booleans, dates, tables, and lists of these; a None in a list is
            none either, since the places after it would move.
    """
    return tomli_w.dumps(_told(card, at=""))


def read_card(path: Path) -> dict[str, Any]:
    """A card as a mapping; raises InputError if there is none that can be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it, or make what it describes anew") from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _told(value: Any, *, at: str) -> Any:
    """A value without the None in its tables; `at` is its key in the card, as in `dev[0].auc`."""
    if isinstance(value, Mapping):
        return {_key(key, at): _told(one, at=_inside(at, key)) for key, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_told(one, at=f"{at}[{number}]") for number, one in enumerate(value)]
    try:
        tomli_w.dumps({at: value}).encode()
    except (TypeError, ValueError) as error:
        raise _untold(at, error) from error
    return value


def _key(key: Any, at: str) -> str:
    if not isinstance(key, str):
        raise _untold(_inside(at, key), "a key is no text")
    return key


def _inside(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)


def _untold(at: str, reason: object) -> InputError:
    return InputError(
        f"a card cannot hold {at!r} ({reason}); TOML has text, numbers, booleans, dates, tables and lists of these: "
        "make it one of them, or leave it out"
    )
