"""Small dumps of the six formats, to the letter of their documentation and with the faults that the real ones have.

Forty users and thirty items each, every user with nine events, so that all are in the 5-core; and some rows beside them
that are not, or that no one can use. Run by itself, this converts each and prints what became of every row:

    python evals/datasets/samples.py > evals/results/converters.md
"""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from srec.data.convert import convert

USERS, ITEMS, EVENTS = 40, 30, 9
SECOND = 1_388_534_400  # 2014 began; the time of a review of 2014 and 2018 is a midnight
DAY = 86_400


def events() -> Iterator[tuple[int, int, int, int]]:
    """User, item, day and stars; each user meets nine items, each item twelve users."""
    for user in range(USERS):
        for n in range(EVENTS):
            yield user, (user * 7 + n * 3) % ITEMS, n * 11 + user, 1 + (user + n) % 5


def reviewer(user: int) -> str:
    return f"A{user:012d}Z"


def asin(item: int) -> str:
    return f"B{item:09d}"


def amazon_2014(folder: Path, *, pictures: str = "http://ecx.images-amazon.com/images/I") -> None:
    """Reviews in JSON; products as Python dictionaries, titles and brands missing here and there."""
    reviews: list[Any] = [
        {
            "reviewerID": reviewer(user),
            "asin": asin(item),
            "reviewerName": 'J. "Mac" Doe',
            "helpful": [2, 3],
            "reviewText": "My son's <b>favourite</b>.",
            "overall": float(stars),
            "summary": "Good",
            "unixReviewTime": SECOND + day * DAY,
            "reviewTime": "01 1, 2014",
        }
        for user, item, day, stars in events()
    ]
    reviews += [reviews[0], reviews[1] | {"asin": asin(999)}, reviews[2] | {"reviewerID": "A1ONCE"}]
    metas: list[Any] = [
        {
            "asin": asin(item),
            "related": {"also_bought": [asin(item + 1)], "buy_after_viewing": [asin(item + 2)]},
            "title": f'Kid\'s "{item}" Cup &amp; Saucer',
            "price": 3.17 + item,
            "salesRank": {"Baby": 211836 + item},
            "imUrl": f"{pictures}/51{item:02d}._SY300_.jpg",
            "brand": "Cup-O'",
            "categories": [["Baby", "Feeding", "Cups"], ["Baby", "Gifts"]],
            "description": "A cup\nwith a saucer.",
        }
        for item in range(ITEMS)
    ]
    metas[3] = {"asin": asin(3), "imUrl": f"{pictures}/5103._SY300_.jpg", "categories": [["Baby"]]}
    metas += [{"asin": asin(ITEMS), "title": "Bought by nobody"}, metas[0]]
    with gzip.open(folder / "reviews_Baby_5.json.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(review) + "\n" for review in reviews)
    with gzip.open(folder / "meta_Baby.json.gz", "wt", encoding="utf-8") as file:
        file.writelines(repr(meta) + "\n" for meta in metas)
        file.write("{'asin': open('/etc/passwd').read()}\n")


def amazon_2018(folder: Path) -> None:
    """Both files in JSON; HTML, scripts and style sheets where text should be, two lists of pictures, votes as text."""
    reviews: list[Any] = [
        {
            "overall": float(stars),
            "vote": "1,234",
            "verified": True,
            "reviewTime": "01 1, 2014",
            "reviewerID": reviewer(user),
            "asin": asin(item),
            "style": {"Size:": " Large", "Color:": " Blue"},
            "reviewerName": "Doe",
            "reviewText": "Fine",
            "summary": "Five Stars",
            "unixReviewTime": SECOND + day * DAY,
            "image": ["https://images-na.ssl-images-amazon.com/images/I/71._SY88.jpg"],
        }
        for user, item, day, stars in events()
    ]
    reviews += [reviews[0], reviews[0], {key: reviews[1][key] for key in ("overall", "asin")}]
    metas: list[Any] = [
        {
            "category": ["Toys & Games", "Puzzles", "</span></span></span>"],
            "tech1": "",
            "description": ["", "A <b>puzzle</b> of 500 pieces."],
            "fit": "",
            "title": f"Puzzle {item}",
            "also_buy": [asin(item + 1)],
            "tech2": "",
            "brand": "by\n    \n    Ravens",
            "feature": ["500 pieces", "From 8 years"],
            "rank": [">#2,230,717 in Toys &amp; Games (See top 100)"],
            "also_view": [],
            "details": {"ASIN:": asin(item)},
            "main_cat": "Toys &amp; Games",
            "similar_item": "",
            "date": "",
            "price": "$9.99",
            "asin": asin(item),
            "imageURL": [f"https://images-na.ssl-images-amazon.com/images/I/{item}._SS40_.jpg"],
            "imageURLHighRes": [f"https://images-na.ssl-images-amazon.com/images/I/{item}.jpg"],
        }
        for item in range(ITEMS)
    ]
    metas[4]["title"] = "var aPageStart = (new Date()).getTime();"
    metas[5]["price"] = ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget .selected{background-color:#fffbf3}"
    metas[6] |= {"imageURL": [], "imageURLHighRes": []}
    metas += [metas[1]]  # products are there twice
    for name, rows in {"Toys_and_Games_5.json.gz": reviews, "meta_Toys_and_Games.json.gz": metas}.items():
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def amazon_2023(folder: Path) -> None:
    """Milliseconds, `parent_asin` beside the `asin` of a variant, pictures as a list of objects, null where unknown."""
    url = "https://m.media-amazon.com/images/I"
    reviews: list[Any] = [
        {
            "rating": float(stars),
            "title": "Five Stars",
            "text": "Fine",
            "images": [],
            "asin": f"V{user % 3}{item:08d}",
            "parent_asin": asin(item),
            "user_id": f"AGK{user:025d}",
            "timestamp": (SECOND + day * DAY) * 1000 + 923,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for user, item, day, stars in events()
    ]
    reviews += [reviews[0], reviews[1] | {"parent_asin": asin(998)}, reviews[2] | {"timestamp": SECOND * 10**6}]
    metas: list[Any] = [
        {
            "main_category": "All Beauty",
            "title": f"Shampoo {item}",
            "average_rating": 4.8,
            "rating_number": 10,
            "features": [],
            "description": [],
            "price": None if item % 2 else 12.5,
            "images": [
                {"thumb": f"{url}/{item}._SS40_.jpg", "large": f"{url}/{item}b.jpg", "variant": "PT01", "hi_res": None},
                {"thumb": f"{url}/{item}._SS40_.jpg", "large": f"{url}/{item}.jpg", "variant": "MAIN", "hi_res": None},
            ],
            "videos": [],
            "store": "Howard Products",
            "categories": [],
            "details": {"Package Dimensions": "7.1 x 5.5 x 3 inches; 2.38 Pounds", "UPC": "617390882781"},
            "parent_asin": asin(item),
            "bought_together": None,
        }
        for item in range(ITEMS)
    ]
    with gzip.open(folder / "All_Beauty.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in reviews)
        file.write('{"rating": 5.0, "title": "the line breaks o')
    with gzip.open(folder / "meta_All_Beauty.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in metas)


def microlens(folder: Path, *, covers: bool = False) -> None:
    """`user,item,timestamp` in milliseconds; titles with commas, stray quotation marks, and without a header."""
    rows = [f"{user},{item + 1},{(SECOND + day * DAY) * 1000 + n}" for n, (user, item, day, _) in enumerate(events())]
    (folder / "MicroLens-50k_pairs.csv").write_text(
        "\n".join(["user,item,timestamp", *rows, "7,404,1588687728923", ""])
    )
    titles = [
        f'{item + 1},"Cats, dogs and ""{item}"""' if item % 2 else f"{item + 1}, So, what now?" for item in range(ITEMS)
    ]
    titles[8] = '9,"A quotation mark that nobody closes'
    (folder / "MicroLens-50k_titles.csv").write_text("\n".join(["item,title", *titles, "no title", ""]))
    if covers:
        with zipfile.ZipFile(folder / "MicroLens-50k_covers.zip", "w") as archive:
            for item in range(ITEMS):
                archive.writestr(f"MicroLens-50k_covers/{item + 1}.jpg", picture(item))


def movielens(folder: Path, *, zipped: bool = False) -> None:
    """The `.dat` of MovieLens 1M: `::` between the cells, Latin-1, no header."""
    ratings = [f"{user + 1}::{item + 1}::{stars}::{SECOND + day * DAY}" for user, item, day, stars in events()]
    movies = [f"{item + 1}::Misérables, Les: part {item} (1995)::Drama|Musical" for item in range(ITEMS)]
    files = {
        "ratings.dat": "\n".join([*ratings, f"1::{ITEMS + 7}::5::{SECOND}", "1::2::5", ""]),
        "movies.dat": "\n".join([*movies, "77::Only a title", ""]),
    }
    if zipped:
        with zipfile.ZipFile(folder / "ml-1m.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(f"ml-1m/{name}", text.encode("latin-1"))
        return
    for name, text in files.items():
        (folder / name).write_bytes(text.encode("latin-1"))


def recbole(folder: Path) -> None:
    """Headers with types, tabs between the cells, several words in one cell, times as floats."""
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    rows = [f"{user}\t{item}\t{stars}\t{float(SECOND + day * DAY):.8E}" for user, item, day, stars in events()]
    (folder / "ml-100k.inter").write_text("\n".join([header, *rows, "3\t4\t5", "3\t4\tfive\t8.8E8", ""]))
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    rows = [f"{item}\tToy Story {item}\t1995\tAnimation Children's" for item in range(ITEMS)]
    (folder / "ml-100k.item").write_text("\n".join([header, *rows, ""]))


def picture(number: int) -> bytes:
    raw = io.BytesIO()
    Image.new("RGB", (16, 16), (number * 8 % 256, 90, 90)).save(raw, "JPEG")
    return raw.getvalue()


SAMPLES: dict[str, Callable[[Path], None]] = {
    "amazon-2014": amazon_2014,
    "amazon-2018": amazon_2018,
    "amazon-2023": amazon_2023,
    "microlens": microlens,
    "movielens": movielens,
    "recbole": recbole,
}


def main() -> None:
    print("# Converters\n\nMade by `python evals/datasets/samples.py`: small dumps as documented, with `min_events=5`.")
    for kind, write in SAMPLES.items():
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "published"
            source.mkdir()
            write(source)
            made = convert(kind, source, Path(scratch) / "dataset", min_events=5, progress=False)
        print(f"\n## {kind}\n\n" + str(made).replace(f" in {made.folder}", ""))


if __name__ == "__main__":
    main()
