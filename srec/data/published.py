"""How public datasets are published: their files, their columns, their units, and a reader for each kind of file.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from srec.errors import DatasetError

MAX_LINE_BYTES = 2**22  # what is longer is no line of these files
TOO_LONG = "line is longer than 4 MiB"
RAGGED = "too few or too many cells"
# A literal of Python without operators, so that nothing nests deeper than Python's parser counts brackets (200). A
# number follows a bracket, comma or colon; a sign anywhere else would make a sum, and a long sum a deep tree.
LITERAL = re.compile(
    r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[\[\]{}(),:]"""
    r"""|(?<=[\[{(,:])\s*+-?\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?|True|False|None|\s)++"""
)
MAX_LITERAL_CHARS = 2**20
# Of a picture's sizes the one of some 500 pixels comes first: intake scales down to fewer, and the next is many times
# as much to fetch.
PICTURE_SIZES = ("large", "hi_res", "thumb")

Row = Mapping[str, object]
Reader = Callable[[Path], Iterator[Row | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of a format: patterns of its name, its reader, and per column of ours the names that it may have."""

    names: Sequence[str]
    read: Reader
    columns: Mapping[str, Sequence[str]]
    not_named: str = "-"  # how a name does not begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One public dataset. `attributes` are the item columns that are kept, all others if None.

    `pictures` are the item columns that hold URLs of pictures, the best first. `per_second` is how often its unit of
    time goes into a second; `markup` says that its texts hold HTML.
    """

    items: Source
    events: Source
    attributes: Sequence[str] | None = None
    pictures: Sequence[str] = ()
    per_second: int = 1
    markup: bool = False


def lines(path: Path) -> Iterator[str | None]:
    """The lines of a file that are not blank, with their ends; None for one that is too long."""
    opened = gzip.open if path.suffix == ".gz" else Path.open
    number, whole = 0, True
    try:
        with opened(path, "rb") as file:
            while raw := file.readline(MAX_LINE_BYTES):
                begins, whole = whole, raw.endswith(b"\n") or len(raw) < MAX_LINE_BYTES
                number += begins
                if not whole and begins:
                    yield None
                elif whole and begins and raw.strip():
                    yield _decoded(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} breaks off after line {number} ({error}); download it again") from error


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
    """CSV with a header; a quoted cell may hold line ends."""
    cells = csv.reader(RAGGED if line is None else line for line in lines(path))
    header = next(cells, [])
    while True:
        try:
            yield _row(header, next(cells))
        except csv.Error:
            yield "cell is too long, or a quote is never closed"
        except StopIteration:
            return


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


def movielens(path: Path, *, header: Sequence[str]) -> Iterator[Row | str]:
    """The `.csv` of newer sets names its columns, the `.dat` of older ones does not."""
    return split(path, separator="::", header=header) if ".dat" in path.suffixes else table(path)


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


def picture_url(row: Row, names: Sequence[str]) -> str:
    """The URL of the picture of an item, "" if there is none: of its main picture, in the size that comes first.

    A cell is a URL, a list of them, a list of objects with one URL per size, or an object with a list per size.
    """
    return next((url for name in names if (url := _url(row.get(name)))), "")


def _url(cell: object) -> str:
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, dict):
        variants = cell.get("variant")
        main = variants.index("MAIN") if isinstance(variants, list) and "MAIN" in variants else 0
        lists = [urls for size in PICTURE_SIZES if isinstance(urls := cell.get(size), list)]
        return next((urls[main] for urls in lists if main < len(urls) and _is_text(urls[main])), "")
    if not isinstance(cell, list):
        return ""
    objects = [one for one in cell if isinstance(one, dict)]
    objects.sort(key=lambda one: one.get("variant") != "MAIN")
    urls = [one.get(size) for one in objects for size in PICTURE_SIZES] or cell
    return next((url.strip() for url in urls if isinstance(url, str) and url.strip()), "")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _row(header: Sequence[str], cells: Iterable[str]) -> Row | str:
    try:
        return dict(zip(header, cells, strict=True))
    except ValueError:
        return RAGGED


def _amazon(
    items: Sequence[str],
    events: Sequence[str],
    *,
    header: Sequence[str],
    attributes: Sequence[str],
    pictures: Sequence[str],
) -> Format:
    """Reviews of 2014 and 2018: one object per review, one per product; `header` is that of the ratings as `.csv`."""
    return Format(
        items=Source(names=items, read=json_lines, columns={"item": ["asin"], "title": ["title"]}),
        events=Source(
            names=events,
            not_named="meta_",
            read=partial(ratings_or_reviews, header=header),
            columns={"user": ["reviewerID"], "item": ["asin"], "time": ["unixReviewTime"], "rating": ["overall"]},
        ),
        attributes=attributes,
        pictures=pictures,
        markup=True,
    )


def _packed_or_not(*patterns: str) -> tuple[str, ...]:
    return tuple(f"{pattern}{ending}" for pattern in patterns for ending in ("", ".gz"))


FORMATS: Mapping[str, Format] = {
    "movielens": Format(
        items=Source(
            names=_packed_or_not("movies.csv", "movies.dat"),
            read=partial(movielens, header=("movieId", "title", "genres")),
            columns={"item": ["movieId"], "title": ["title"]},
        ),
        events=Source(
            names=_packed_or_not("ratings.csv", "ratings.dat"),
            read=partial(movielens, header=("userId", "movieId", "rating", "timestamp")),
            columns={"user": ["userId"], "item": ["movieId"], "time": ["timestamp"], "rating": ["rating"]},
        ),
        attributes=("genres",),
    ),
    "recbole": Format(
        items=Source(
            names=_packed_or_not("*.item"),
            read=partial(split, separator="\t"),
            columns={"item": ["item_id"], "title": ["title", "movie_title", "item_name", "name"]},
        ),
        events=Source(
            names=_packed_or_not("*.inter"),
            read=partial(split, separator="\t"),
            columns={
                "user": ["user_id", "session_id"],
                "item": ["item_id"],
                "time": ["timestamp"],
                "rating": ["rating"],
            },
        ),
    ),
    "amazon-2014": _amazon(
        _packed_or_not("meta_*.json"),
        _packed_or_not("reviews_*.json", "ratings_*.csv"),
        header=("reviewerID", "asin", "overall", "unixReviewTime"),
        attributes=("brand", "categories", "price", "description"),
        pictures=("imUrl",),
    ),
    "amazon-2018": _amazon(
        _packed_or_not("meta_*.json"),
        _packed_or_not("*.json", "*.csv"),
        header=("asin", "reviewerID", "overall", "unixReviewTime"),  # the item first, other than in 2014
        attributes=("brand", "main_cat", "category", "price", "feature", "description"),
        pictures=("imageURLHighRes", "imageURL", "image"),  # the last two have 40 pixels
    ),
    "amazon-2023": Format(
        items=Source(
            names=_packed_or_not("meta_*.jsonl"),
            read=json_lines,
            columns={"item": ["parent_asin"], "title": ["title"]},
        ),
        events=Source(
            names=_packed_or_not("*.jsonl", "*.csv"),
            not_named="meta_",
            read=partial(ratings_or_reviews, header=()),
            columns={"user": ["user_id"], "item": ["parent_asin"], "time": ["timestamp"], "rating": ["rating"]},
        ),
        attributes=("store", "main_category", "categories", "price", "features", "description"),
        pictures=("images",),
        per_second=1000,
        markup=True,
    ),
    "microlens": Format(
        items=Source(
            names=("*_title_en.csv", "*_titles.csv", "*_title.csv"),
            read=id_and_title,
            columns={"item": ["item"], "title": ["title"]},
        ),
        events=Source(
            names=("*_pairs.csv",),  # the `.tsv` beside it has the same pairs in order, without their times
            read=table,
            columns={"user": ["user", "userID"], "item": ["item", "videoID"], "time": ["timestamp"]},
        ),
        attributes=(),
        per_second=1000,
    ),
}
