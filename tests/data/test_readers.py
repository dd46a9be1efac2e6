"""How published files are read: literals of Python without their dangers, titles with their commas."""

import subprocess
import sys
import time

import pytest

from srec.data.readers import LITERAL, UNCLOSED, UNREADABLE, id_and_title, json_lines, split, table
from srec.errors import DatasetError

HOSTILE = {
    "a call": "{'asin': __import__('os').getcwd()}",
    "a name": "{'asin': open}",
    "a sum": "{'price': 1" + "+1" * 1000 + "}",
    "a sum with blanks": "{'price': 1" + " - 1" * 200_000 + "}",
    "signs": "{'price': " + "-" * 200_000 + "1}",
    "a comprehension": "{'asin': [x for x in 'ab']}",
    "a format string": "{'asin': f'{1}'}",
    "too many brackets": "{'asin': " + "[" * 5000 + "]" * 5000 + "}",
    "braces of JSON": '{"asin": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "a number without end": "{'price': " + "9" * 100_000 + "}",
    "an attribute": "{'asin': ''.join(['a'])}",
    "an open string": "{'asin': 'B01}",
    "a set of lists": "{['a'], ['b']}",
    "no object": "['asin']",
    "more than a mebibyte": "{'asin': '" + "x" * 2**20 + "'}",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_plain_literal_is_no_row(line, tmp_path):
    """In a process of its own: what some of these did to Python's parser was to end the process."""
    (tmp_path / "meta.json").write_text(line + "\n{'asin': 'B02'}\n")
    code = "import sys; from pathlib import Path; from srec.data.readers import json_lines"
    code += "; print([row for row in json_lines(Path(sys.argv[1]))])"
    child = [sys.executable, "-c", code, str(tmp_path / "meta.json")]
    done = subprocess.run(child, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "['line is no object', {'asin': 'B02'}]\n", done.stderr


@pytest.mark.parametrize("what", ["a call", "a name", "a sum", "a sum with blanks", "signs", "an attribute"])
def test_operators_and_names_do_not_even_reach_the_parser(what):
    assert not LITERAL.fullmatch(HOSTILE[what])


@pytest.mark.parametrize(
    "line", ["{'" + "\\\\a" * 2**19, "{" + "1," * 2**19 + "x", "{" + " " * 2**20 + "x", "{" + "'a'" * 2**18]
)
def test_a_long_line_is_looked_at_once(line):
    began = time.perf_counter()
    LITERAL.fullmatch(line)
    assert time.perf_counter() - began < 2  # some 20 ms


def test_literals_of_2014_are_read_whole(tmp_path):
    line = (
        r"""{'asin': 'B01', 'title': "Kid's \"Tutu\" \u00e9", 'price': -3.17e1, 'imUrl': None, 'ok': True, """
        r"""'related': {'also_bought': ['B02', 'B03']}, 'salesRank': {}, 'categories': [['A, B', 'C: {D}'], ()]}"""
    )
    (tmp_path / "meta.json").write_text(line + "\n")
    assert list(json_lines(tmp_path / "meta.json")) == [
        {
            "asin": "B01",
            "title": 'Kid\'s "Tutu" é',
            "price": -31.7,
            "imUrl": None,
            "ok": True,
            "related": {"also_bought": ["B02", "B03"]},
            "salesRank": {},
            "categories": [["A, B", "C: {D}"], ()],
        }
    ]


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("So, what now?", "So, what now?"),
        ('"Say ""hi"", twice"', 'Say "hi", twice'),
        ('"Unclosed, as in MicroLens-1M', '"Unclosed, as in MicroLens-1M'),
        ('"', '"'),
        ("y" * 200_000, "y" * 200_000),
    ],
)
def test_titles_of_microlens_keep_their_commas_and_stray_quotation_marks(written, title, tmp_path):
    (tmp_path / "titles.csv").write_text(f"7,{written}\n")
    assert list(id_and_title(tmp_path / "titles.csv")) == [{"item": "7", "title": title}]


def test_a_quote_that_is_never_closed_costs_its_own_line_and_no_other(tmp_path):
    rows = ['1,"Say ""hi"", twice"', '2,"Broken title', "3,Heat", '4,"The ""Film"""', '5,"Cut off']
    (tmp_path / "movies.csv").write_text("\r\n".join(["movieId,title", *rows]))
    assert list(table(tmp_path / "movies.csv")) == [
        {"movieId": "1", "title": 'Say "hi", twice'},
        UNCLOSED,
        {"movieId": "3", "title": "Heat"},
        {"movieId": "4", "title": 'The "Film"'},
        UNCLOSED,
    ]


def test_a_carriage_return_within_a_line_of_csv_makes_it_no_row(tmp_path):
    (tmp_path / "movies.csv").write_bytes(b"movieId,title\n1,Heat\r2,Fire\n3,Ice\n")
    assert list(table(tmp_path / "movies.csv")) == [UNREADABLE, {"movieId": "3", "title": "Ice"}]


@pytest.mark.parametrize("read", [table, lambda path: split(path, separator=",")])
@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"movieId,title\r1,Heat\r2,Fire\r", "ends its lines by a carriage return alone; save it with line feeds"),
        ("movieId,title\n1,Heat\n".encode("utf-16"), "byte order mark of UTF-16; save it as UTF-8"),
        (b"\xfe\xff" + "movieId,title\n".encode("utf-16-be"), "byte order mark of UTF-16; save it as UTF-8"),
    ],
)
def test_a_file_of_which_no_line_can_be_told_is_refused_by_name(raw, word, read, tmp_path):
    (tmp_path / "movies.csv").write_bytes(raw)
    with pytest.raises(DatasetError, match=rf"movies\.csv .*{word}"):
        list(read(tmp_path / "movies.csv"))


def test_a_broken_header_of_csv_is_told(tmp_path):
    (tmp_path / "movies.csv").write_text('movieId,"title\n1,Heat\n')
    with pytest.raises(DatasetError, match="the first line names no columns: a quote is opened and not closed"):
        list(table(tmp_path / "movies.csv"))
