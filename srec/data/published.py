"""How public datasets are published: their files, their columns, their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from srec.data.readers import (
    Reader,
    Row,
    atomic_items,
    films,
    id_and_title,
    json_lines,
    movielens,
    ratings_or_reviews,
    split,
    table,
)

# Of a picture's sizes the one of some 500 pixels comes first: intake scales down to fewer, and the next is many times
# as much to fetch.
PICTURE_SIZES = ("large", "hi_res", "thumb")
RECBOLE_TITLES = ("title", "movie_title", "item_name", "name")


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
            names=_packed_or_not("movies.csv", "movies.dat", "u.item"),
            read=partial(films, header=("movieId", "title", "genres")),
            columns={"item": ["movieId"], "title": ["title"]},
        ),
        events=Source(
            names=_packed_or_not("ratings.csv", "ratings.dat", "u.data"),
            read=partial(movielens, header=("userId", "movieId", "rating", "timestamp")),
            columns={"user": ["userId"], "item": ["movieId"], "time": ["timestamp"], "rating": ["rating"]},
        ),
        attributes=("genres",),
    ),
    "recbole": Format(
        items=Source(
            names=_packed_or_not("*.item"),
            read=partial(atomic_items, phrases=(*RECBOLE_TITLES, "abstract", "description", "address", "city")),
            columns={"item": ["item_id"], "title": RECBOLE_TITLES},
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
