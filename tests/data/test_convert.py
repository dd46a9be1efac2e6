"""Converters: files as they are published, written small, with the faults that the published ones have."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image as Pillow

from srec.data.conversion import Conversion
from srec.data.convert import convert
from srec.data.folder import image_stem, load
from srec.data.published import FORMATS
from srec.data.readers import MAX_LINE_BYTES
from srec.errors import DatasetError, InputError

TIME = 1_588_687_728


def put(folder: Path, name: str, content: str | bytes) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)


def lines(*rows: object) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def lost(counts: Conversion) -> dict[str, int]:
    """What did not come through, by table and reason."""
    tallies = {"item": counts.items, "interaction": counts.interactions}
    for tally in tallies.values():
        assert tally.read == tally.kept + tally.rejected.total() + tally.left_out.total()
    reasons = {f"{name}: {what}": times for name, tally in tallies.items() for what, times in tally.rows()}
    return {reason: times for reason, times in reasons.items() if not reason.endswith((": read", ": kept"))}


def movielens(source: Path) -> None:
    put(
        source,
        "movies.csv",
        'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n2,Heat (1995),Action\n',
    )
    put(
        source,
        "ratings.csv",
        "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,2,3.5,964981247\n2,2,5.0,964982224\n",
    )


def test_movielens_csv_keeps_titles_with_commas_genres_and_half_stars(source, tmp_path):
    movielens(source)
    counts = convert("movielens", source, tmp_path / "out")
    data = load(tmp_path / "out")
    assert data.items["1"].title == "American President, The (1995)"
    assert data.items["1"].attributes == {"genres": "Comedy|Drama"}
    assert list(data.interactions.rows()) == [
        ("1", "2", 964981247, 3.5),
        ("1", "1", 964982703, 4.0),
        ("2", "2", 964982224, 5.0),
    ]
    assert (counts.items.kept, counts.users, counts.interactions.kept) == (2, 2, 3)
    assert not lost(counts)


def test_a_film_without_genres_has_no_attribute_that_says_so(source, tmp_path):
    movielens(source)
    put(source, "movies.csv", lines("movieId,title,genres", "1,Heat (1995),(no genres listed)", "2,Doubt (2008),Drama"))
    convert("movielens", source, tmp_path / "out")
    data = load(tmp_path / "out")
    assert [item.attributes for item in data.items.values()] == [{}, {"genres": "Drama"}]
    assert "listed" not in (tmp_path / "out" / "items.csv").read_text()


def test_movielens_dat_is_read_as_latin_1(source, tmp_path):
    put(source, "movies.dat", "73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"))
    put(source, "ratings.dat", "1::73::5::978300760\n")
    convert("movielens", source, tmp_path / "out")
    assert load(tmp_path / "out").items["73"].title == "Misérables, Les (1995)"


GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama")
GENRES += ("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")


def film(start: str, *genres: str) -> str:
    """A line of `u.item` with its nineteen flags."""
    return "|".join([start, *(str(int(name in genres)) for name in GENRES)])


def movielens_100k(source: Path, *further: str) -> None:
    films = [
        film("1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story", *GENRES[3:6]),
        film("267|unknown|||", "unknown"),
        film("543|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M/x", "Drama", "Musical"),
        *further,
    ]
    put(source, "u.item", lines(*films).encode("latin-1"))
    put(source, "u.genre", lines(*(f"{name}|{number}" for number, name in enumerate(GENRES)), ""))
    put(source, "u.data", "196\t1\t3\t881250949\n196\t543\t5\t881250949\n22\t267\t1\t878887116\n")
    for name in ("u.user", "u1.base", "ua.test"):
        put(source, name, "1|24|M|technician|85711\n")


def test_movielens_100k_is_read_with_the_genres_that_its_flags_say(source, tmp_path):
    movielens_100k(source)
    counts = convert("movielens", source, tmp_path / "out", rating_threshold=4)
    data = load(tmp_path / "out")
    assert {item.item_id: (item.title, item.attributes) for item in data.items.values()} == {
        "1": ("Toy Story (1995)", {"genres": "Animation|Children's|Comedy"}),
        "267": ("unknown", {}),
        "543": ("Misérables, Les (1995)", {"genres": "Drama|Musical"}),
    }
    assert list(data.interactions.rows()) == [
        ("196", "1", 881250949, 3.0),
        ("196", "543", 881250949, 5.0),
        ("22", "267", 878887116, 1.0),
    ]
    assert not lost(counts)


def test_what_of_movielens_100k_cannot_be_read_is_counted_by_reason(source, tmp_path):
    movielens_100k(source, "2|GoldenEye (1995)|01-Jan-1995||x|0|1", film("3|Four Rooms|||").replace("|0", "|2", 1))
    with (source / "u.data").open("a") as file:
        file.write("1\t2\t5\t881250949\n1\t1\t5\n1\t1\tfive\t881250949\n")
    assert lost(convert("movielens", source, tmp_path / "out")) == {
        "item: rejected: the flag of a genre is neither 0 nor 1": 1,
        "item: rejected: too few or too many cells": 1,
        "interaction: rejected: the item is not in the item file": 1,
        "interaction: rejected: the rating is no finite number": 1,
        "interaction: rejected: too few or too many cells": 1,
    }


@pytest.mark.parametrize(
    ("genres", "word"), [(None, "has no u.genre"), ("Action\n", "not a genre, `|` and its number")]
)
def test_movielens_100k_without_the_names_of_its_genres_says_so(genres, word, source, tmp_path):
    movielens_100k(source)
    (source / "u.genre").unlink()
    if genres:
        put(source, "u.genre", genres)
    with pytest.raises(DatasetError, match=re.escape(word)):
        convert("movielens", source, tmp_path / "out")


def recbole(source: Path, *items: str) -> None:
    put(source, "ml-100k.item", lines(*items))
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    put(source, "ml-100k.inter", lines(header, "196\t1\t3\t8.81250949E8"))


def test_recbole_headers_lose_their_types_and_name_the_attributes(source, tmp_path):
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    recbole(source, header, "1\tToy Story\t1995\tAnimation Children's Comedy")
    convert("recbole", source, tmp_path / "out")
    data = load(tmp_path / "out")
    assert data.items["1"].title == "Toy Story"
    assert data.items["1"].attributes == {"release_year": "1995", "class": "Animation|Children's|Comedy"}
    assert list(data.interactions.rows()) == [("196", "1", 881250949, 3.0)]


def test_several_tokens_of_recbole_become_parts_and_those_of_one_text_do_not(source, tmp_path):
    header = "item_id:token\titem_name:token_seq\tcategories:token_seq\taddress:token_seq\tlabel:token\ttags:token_seq"
    recbole(source, header, "1\tThe Bean\tCoffee & Tea, Food, Food\t12 Main St\tto go\t", "2\tbroken")
    counts = convert("recbole", source, tmp_path / "out")
    assert load(tmp_path / "out").items["1"].attributes == {
        "categories": "Coffee & Tea|Food",
        "address": "12 Main St",
        "label": "to go",
    }
    assert lost(counts) == {"item: rejected: too few or too many cells": 1}


def test_amazon_2014_takes_python_dictionaries_and_flattens_categories(source, tmp_path):
    meta = (
        "{'asin': 'B01', 'title': \"Kid's Tutu &amp; Crown\", 'price': 3.17, 'imUrl': 'http://x/y.jpg', "
        "'related': {'also_bought': ['B02']}, 'salesRank': {'Toys': 2}, 'brand': 'Coxlures', "
        "'categories': [['Sports', 'Dance'], ['Toys', 'Sports']]}"
    )
    review = {"reviewerID": "A1", "asin": "B01", "overall": 5.0, "unixReviewTime": 1252800000, "reviewText": "fine"}
    put(source, "meta_Toys.json.gz", lines(meta))
    put(source, "reviews_Toys_5.json.gz", lines(review))
    convert("amazon-2014", source, tmp_path / "out")
    item = load(tmp_path / "out").items["B01"]
    assert item.title == "Kid's Tutu & Crown"
    assert item.attributes == {"brand": "Coxlures", "categories": "Sports|Dance|Toys", "price": "3.17"}


def test_amazon_2014_runs_nothing_that_a_line_says(source, tmp_path):
    put(source, "meta_Toys.json", lines("__import__('os').mkdir('run')", {"asin": "B01", "title": "Tutu"}))
    put(source, "reviews_Toys.json", lines({"reviewerID": "A1", "asin": "B01", "unixReviewTime": TIME}))
    counts = convert("amazon-2014", source, tmp_path / "out")
    assert lost(counts) == {"item: rejected: line is no object": 1}
    assert not Path("run").exists()


def test_amazon_2018_drops_markup_scripts_and_style_sheets(source, tmp_path):
    metas = [
        {
            "asin": "B1",
            "title": "<span>Blue\n Boat</span>",
            "price": ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget",
        },
        {"asin": "B2", "title": "var aPageStart = (new Date()).getTime();", "brand": "by\n    Okapi", "price": "$9.99"},
    ]
    put(source, "meta_Toys.json.gz", lines(*metas))
    put(
        source,
        "Toys_5.json.gz",
        lines(*({"reviewerID": "A", "asin": b, "overall": 4.0, "unixReviewTime": TIME} for b in ("B1", "B2"))),
    )
    convert("amazon-2018", source, tmp_path / "out")
    items = load(tmp_path / "out").items
    assert (items["B1"].title, items["B1"].attributes) == ("Blue Boat", {})
    assert (items["B2"].title, items["B2"].attributes) == ("", {"brand": "by Okapi", "price": "$9.99"})


def test_amazon_2023_goes_by_the_parent_item_and_by_milliseconds(source, tmp_path):
    meta = {
        "parent_asin": "P1",
        "title": "Kite",
        "store": "Lumo",
        "features": ["a", "b"],
        "price": None,
        "details": {"x": 1},
    }
    review = {
        "user_id": "U",
        "asin": "C9",
        "parent_asin": "P1",
        "rating": 5.0,
        "timestamp": 1588687728923,
        "title": "wow",
    }
    put(source, "meta_Toys.jsonl", lines(meta))
    put(source, "Toys.jsonl", lines(review))
    convert("amazon-2023", source, tmp_path / "out")
    data = load(tmp_path / "out")
    assert data.items["P1"].attributes == {"store": "Lumo", "features": "a|b"}
    assert list(data.interactions.rows()) == [("U", "P1", TIME, 5.0)]


@pytest.mark.parametrize("name", ["MicroLens-100k_title_en.csv", "MicroLens-50k_titles.csv"])
def test_microlens_titles_may_have_commas_quotes_and_a_header_or_not(source, tmp_path, name):
    header = "item,title\n" if "50k" in name else ""
    put(source, name, header + '1, So, what now?\n2,"Say ""hi"", twice"\n')
    put(source, "MicroLens-100k_pairs.csv", "user,item,timestamp\n7,1,1588687728923\n7,2,1588687729923\n")
    convert("microlens", source, tmp_path / "out")
    data = load(tmp_path / "out")
    assert [item.title for item in data.items.values()] == ["So, what now?", 'Say "hi", twice']
    assert list(data.interactions.rows()) == [("7", "1", TIME, None), ("7", "2", TIME + 1, None)]


def test_every_rejected_row_is_counted_by_its_reason(source, tmp_path):
    put(source, "movies.csv", "movieId,title,genres\n1,Heat,Action\n1,Heat again,Action\n,Nameless,Drama\n2,Short\n")
    put(
        source,
        "ratings.csv",
        lines("userId,movieId,rating,timestamp", "1,1,4.0,964982703", "1,1,nan,964982703", "1,1,4.0,soon")
        + lines("1,9,4.0,964982703", ",1,4.0,964982703", "1,1,4.0", "1,1,4.0,-5", "1,1,4.0,1e300", ""),
    )
    counts = convert("movielens", source, tmp_path / "out")
    assert lost(counts) == {
        "item: rejected: the id was there before": 1,
        "item: rejected: no id in the columns movieId, title, genres": 1,
        "item: rejected: too few or too many cells": 1,
        "interaction: rejected: the rating is no finite number": 1,
        "interaction: rejected: no time that is a number in the columns userId, movieId, rating, timestamp": 1,
        "interaction: rejected: the item is not in the item file": 1,
        "interaction: rejected: no user id in the columns userId, movieId, rating, timestamp": 1,
        "interaction: rejected: too few or too many cells": 1,
        "interaction: rejected: the time is outside the years 1970 to 2099": 2,
    }
    assert "| interactions | rejected: the time is outside the years 1970 to 2099 | 2 |" in str(counts)
    assert len(load(tmp_path / "out").interactions) == 1


def test_the_core_is_cut_until_nothing_more_falls_out(source, tmp_path):
    put(source, "movies.csv", lines("movieId,title,genres", *(f"{n},M{n},X" for n in range(1, 5))))
    pairs = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (3, 3), (4, 4)]  # 4 falls, then 3 because its item 3 does
    put(source, "ratings.csv", lines("userId,movieId,rating,timestamp", *(f"{u},{i},4,{TIME + i}" for u, i in pairs)))
    counts = convert("movielens", source, tmp_path / "out", min_events=2)
    assert [(u, i) for u, i, *_ in load(tmp_path / "out").interactions.rows()] == [
        ("1", "1"),
        ("1", "2"),
        ("2", "1"),
        ("2", "2"),
    ]
    assert list(load(tmp_path / "out").items) == ["1", "2"]
    assert str(counts).splitlines()[-3:] == [
        "2-core, round 1: 1 users, 2 items and 2 interactions dropped; 3, 2 and 5 left",
        "2-core, round 2: 1 users, 0 items and 1 interactions dropped; 2, 2 and 4 left",
        "2-core: nothing more to drop after 2 rounds",
    ]
    assert lost(counts) == {
        "item: left out: not in the 2-core": 2,
        "interaction: left out: not in the 2-core": 3,
    }


def test_items_without_an_interaction_are_left_out_from_one_on(source, tmp_path):
    movielens(source)
    with (source / "movies.csv").open("a") as file:
        file.write("3,Seen by nobody,Drama\n")
    assert convert("movielens", source, tmp_path / "all").items.kept == 3
    counts = convert("movielens", source, tmp_path / "seen", min_events=1)
    assert list(load(tmp_path / "seen").items) == ["1", "2"]
    assert lost(counts) == {"item: left out: not in the 1-core": 1}
    assert not counts.rounds


def test_a_quote_that_is_never_closed_is_counted_and_the_films_after_it_are_kept(source, tmp_path):
    films = [f"{n},Film {n},Drama" for n in range(1, 31)]
    films[2], films[18] = '3,"Broken title,Drama', '19,"The ""Film"" 18",Drama'
    put(source, "movies.csv", lines("movieId,title,genres", *films))
    put(source, "ratings.csv", lines("userId,movieId,rating,timestamp", f"1,1,4,{TIME}"))
    counts = convert("movielens", source, tmp_path / "out")
    assert (counts.items.read, counts.items.kept) == (30, 29)
    assert lost(counts) == {"item: rejected: a quote is opened and not closed on its line": 1}
    assert load(tmp_path / "out").items["19"].title == 'The "Film" 18'


def test_seconds_where_milliseconds_are_published_are_rejected(source, tmp_path):
    put(source, "x_titles.csv", "item,title\n1,Kite\n")
    put(source, "x_pairs.csv", lines("user,item,timestamp", f"7,1,{TIME}", f"8,1,{TIME}000"))
    counts = convert("microlens", source, tmp_path / "out")
    assert lost(counts) == {"interaction: rejected: the time looks like seconds; multiply by 1000": 1}


def test_a_picture_that_is_a_link_out_of_its_folder_is_not_copied(source, tmp_path):
    movielens(source)
    pictures = tmp_path / "posters"
    pictures.mkdir()
    Pillow.new("RGB", (8, 12), "teal").save(tmp_path / "secret.png")
    Pillow.new("RGB", (8, 12), "red").save(pictures / "poster.png")
    (pictures / "1.png").symlink_to(tmp_path / "secret.png")
    (pictures / "2.png").symlink_to("poster.png")
    counts = convert("movielens", source, tmp_path / "out", images=pictures)
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["2.png"]
    assert counts.images == 1
    assert "(1 with an image; 1 pictures are links out of their folder, and left out)" in str(counts)
    assert counts.to_object()["links_out"] == 1
    assert load(tmp_path / "out", strict=True).items["1"].image is None


def test_pictures_named_by_item_id_are_copied(source, tmp_path):
    movielens(source)
    pictures = tmp_path / "posters"
    pictures.mkdir()
    Pillow.new("RGB", (8, 12), "teal").save(pictures / "2.png")
    Pillow.new("RGB", (8, 12), "red").save(pictures / "99.png")
    counts = convert("movielens", source, tmp_path / "out", images=pictures)
    data = load(tmp_path / "out")
    assert counts.images == 1
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["2.png"]
    assert (data.items["1"].image is None, data.items["2"].image is None) == (True, False)


def test_a_very_long_line_is_rejected_and_the_next_one_read(source, tmp_path):
    movielens(source)
    (source / "movies.csv").unlink()
    (source / "ratings.csv").unlink()
    long = json.dumps({"parent_asin": "P0", "title": "x" * MAX_LINE_BYTES})
    put(source, "meta_Toys.jsonl", lines(long, {"parent_asin": "P1", "title": "Kite"}))
    put(source, "Toys.jsonl", lines({"user_id": "U", "parent_asin": "P1", "timestamp": TIME * 1000}))
    counts = convert("amazon-2023", source, tmp_path / "out")
    assert lost(counts) == {"item: rejected: line is longer than 4 MiB": 1}
    assert list(load(tmp_path / "out").items) == ["P1"]


def test_a_truncated_archive_is_named_and_nothing_is_written(source, tmp_path):
    put(source, "meta_Toys.json.gz", lines({"asin": "B1", "title": "Boat"}))
    put(
        source,
        "reviews_Toys.json.gz",
        lines(*({"reviewerID": f"A{n}", "asin": "B1", "unixReviewTime": TIME} for n in range(5000))),
    )
    whole = (source / "reviews_Toys.json.gz").read_bytes()
    (source / "reviews_Toys.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"reviews_Toys.json.gz breaks off after line \d+"):
        convert("amazon-2014", source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_half_a_character_in_a_title_is_replaced(source, tmp_path):
    put(source, "meta_Toys.jsonl", '{"parent_asin": "P1", "title": "Kite \\ud83d!"}\n')
    put(source, "Toys.jsonl", lines({"user_id": "U", "parent_asin": "P1", "timestamp": TIME * 1000}))
    convert("amazon-2023", source, tmp_path / "out")
    assert load(tmp_path / "out").items["P1"].title == "Kite ?!"


def test_wrong_columns_end_in_a_sentence_that_names_those_found(source, tmp_path):
    put(source, "movies.csv", "movieId,title,genres\n1,Heat,Action\n")
    put(source, "ratings.csv", "user,movie,stars\n1,1,4\n")
    with pytest.raises(DatasetError, match="no user id in the columns user, movie, stars"):
        convert("movielens", source, tmp_path / "out")


def test_an_unknown_kind_names_those_known(tmp_path):
    with pytest.raises(InputError, match="'netflix'; take one of movielens, recbole, amazon-2014"):
        convert("netflix", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_file_names_what_is_wanted_and_what_is_there(kind, source, tmp_path):
    put(source, "readme.txt", "hello")
    with pytest.raises(DatasetError, match=r"it has readme\.txt"):
        convert(kind, source, tmp_path / "out")


def test_two_files_that_both_fit_are_not_guessed_between(source, tmp_path):
    movielens(source)
    put(source, "ratings.dat", "1::1::5::978300760\n")
    with pytest.raises(DatasetError, match=r"ratings\.csv and ratings\.dat; leave only the one"):
        convert("movielens", source, tmp_path / "out")


def test_a_folder_that_holds_a_dataset_is_not_overwritten(source, tmp_path):
    movielens(source)
    convert("movielens", source, tmp_path / "out")
    with pytest.raises(DatasetError, match="already holds a dataset"):
        convert("movielens", source, tmp_path / "out")


def test_what_is_in_the_way_is_not_overwritten(source, tmp_path):
    movielens(source)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="is not empty"):
        convert("movielens", source, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_an_empty_folder_is_filled_and_remains_of_a_kill_are_swept_away(source, tmp_path):
    movielens(source)
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.converting").mkdir()
    (tmp_path / ".out.converting" / "items.csv").write_text("half")
    convert("movielens", source, tmp_path / "out")
    assert len(load(tmp_path / "out").items) == 2
    assert not (tmp_path / ".out.converting").exists()


def test_a_second_conversion_into_the_same_folder_is_refused_and_the_first_keeps_its_files(source, tmp_path):
    movielens(source)
    staged = tmp_path / ".out.converting"
    staged.mkdir()
    (staged / "items.csv").write_text("half")
    first = os.open(staged, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    with pytest.raises(DatasetError, match=r"another conversion is writing .*; wait for it, or name"):
        convert("movielens", source, tmp_path / "out")
    assert (staged / "items.csv").read_text() == "half"
    os.close(first)
    convert("movielens", source, tmp_path / "out")
    assert len(load(tmp_path / "out").items) == 2


def test_the_threshold_is_written_counted_and_by_itself_leaves_nothing_out(source, tmp_path):
    movielens(source)
    counts = convert("movielens", source, tmp_path / "out", rating_threshold=4)
    assert load(tmp_path / "out").rating_threshold == 4.0
    assert (counts.liked, counts.interactions.kept) == (2, 3)
    assert "rated 4 or better: 2 of the kept interactions, 66.7%" in str(counts)


@pytest.mark.parametrize("asked", [{}, {"min_events": 2}, {"rating_threshold": 4, "liked_only": True}])
def test_a_folder_whose_rows_are_others_than_were_kept_is_refused(source, tmp_path, asked):
    put(source, "movies.csv", lines("movieId,title,genres", "1,A,X", "2,B,X", "3,C,X"))
    rated = ["1,1,5,100", "1,1,5,100", "1,2,1e39,150", "1,2,4,200", "2,1,4,300", "2,2,4,400", "3,3,1,500"]
    put(source, "ratings.csv", lines("userId,movieId,rating,timestamp", *rated))
    counts = convert("movielens", source, tmp_path / "out", **asked)
    assert counts.interactions.rejected == {"the rating is no finite number": 1}
    kept = {"users": counts.users, "items": counts.items.kept, "interactions": counts.interactions.kept}
    assert tomllib.loads((tmp_path / "out" / "dataset.toml").read_text())["expected"] == kept
    assert kept["interactions"] == (4 if asked else 5)
    load(tmp_path / "out", strict=True)
    table = tmp_path / "out" / "interactions.csv"
    for rows in (table.read_text().splitlines()[:-1], [*table.read_text().splitlines(), "1,2,4.0,999"]):
        table.write_text("\n".join(rows) + "\n")
        with pytest.raises(DatasetError, match=r"dataset\.toml expects \d (users|interactions), \d can be used"):
            load(tmp_path / "out")


@pytest.mark.parametrize("rating", [[5], {"a": 5}, True, "five"])
def test_a_rating_that_is_no_number_is_rejected_whatever_it_is(source, tmp_path, rating):
    put(source, "meta_A.jsonl", lines(*(json.dumps({"parent_asin": f"B{n}", "title": "x"}) for n in range(2))))
    rated = enumerate((rating, 4.0))
    rows = ({"user_id": "u", "parent_asin": f"B{n}", "timestamp": 1600000000000 + n, "rating": r} for n, r in rated)
    put(source, "A.jsonl", lines(*map(json.dumps, rows)))
    counts = convert("amazon-2023", source, tmp_path / "out")
    assert counts.interactions.rejected == {"the rating is no finite number": 1}


def test_what_is_not_liked_is_left_out_before_the_core(source, tmp_path):
    put(source, "movies.csv", lines("movieId,title,genres", "1,A,X", "2,B,X"))
    rated = [(1, 1, 5), (1, 2, 4), (2, 1, 4), (2, 2, 3.5), (3, 1, ""), (3, 2, 5)]
    put(source, "ratings.csv", lines("userId,movieId,rating,timestamp", *(f"{u},{i},{r},{TIME}" for u, i, r in rated)))
    counts = convert("movielens", source, tmp_path / "out", rating_threshold=4, liked_only=True, min_events=1)
    assert lost(counts) == {"interaction: left out: rated below 4 or not rated": 2}
    with pytest.raises(DatasetError, match="2 × interaction: left out: rated below 4"):
        convert("movielens", source, tmp_path / "none", rating_threshold=4, liked_only=True, min_events=3)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"liked_only": True}, "depends on a rating threshold"),
        ({"rating_threshold": float("nan")}, "no finite number"),
        ({"most_images": 5}, "bounds their download"),
        ({"download_images": True}, "not published with URLs"),
        ({"download_images": True, "images": "posters"}, "not both"),
    ],
)
def test_options_that_do_not_fit_are_refused(asked, word, source, tmp_path):
    movielens(source)
    with pytest.raises(InputError, match=word):
        convert("movielens", source, tmp_path / "out", **asked)
    with pytest.raises(InputError, match="microlens has no ratings"):
        convert("microlens", source, tmp_path / "out", rating_threshold=4)


def test_exact_repeats_are_left_out_and_a_second_visit_is_not(source, tmp_path):
    put(source, "movies.csv", lines("movieId,title,genres", "1,A,X"))
    rows = [f"1,1,4,{TIME}", f"1,1,4,{TIME + 1}", f"1,1,4,{TIME}", f"1,1,5,{TIME}", f"2,1,,{TIME}", f"2,1,,{TIME}"]
    put(source, "ratings.csv", lines("userId,movieId,rating,timestamp", *rows))
    counts = convert("movielens", source, tmp_path / "out")
    assert lost(counts) == {"interaction: left out: the same was there before": 2}
    assert load(tmp_path / "out").report.rows_kept == 4 + 1  # and the loader agrees


def test_ids_that_no_dataset_folder_takes_are_rejected_here(source, tmp_path):
    put(source, "meta_Toys.jsonl", lines({"parent_asin": "P1", "title": "Kite"}, {"parent_asin": "P" * 257}))
    reviews = [{"user_id": user, "parent_asin": "P1", "timestamp": TIME * 1000} for user in ("U", "U" * 257, "U\u0007")]
    put(source, "Toys.jsonl", lines(*reviews))
    counts = convert("amazon-2023", source, tmp_path / "out")
    assert lost(counts) == {
        "item: rejected: item id longer than 256 characters; shorten it": 1,
        "interaction: rejected: user id longer than 256 characters; shorten it": 1,
        "interaction: rejected: user id with control characters; remove them": 1,
    }


def test_a_cell_of_any_length_can_be_read_back(source, tmp_path):
    put(source, "meta_Toys.jsonl", lines({"parent_asin": "P1", "title": "Kite", "description": ["x" * 300_000]}))
    put(source, "Toys.jsonl", lines({"user_id": "U", "parent_asin": "P1", "timestamp": TIME * 1000}))
    convert("amazon-2023", source, tmp_path / "out")
    assert len(load(tmp_path / "out").items["P1"].attributes["description"]) == 1000


RATINGS = {
    "amazon-2014": ("ratings_Toys.csv", "A1,B01,5.0,1252800000\n", "meta_Toys.json", {"asin": "B01"}),
    "amazon-2018": ("Toys.csv", "B01,A1,5.0,1252800000\n", "meta_Toys.json", {"asin": "B01"}),
    "amazon-2023": (
        "Toys.csv.gz",
        "user_id,parent_asin,rating,timestamp\nA1,B01,5.0,1252800000123\n",
        "meta_Toys.jsonl.gz",
        {"parent_asin": "B01"},
    ),
}


@pytest.mark.parametrize("kind", RATINGS)
def test_the_ratings_alone_are_read_as_well_in_the_order_of_their_year(kind, source, tmp_path):
    name, rows, meta_name, meta = RATINGS[kind]
    put(source, name, rows)
    put(source, meta_name, lines({**meta, "title": "Tutu"}))
    convert(kind, source, tmp_path / "out")
    assert list(load(tmp_path / "out").interactions.rows()) == [("A1", "B01", 1252800000, 5.0)]


def test_pictures_of_ids_that_are_no_file_names_are_found_again(source, tmp_path):
    put(source, "x.item", lines("item_id:token\ttitle:token_seq", "a b\tKite"))
    put(source, "x.inter", lines("user_id:token\titem_id:token\ttimestamp:float", f"u\ta b\t{TIME}"))
    pictures = tmp_path / "covers"
    pictures.mkdir()
    Pillow.new("RGB", (8, 12), "teal").save(pictures / "a b.png")
    convert("recbole", source, tmp_path / "out", images=pictures)
    assert [path.stem for path in (tmp_path / "out" / "images").iterdir()] == [image_stem("a b")]
    assert load(tmp_path / "out").items["a b"].image is not None


def test_the_same_dump_makes_the_same_bytes_wherever_they_are(source, tmp_path, monkeypatch):
    movielens(source)
    convert("movielens", source, tmp_path / "a", min_events=1)
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    convert("movielens", source, ".", min_events=1)
    made = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"]
    assert made[0] == made[1]
    assert made[0].keys() == {"items.csv", "interactions.csv", "conversion.json", "dataset.toml"}


def test_a_conversion_is_told_again_from_its_record(source, tmp_path):
    movielens(source)
    counts = convert("movielens", source, tmp_path / "out", min_events=1, rating_threshold=4)
    record = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert str(Conversion.of(record["made"], folder=tmp_path / "out")) == str(counts)
