"""Cards: what is told of a thing beside it, as TOML that people and programs read."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srec.errors import InputError

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a mapping as TOML, whole or not at all; tables may be nested, None is left out.

    Values are text, numbers, booleans, and lists of these.
    """
    write_text(path, toml(card))


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


def toml(card: Mapping[str, Any]) -> str:
    """A mapping as TOML.

    >>> print(toml({"seed": 1, "base": {"name": "a"}}), end="")
    seed = 1
    <BLANKLINE>
    [base]
    name = "a"
    """
    return "\n".join(_table((), card)).strip("\n") + "\n"


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    inner: list[str] = []
    for key, value in table.items():
        if value is None:
            continue
        here = (*path, _key(key))
        if isinstance(value, Mapping):
            inner += ["", f"[{'.'.join(here)}]", *_table(here, value)]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + inner


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)  # inf and nan are TOML's words, too
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"a card cannot hold a {type(value).__name__}")


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
