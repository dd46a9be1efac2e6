"""Cards: what is told of a thing beside it, as TOML that people and programs read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from srec.errors import InputError


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a mapping as TOML, whole or not at all; a None is left out of its table, at any depth.

    Values are text, numbers, booleans, dates, tables, and lists of these; others raise TypeError, a None in a list too,
    since the places after it would move.
    """
    write_text(path, tomli_w.dumps(_told(card)))


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


def _told(value: Any) -> Any:
    """A value without the None in its tables."""
    if isinstance(value, Mapping):
        return {key: _told(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_told(inner) for inner in value]
    return value
