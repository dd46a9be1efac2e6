import json

import pytest
from pyarrow import json as arrow

from srec.errors import InputError
from srec.learn.rows import Row, digest_of_rows, line_of, read_rows, write_rows

PICTURE = f"images/{'0' * 64}.png"


def row(**changed):
    messages = ({"role": "user", "content": "Will it do?"}, {"role": "assistant", "content": "Yes."})
    return Row(**{"stage": "scoring.judge", "messages": messages, **changed})


def seen(**changed):
    content = [{"type": "text", "text": "Look: "}, {"type": "image"}]
    messages = ({"role": "user", "content": content}, {"role": "assistant", "content": "Yes."})
    return row(**{"messages": messages, "images": (PICTURE,), **changed})


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [row(case_id="u1@5", label=True, at=5, weight=0.5), seen(score=0.25, saw_answer=True, teacher="größe")]
    assert write_rows(tmp_path / "new" / "rows.jsonl", rows) == 2
    assert list(read_rows(tmp_path / "new" / "rows.jsonl")) == rows


def test_a_line_is_plain_json_with_messages_and_images(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [seen()])
    line = json.loads((tmp_path / "rows.jsonl").read_text("utf-8"))
    assert line["messages"][0]["content"][1] == {"type": "image"}
    assert line["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}
    assert line["images"] == [PICTURE]


def test_messages_of_a_file_without_pictures_are_texts(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [row()])
    line = json.loads((tmp_path / "rows.jsonl").read_text("utf-8"))
    assert line["messages"][-1] == {"role": "assistant", "content": "Yes."}


def test_a_reader_of_columns_takes_texts_and_pictures_in_one_file(tmp_path):
    rows = [row(at=5, label=True), seen(score=0.25), row(at=None), *[seen(label=False)] * 9]
    write_rows(tmp_path / "rows.jsonl", rows)
    table = arrow.read_json(tmp_path / "rows.jsonl")
    content = table["messages"].to_pylist()[0][-1]["content"]
    assert [block["text"] for block in content] == ["Yes."]
    assert table["images"].to_pylist()[1] == [PICTURE]
    assert list(read_rows(tmp_path / "rows.jsonl")) == rows
    assert digest_of_rows(list(read_rows(tmp_path / "rows.jsonl"))) == digest_of_rows(rows)


def test_a_file_with_texts_beside_blocks_is_read_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{line_of(one)}\n" for one in (row(), seen())), "utf-8")
    assert list(read_rows(path)) == [row(), seen()]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"messages": ({"role": "user", "content": "?"},)}, "assistant"),
        ({"messages": ({"role": "user", "content": "?"}, {"role": "assistant", "content": ""})}, "empty answer"),
        ({"images": (PICTURE,)}, "0 image blocks and 1 images"),
        ({"weight": -1.0}, "weight"),
    ],
)
def test_what_cannot_be_a_row_is_refused(changed, told):
    with pytest.raises(InputError, match=told):
        row(**changed)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "images/a.png", f"images/{'0' * 64}.gif"])
def test_an_image_outside_its_folder_is_refused(name):
    with pytest.raises(InputError, match="images/<sha256>"):
        seen(images=(name,))


@pytest.mark.parametrize("line", ["{", '{"stage": "a"}', '{"stage": "a", "messages": [], "extra": 1}', "[]"])
def test_an_error_names_file_and_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row()])
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: "):
        list(read_rows(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_a_failed_write_leaves_what_was_there(tmp_path):
    def broken():
        yield row()
        raise ValueError

    write_rows(tmp_path / "rows.jsonl", [row()])
    with pytest.raises(ValueError):
        write_rows(tmp_path / "rows.jsonl", broken())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert len(list(read_rows(tmp_path / "rows.jsonl"))) == 1


def test_the_digest_tells_rows_apart_and_their_order():
    one, other = row(), row(label=True)
    assert digest_of_rows([one, other]) == digest_of_rows([one, other]) != digest_of_rows([other, one])
