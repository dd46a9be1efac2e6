"""Text from outside, made safe to stand inside a prompt.

A catalogue's text is data. It must not be able to open a field of ours, to close a chat turn, or to smuggle in an
image by DSPy's type markers, so `clean` returns one line without any of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

DSPY_MARKERS = re.compile(r"<<CUSTOM-TYPE-(?:START|END)-IDENTIFIER>>")
FIELD_HEADERS = re.compile(r"#{2,}")  # ours (`### title`) and DSPy's (`[[ ## title ## ]]`)
CHAT_TOKENS = re.compile(
    r"<\|[^<>|\s]{1,64}\|>"  # <|im_start|>, <|eot_id|>, <|vision_start|>, <|image_pad|> ...
    r"|<｜[^<>｜\s]{1,64}｜>"  # the same with full-width bars
    r"|</?(?:s|bos|eos|pad|unk|image|video|audio|img|end_of_utterance|fake_token_around_image|global-img|start_of_turn"
    r"|end_of_turn|start_of_image|end_of_image|image_soft_token|row_\d+_col_\d+)>"
    r"|\[/?(?:INST|IMG|AVAILABLE_TOOLS|TOOL_CALLS)\]|<</?SYS>>",
    re.IGNORECASE,
)
ELLIPSIS = "…"


def clean(text: str, *, max_chars: int | None = None, special_tokens: Iterable[str] = ()) -> str:
    """One line of `text` without control characters, chat-template tokens, DSPy markers or field headers.

    `special_tokens` are those of the model in use, beside the well-known ones. Removing goes on until nothing is left
    to remove, so that no marker can be built from the halves of another. The result is at most `max_chars` long, its
    last character an ellipsis where something was cut.
    """
    line = _one_spaced(unicodedata.normalize("NFC", _printable(text)))
    tokens = sorted(filter(None, special_tokens), key=len, reverse=True)
    own_tokens = re.compile("|".join(map(re.escape, tokens))) if tokens else None
    while True:
        before = line
        for pattern in (DSPY_MARKERS, FIELD_HEADERS, CHAT_TOKENS, own_tokens):
            if pattern is not None:
                line = _one_spaced(pattern.sub(" ", line))
        if line == before:
            break
    if max_chars is not None and len(line) > max_chars:
        line = line[: max_chars - 1].rstrip() + ELLIPSIS
    return line


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _printable(text: str) -> str:
    """`text` with a space for each control character, and without format, private and surrogate ones."""
    kinds = ((char, unicodedata.category(char)) for char in text)
    return "".join(" " if kind == "Cc" else "" if kind[0] == "C" else char for char, kind in kinds)
