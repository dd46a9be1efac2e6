"""Rows to train on: one chat a line, in the messages format that TRL and others read.

    rows.jsonl        one JSON object a line, the fields of `Row`
    images/           pictures, each named by the SHA-256 of its bytes; rows name them and never hold pixels

The last message of a row is the assistant's answer, and it alone is learnt. Readers of columns (pyarrow, the `datasets`
library that TRL reads by) want a field to have one type throughout a file, so the messages of a file are all in text,
or all in blocks where one of its rows shows a picture; here, a text is read back as a text.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from srec.errors import InputError

ROWS_FILE = "rows.jsonl"
IMAGES_FOLDER = "images"
IMAGE_NAME = re.compile(r"images/[0-9a-f]{64}\.(?:png|jpg|webp)")
SUFFIX = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
LABELS = "labels"
"""The `teacher` of verdict rows that come from real labels."""


class Block(TypedDict):
    """A piece of a message: a text, or the place of the next picture."""

    type: Literal["text", "image"]
    text: NotRequired[str]


def _text_again(content: Any) -> Any:
    """A single block of text as the text that it was before it stood in a file."""
    match content:
        case [{"type": "text", "text": str(text), **rest}] if not rest:
            return text
    return content


class Message(TypedDict):
    """One turn of a chat; content is text, or blocks where there are pictures among them."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str | list[Block], BeforeValidator(_text_again)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One call of a stage with the answer to learn.

    Attributes:
        stage: The predictor's name in the program: "scoring.judge", "preference.summarize", "fusion.answer_question".
        messages: The chat; the last one is the assistant's answer, in text.
        images: Picture files in the order of the image blocks, relative to the folder of the rows:
            "images/<sha256>.png", .jpg or .webp.
        case_id: The case it is from; rows of one user's candidates share it.
        at: Unix seconds of the case.
        label: Of a verdict, whether the candidate is a target.
        score: Outcome of the case under the teacher, in [0, 1]: what `keep` was held against.
        weight: How much the row counts, against 1.0 of others.
        teacher: Identity of the LM that answered; "labels" for verdicts from real labels.
        saw_answer: The teacher's reasoning saw the target: allowed in training rows alone.

    Raises:
        InputError: the last message is not an answer, or image blocks and images do not match.
    """

    stage: str
    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()
    case_id: str = ""
    user_id: str = ""
    item_id: str = ""
    at: int | None = None
    label: bool | None = None
    score: float | None = None
    weight: float = 1.0
    teacher: str = ""
    saw_answer: bool = False

    def __post_init__(self) -> None:
        roles = [message["role"] for message in self.messages]
        if len(roles) < 2 or roles[-1] != "assistant" or not isinstance(self.messages[-1]["content"], str):  # noqa: PLR2004 (a question and its answer)
            raise InputError(f"a row of stage {self.stage!r} must end with an assistant message in text, not {roles}")
        if not self.messages[-1]["content"]:
            raise InputError(f"a row of stage {self.stage!r} has an empty answer; leave it out")
        places = sum(block["type"] == "image" for block in self._blocks())
        if places != len(self.images):
            raise InputError(
                f"a row of stage {self.stage!r} has {places} image blocks and {len(self.images)} images; name one each"
            )
        for name in self.images:
            if not IMAGE_NAME.fullmatch(name):
                raise InputError(f"image {name!r} of a row must be called images/<sha256>.png, .jpg or .webp")
        if not 0.0 <= self.weight < float("inf"):
            raise InputError(f"the weight of a row must be a number from 0 on, not {self.weight}")

    @property
    def answer(self) -> str:
        """What is to be learnt."""
        return str(self.messages[-1]["content"])

    @property
    def question(self) -> tuple[Message, ...]:
        """What comes before the answer."""
        return self.messages[:-1]

    def _blocks(self) -> Iterator[Block]:
        for message in self.messages:
            if not isinstance(message["content"], str):
                yield from message["content"]


_ROW: TypeAdapter[Row] = TypeAdapter(Row)


def write_rows(path: str | Path, rows: Iterable[Row]) -> int:
    """Write a file of rows, whole or not at all; returns how many."""
    target, count, has_blocks = Path(path), 0, False
    aside, even = (target.with_name(f".{target.name}.{suffix}") for suffix in ("part", "even"))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(line_of(row) + "\n")
                count += 1
                has_blocks = has_blocks or any(not isinstance(turn["content"], str) for turn in row.messages)
        if has_blocks:
            with aside.open(encoding="utf-8") as lines, even.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(_in_blocks(line) + "\n" for line in lines)
            even.replace(aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
        even.unlink(missing_ok=True)
    return count


def _in_blocks(line: str) -> str:
    """A line with the texts of its messages as blocks."""
    row = json.loads(line)
    for turn in row["messages"]:
        if isinstance(turn["content"], str):
            turn["content"] = [{"type": "text", "text": turn["content"]}]
    return _json(row)


def line_of(row: Row) -> str:
    """A row as one line of JSON, without the line's end and with texts as texts; same row, same bytes."""
    return _json(asdict(row))


def _json(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, one after the other.

    Raises:
        InputError: the file cannot be read, or a line of it is not a row; the sentence names file and line.
    """
    source = Path(path)
    try:
        with source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _row(line, where=f"{source}, line {number}")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}; name a file of rows") from error


def _row(line: bytes, *, where: str) -> Row:
    try:
        return _ROW.validate_json(line)
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the line"
        raise InputError(f"{where}: {field}: {first['msg']}; write rows with srec.learn.rows") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def digest_of_rows(rows: Sequence[Row]) -> str:
    """SHA-256 over rows in order; pictures count by their names, which are their digests."""
    total = sha256()
    for row in rows:
        total.update(line_of(row).encode() + b"\n")
    return total.hexdigest()


def without_pixels(chat: Iterable[Mapping[str, Any]]) -> tuple[tuple[Message, ...], list[tuple[str, str]]]:
    """A chat in OpenAI's form as a row has it, and its pictures in order: the name of each and its bytes in base64.

    Raises:
        InputError: a picture is not embedded, or in a format that rows do not have.
    """
    pictures: list[tuple[str, str]] = []
    messages: list[Message] = []
    for message in chat:
        content = message["content"]
        if not isinstance(content, str):
            pictures += [_picture(block["image_url"]["url"]) for block in content if block["type"] != "text"]
            content = [_without_pixels(block) for block in content]
        messages.append({"role": message["role"], "content": content})
    return tuple(messages), pictures


def _without_pixels(block: Mapping[str, Any]) -> Block:
    return {"type": "text", "text": block["text"]} if block["type"] == "text" else {"type": "image"}


def _picture(url: str) -> tuple[str, str]:
    head, _, data = url.partition(";base64,")
    suffix = SUFFIX.get(head.removeprefix("data:"))
    if suffix is None or not data:
        raise InputError("a picture is given by its address or in another format; rows need its PNG, JPEG or WebP")
    return f"{IMAGES_FOLDER}/{sha256(b64decode(data)).hexdigest()}.{suffix}", data


def write_picture(folder: Path, name: str, data: str) -> None:
    """Write a picture, given in base64, beside rows: whole or not at all, unless it is there."""
    path = folder / name
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(b64decode(data))
    aside.replace(path)
