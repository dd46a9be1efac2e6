"""Where published items have their pictures, in all their spellings."""

import pytest

from srec.data.published import picture_url

MAIN = {"variant": "MAIN", "thumb": "t", "large": "l", "hi_res": "h"}
BACK = {"variant": "PT01", "thumb": "t1", "large": "l1", "hi_res": None}


@pytest.mark.parametrize(
    ("cell", "url"),
    [
        ("http://x/y.jpg ", "http://x/y.jpg"),
        (["", "http://x/1.jpg", "http://x/2.jpg"], "http://x/1.jpg"),
        ([BACK, MAIN], "l"),
        ([{**MAIN, "large": None}], "h"),
        ({"variant": ["PT01", "MAIN"], "large": ["l1", None], "hi_res": [None, "h"], "thumb": ["t1", "t"]}, "h"),
        ({"variant": [], "large": [], "hi_res": [], "thumb": []}, ""),
        ({"large": "l"}, ""),
        ([], ""),
        (None, ""),
        (7, ""),
        ([[["x"]]], ""),
    ],
)
def test_the_main_picture_is_found_in_every_spelling(cell, url):
    assert picture_url({"images": cell}, ["images"]) == url


def test_the_better_of_two_columns_wins_if_it_has_a_picture():
    names = ["imageURLHighRes", "imageURL"]
    assert picture_url({"imageURL": ["small"], "imageURLHighRes": ["large"]}, names) == "large"
    assert picture_url({"imageURL": ["small"], "imageURLHighRes": []}, names) == "small"
