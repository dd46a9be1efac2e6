"""How a signature and its values become a chat: one rendering for asking, for optimizing and for training.

    system   the signature's instructions, then the form of the answer
    user     ### Field            one block a field, in the order of the signature,
             value                so what is shared by many prompts comes first and the candidate last

Values are cleaned on the way in; pictures travel as parts of their own and never as markers inside text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any

import dspy
from pydantic import TypeAdapter

from srec.text import clean

Content = list[dict[str, Any]]
SAVED_PICTURE = re.compile(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+")


def label(field_name: str) -> str:
    """`visual_answers` as the heading `Visual answers`."""
    return field_name.replace("_", " ").capitalize()


def chat(
    signature: type[dspy.Signature],
    demos: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    *,
    form: str,
    answer: Any,
    special_tokens: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """OpenAI-style messages; `form` says how to answer, `answer(demo)` writes a demo's answer."""
    tokens = tuple(special_tokens)
    system = "\n\n".join(filter(None, [cleandoc(signature.instructions), form]))
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}]
    for demo in demos:
        messages.append({"role": "user", "content": _fields(signature, demo, tokens)})
        messages.append({"role": "assistant", "content": answer(demo)})
    messages.append({"role": "user", "content": _fields(signature, inputs, tokens)})
    return messages


def cleaned(messages: Sequence[Mapping[str, Any]], *, special_tokens: Iterable[str]) -> list[dict[str, Any]]:
    """Messages that `chat` wrote without special tokens, as it writes them with those: for a model met later.

    Values are cleaned where `chat` puts them, line by line in what the user says; instructions and demos' answers stay.
    """
    tokens = tuple(special_tokens)
    return [
        {**message, "content": _cleaned_content(message["content"], tokens)}
        if message["role"] == "user"
        else {**message}
        for message in messages
    ]


def cleaned_text(text: str, *, special_tokens: Sequence[str]) -> str:
    """Text of several values, each line with a special token in it cleaned."""
    if not any(token in text for token in special_tokens):
        return text
    return "\n".join(_cleaned_line(line, special_tokens) for line in text.split("\n"))


def _cleaned_content(content: str | Content, tokens: Sequence[str]) -> str | Content:
    if isinstance(content, str):
        made = cleaned_text(content, special_tokens=tokens)
        return content if made == content else made.rstrip()
    blocks = [
        _text(cleaned_text(block["text"], special_tokens=tokens)) if block["type"] == "text" else {**block}
        for block in content
    ]
    if blocks != content and blocks[-1]["type"] == "text":
        blocks[-1] = _text(blocks[-1]["text"].rstrip())
    return blocks


def _cleaned_line(line: str, tokens: Sequence[str]) -> str:
    if not any(token in line for token in tokens):
        return line
    before, after = (" " if line.startswith(" ") else ""), (" " if line.endswith(" ") else "")
    return f"{before}{clean(line, special_tokens=tokens)}{after}"


def _fields(signature: type[dspy.Signature], values: Mapping[str, Any], tokens: Sequence[str]) -> str | Content:
    """The input fields that have a value, as text, or as blocks where there are pictures among them."""
    blocks: Content = []
    for name in signature.input_fields:
        value = values.get(name)
        if isinstance(value, str) and signature.input_fields[name].annotation is dspy.Image:
            value = _saved_picture(value)
        if value is None or (isinstance(value, (str, list, tuple)) and not value):
            continue
        heading, end = _frame(signature, name)
        if isinstance(value, dspy.Image):
            blocks += [_text(heading), _picture(value), _text(end)]
        elif isinstance(value, (list, tuple)) and all(isinstance(one, dspy.Image) for one in value):
            blocks += [_text(heading), *map(_picture, value), _text(end)]
        else:
            blocks.append(_text(f"{heading}{_written(value, tokens)}{end}"))
    merged = _merge(blocks)
    if not merged:
        return ""
    if merged[-1]["type"] == "text":
        merged[-1] = _text(merged[-1]["text"].rstrip())
    return merged[0]["text"] if len(merged) == 1 and merged[0]["type"] == "text" else merged


def _saved_picture(text: str) -> dspy.Image | None:
    """The picture of a demo that was saved and loaded, which DSPy leaves as text; an address is not followed."""
    found = SAVED_PICTURE.search(text)
    return dspy.Image(found[0]) if found else None


def _frame(signature: Any, name: str) -> tuple[str, str]:
    """What stands before and after a field: a heading and a blank line, or a space where its `desc` is empty."""
    bare = (signature.input_fields[name].json_schema_extra or {}).get("desc") == ""
    return ("", " ") if bare else (f"### {label(name)}\n", "\n\n")


def _written(value: Any, tokens: Sequence[str]) -> str:
    """A value as text: a string as one line, a list as one line an entry, anything else as JSON."""
    if isinstance(value, str):
        return clean(value, special_tokens=tokens)
    if isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
        return "\n".join(f"- {clean(entry, special_tokens=tokens)}".rstrip() for entry in value)
    plain = TypeAdapter(type(value)).dump_python(value, mode="json")
    return clean(json.dumps(plain, ensure_ascii=False), special_tokens=tokens)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(image: dspy.Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": image.url}}


def _merge(blocks: Content) -> Content:
    """Neighbouring texts as one, and no text of white space alone at the end."""
    merged: Content = []
    for block in blocks:
        if merged and block["type"] == merged[-1]["type"] == "text":
            merged[-1] = _text(merged[-1]["text"] + block["text"])
        else:
            merged.append(block)
    if merged and merged[-1]["type"] == "text" and not merged[-1]["text"].strip():
        merged.pop()
    return merged
