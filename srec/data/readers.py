"""Readers of published files, one for each kind of file.

A reader yields the rows of a file one by one, and a reason in words for every line that is no row. `.gz` is opened on
the way; a line is UTF-8, or Latin-1 where it cannot be.
"""

from __future__ import annotations

import ast
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from srec.errors import DatasetError

MAX_LINE_BYTES = 2**22  # what is longer is no line of these files
TOO_LONG = "line is longer than 4 MiB"
RAGGED = "too few or too many cells"
UNCLOSED = "a quote is opened and not closed on its line"
UNREADABLE = "a cell is too long, or has a carriage return in it"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# A literal of Python without operators, so that nothing nests deeper than Python's parser counts brackets (200). A
# number follows a bracket, comma or colon; a sign anywhere else would make a sum, and a long sum a deep tree.
LITERAL = re.compile(
    r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[\[\]{}(),:]"""
    r"""|(?<=[\[{(,:])\s*+-?\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?|True|False|None|\s)++"""
)
MAX_LITERAL_CHARS = 2**20
NO_GENRES = "(no genres listed)"  # what newer sets of MovieLens write in place of genres
NO_KNOWN_GENRE = "unknown"  # the same in the oldest
FILM_COLUMNS = ("movieId", "title", "release date", "video release date", "IMDb URL")

Row = Mapping[str, object]
Reader = Callable[[Path], Iterator[Row | str]]


def lines(path: Path) -> Iterator[str | None]:
    """The lines of a file that are not blank, with their ends; None for one that is too long."""
    opened = gzip.open if path.suffix == ".gz" else Path.open
    number, whole = 0, True
    try:
        with opened(path, "rb") as file:
            while raw := file.readline(MAX_LINE_BYTES):
                begins, whole = whole, raw.endswith(b"\n") or len(raw) < MAX_LINE_BYTES
                number += begins
                if number == 1 and begins:
                    _check_start(path, raw)
                if not whole and begins:
                    yield None
                elif whole and begins and raw.strip():
                    yield _decoded(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} breaks off after line {number} ({error}); download it again") from error


def _check_start(path: Path, raw: bytes) -> None:
    """Refuse a file of which no line can be told, by what stands before its first line feed."""
    if raw.startswith(UTF_16):
        raise DatasetError(f"{path} begins with the byte order mark of UTF-16; save it as UTF-8")
    if b"\r" in raw.strip() and not raw.endswith(b"\n"):
        raise DatasetError(f"{path} ends its lines by a carriage return alone; save it with line feeds")


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def json_lines(path: Path) -> Iterator[Row | str]:
    """One object per line, as JSON or, as in old files, as a Python dictionary."""
    for line in lines(path):
        if line is None:
            yield TOO_LONG
            continue
        row = _object(line)
        yield row if isinstance(row, dict) else "line is no object"


def _object(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        pass
    text = line.strip()
    if len(text) > MAX_LITERAL_CHARS or not text.startswith("{") or not LITERAL.fullmatch(text):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def table(path: Path) -> Iterator[Row | str]:
    """CSV with a header, one row per line, so that a quote that is never closed costs no other row."""
    header: list[str] | None = None
    for line in lines(path):
        cells = TOO_LONG if line is None else _cells(line)
        if header is not None:
            yield cells if isinstance(cells, str) else _row(header, cells)
        elif isinstance(cells, str):
            raise DatasetError(f"{path}: the first line names no columns: {cells}; correct it or download it again")
        else:
            header = cells


def _cells(line: str) -> list[str] | str:
    """The cells of a line of CSV, or why it has none."""
    text = line.rstrip("\r\n")
    if '"' not in text and "\r" not in text:
        return text.split(",")
    try:
        cells = next(csv.reader([f"{text}\n"]))
    except csv.Error:
        return UNREADABLE
    return UNCLOSED if cells[-1].endswith("\n") else cells  # only what is still quoted takes in the end of its line


def split(path: Path, *, separator: str, header: Sequence[str] = ()) -> Iterator[Row | str]:
    """Cells without quotes. Without a `header` the first line is one, in which `name:type` is called `name`."""
    for line in lines(path):
        if line is None:
            yield TOO_LONG
            continue
        cells = line.rstrip("\r\n").split(separator)
        if header:
            yield _row(header, cells)
        else:
            header = [cell.partition(":")[0] for cell in cells]


def atomic_items(path: Path, *, phrases: Collection[str]) -> Iterator[Row | str]:
    """RecBole's items; a column of type `token_seq` is a list, unless its words are one text as those of `phrases`."""
    kinds = dict(cell.partition(":")[::2] for cell in (next(lines(path), None) or "").strip().split("\t"))
    lists = [name for name, kind in kinds.items() if kind == "token_seq" and name not in phrases]
    for row in split(path, separator="\t"):
        yield row if isinstance(row, str) else {**row, **{name: _tokens(row[name]) for name in lists}}


def _tokens(cell: object) -> list[str]:
    """The parts of a `token_seq`, which stand between blanks, and in some files between commas."""
    text = str(cell)
    return [part.strip() for part in text.split(", ")] if ", " in text else text.split()


def movielens(path: Path, *, header: Sequence[str]) -> Iterator[Row | str]:
    """The `.csv` of newer sets names its columns; the `.dat` of older ones and `u.data`, the oldest, do not."""
    if ".data" in path.suffixes:
        return split(path, separator="\t", header=header)
    return split(path, separator="::", header=header) if ".dat" in path.suffixes else table(path)


def films(path: Path, *, header: Sequence[str]) -> Iterator[Row | str]:
    """The films of MovieLens; where it says that a film has no genre, there is none."""
    for row in _flagged(path) if ".item" in path.suffixes else movielens(path, header=header):
        yield row if isinstance(row, str) or row.get("genres") != NO_GENRES else {**row, "genres": ""}


def _flagged(path: Path) -> Iterator[Row | str]:
    """The films of `u.item`: five columns, and for each genre of `u.genre` a 1 where the film is of it, else a 0."""
    genres = _genres(path)
    for row in split(path, separator="|", header=(*FILM_COLUMNS, *genres)):
        if isinstance(row, str):
            yield row
        elif not all(row[name] in {"0", "1"} for name in genres):
            yield "the flag of a genre is neither 0 nor 1"
        else:
            yield {**row, "genres": [name for name in genres if row[name] == "1" and name != NO_KNOWN_GENRE]}


def _genres(path: Path) -> list[str]:
    """The genres that `u.genre` beside `path` names, `name|number` each, in the order of their flags."""
    beside = next((one for ending in ("", ".gz") if (one := path.with_name(f"u.genre{ending}")).is_file()), None)
    if beside is None:
        raise DatasetError(f"{path.parent} has no u.genre, which names the genres of {path.name}; put it there too")
    numbered = [(number.strip(), name) for name, _, number in ((line or "").rpartition("|") for line in lines(beside))]
    if not all(name and number.isdecimal() for number, name in numbered):
        raise DatasetError(f"{beside} has a line that is not a genre, `|` and its number; download it again")
    return [name for _, name in sorted(numbered, key=lambda one: int(one[0]))]


def ratings_or_reviews(path: Path, *, header: Sequence[str]) -> Iterator[Row | str]:
    """Reviews as objects, or the `.csv` of the same with nothing but ids, rating and time, which may lack a header."""
    if ".csv" not in path.suffixes:
        return json_lines(path)
    return split(path, separator=",", header=header) if header else table(path)


def id_and_title(path: Path) -> Iterator[Row | str]:
    """`item,title`, with or without a header and quotes; commas and single quotation marks belong to the title."""
    for line in lines(path):
        item_id, comma, title = (line or "").strip().partition(",")
        title = title.strip()
        if line is None:
            yield TOO_LONG
        elif not comma:
            yield RAGGED
        elif title.lower() != "title":
            quoted = len(title) > 1 and title[0] == title[-1] == '"'
            yield {"item": item_id, "title": title[1:-1].replace('""', '"') if quoted else title}


def _row(header: Sequence[str], cells: Iterable[str]) -> Row | str:
    try:
        return dict(zip(header, cells, strict=True))
    except ValueError:
        return RAGGED
