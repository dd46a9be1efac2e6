import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from srec.data.candidate_file import check_writable, from_trec, replace_file, to_trec
from srec.data.cases import cases
from srec.data.folder import Dataset
from srec.errors import CandidateError
from srec.types import Item

pytestmark = pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")

START = 1_000_000_000
ITEMS = [f"i{number:02}" for number in range(20)]


@pytest.fixture
def data():
    rows = [
        (user, ITEMS[(7 * at + number) % 20], START + at, 5.0) for number, user in enumerate("uvwx") for at in range(4)
    ]
    return Dataset.of("world", [Item(item_id=item) for item in ITEMS], rows)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "candidates.jsonl"


@pytest.fixture
def edit(data, path):
    """Writes a candidate file, after `change` was applied to the object of one line."""

    def write(number, change, **options):
        cases(data, **{"candidates": "uniform:3"} | options).write(path)
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        change(rows[number - 1])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    return write


@pytest.mark.parametrize("candidates", ["full", "uniform:3", "popularity:2"])
@pytest.mark.parametrize(("task", "protocol"), [("next", "leave-last-out"), ("like:4.0", "global-time")])
def test_a_file_gives_back_the_cases_and_is_written_again_with_the_same_bytes(data, path, candidates, task, protocol):
    written = cases(data, task=task, protocol=protocol, candidates=candidates, seed=4)
    written.write(path)
    read = cases(data, task=task, protocol=protocol, candidates=f"file:{path}", seed=4)
    assert list(read) == list(written)
    assert read.candidates == candidates
    read.write(path.with_name("again"))
    assert path.with_name("again").read_bytes() == path.read_bytes()


def test_the_file_is_a_header_and_one_object_per_case(data, path):
    cases(data, candidates="uniform:3", users=1).write(path)
    header, line = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert header == {
        "format": "srec-candidates-1", "task": "next", "protocol": "leave-last-out", "candidates": "uniform:3", "seed": 0,
        "users": 1,
    }  # fmt: skip
    assert list(line) == ["case_id", "user_id", "at", "targets", "candidates"]
    assert line["case_id"] == f"{line['user_id']}@{START + 3}"
    assert len(line["candidates"]) == 4


def test_fewer_users_may_read_a_file_of_more(data, path):
    cases(data, candidates="uniform:3").write(path)
    assert list(cases(data, candidates=f"file:{path}", users=2)) == list(cases(data, candidates="uniform:3", users=2))


def test_more_users_than_the_file_holds_are_refused(data, path):
    cases(data, candidates="uniform:3", users=2).write(path)
    with pytest.raises(
        CandidateError,
        match=r"line 3: the file ends here without 2 of 4 cases, first '.@\d+'; it was written with users=2",
    ):
        cases(data, candidates=f"file:{path}")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seed": 1}, "line 1: the file was written with seed=0, asked for is seed=1; ask for 0"),
        ({"task": "like:4.0"}, "line 1: the file was written with task='next', asked for is task='like:4.0'"),
        ({"protocol": "global-time"}, "line 1: the file was written with protocol='leave-last-out'"),
    ],
)
def test_a_file_made_with_other_options_is_refused(data, path, options, sentence):
    cases(data, candidates="uniform:3").write(path)
    with pytest.raises(CandidateError, match=sentence):
        cases(data, candidates=f"file:{path}", **options)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"user_id": "nobody"}, "line 3: user 'nobody' is not in the dataset"),
        ({"user_id": "u"}, "line 3: the dataset has no case 'v@1000000003' of user 'u' at 1000000003"),
        ({"at": START}, "line 3: the dataset has no case 'v@1000000003' of user 'v' at 1000000000"),
        ({"case_id": "v@5"}, "line 3: the dataset has no case 'v@5'"),
        ({"case_id": "u@1000000003"}, "line 3: case 'u@1000000003' is there twice"),
        ({"targets": ["i01"]}, r"line 3: the targets of case 'v@1000000003' are \['i01'\], the dataset says \['i02'\]"),
        ({"targets": []}, r"line 3: the targets of case 'v@1000000003' are \[\]"),
        ({"candidates": ["i02", "zzz"]}, "line 3: item 'zzz' is not in the dataset"),
        ({"candidates": ["i02", "i05", "i05"]}, "line 3: a candidate of case 'v@1000000003' is there twice"),
        ({"candidates": ["i02", "i01"]}, "line 3: the user of case 'v@1000000003' saw candidate 'i01' before"),
        ({"candidates": ["i05"]}, "line 3: a target of case 'v@1000000003' is not among its candidates"),
        ({"candidates": "i02"}, r"line 3 is not a case of a candidate file \(candidates: "),
        ({"at": "1000000003"}, r"line 3 is not a case of a candidate file \(at: "),
        ({"candidates": [1]}, r"line 3 is not a case of a candidate file \(candidates.0: "),
    ],
)
def test_a_line_that_does_not_fit_the_dataset_is_refused_with_its_number(data, path, edit, change, sentence):
    edit(3, lambda row: row.update(change))
    with pytest.raises(CandidateError, match=sentence) as told:
        cases(data, candidates=f"file:{path}")
    assert str(told.value).startswith(str(path))


def test_candidates_in_another_order_are_the_same_candidates(data, path, edit):
    edit(2, lambda row: row["candidates"].reverse())
    assert list(cases(data, candidates=f"file:{path}")) == list(cases(data, candidates="uniform:3"))


def test_a_retriever_s_file_may_miss_targets_and_is_read_without_the_retriever(data, path):
    written = cases(data, candidates="retriever:3", retriever=lambda history, n: ITEMS[:n])
    written.write(path)
    read = cases(data, candidates=f"file:{path}")
    assert list(read) == list(written)
    assert any(not set(case.target_ids) & {item.item_id for item in case.candidates} for case in read)


def test_a_file_from_other_cut_offs_is_refused(data, path):
    cases(data, protocol="global-time", cutoffs=[START + 2]).write(path)
    with pytest.raises(CandidateError, match=r"line 2: the dataset has no case 'u@1000000002'.*the cut-offs"):
        cases(data, protocol="global-time", cutoffs=[START + 3], candidates=f"file:{path}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\n", "line 1 is not the header of a candidate file"),
        (b"\xff\xfe\x00", "line 1 is not the header of a candidate file"),
        (b"[1, 2", "line 1 is not the header of a candidate file"),
        (b'{"case_id": "u@1"}\n', r"line 1 is not the header of a candidate file \(task: Field required\)"),
        (b'{"format": "other", "task": "next"}\n', "line 1 is not the header of a candidate file .format: "),
    ],
)
def test_what_is_no_candidate_file_is_refused(data, path, content, sentence):
    path.write_bytes(content)
    with pytest.raises(CandidateError, match=sentence):
        cases(data, candidates=f"file:{path}")


def test_a_cut_line_is_refused_with_its_number(data, path):
    cases(data, candidates="uniform:3").write(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CandidateError, match="line 5 is not a case of a candidate file"):
        cases(data, candidates=f"file:{path}")


def test_a_missing_file_and_a_folder_are_refused(data, tmp_path):
    with pytest.raises(CandidateError, match=r"cannot read candidate file .*none.jsonl: No such file"):
        cases(data, candidates=f"file:{tmp_path / 'none.jsonl'}")
    with pytest.raises(CandidateError, match=r"cannot read candidate file .*: Is a directory"):
        cases(data, candidates=f"file:{tmp_path}")


def test_ids_of_any_kind_survive_the_file(path):
    items = [Item(item_id=item) for item in ['a "quoted"', "line\u2028break", "ü\n", "\U0001f600", "%20"]]
    rows = [("用户 1@2", item.item_id, START + at, None) for at, item in enumerate(items)]
    data = Dataset.of("odd", items, rows)
    cases(data).write(path)
    assert list(cases(data, candidates=f"file:{path}")) == list(cases(data))
    assert "用户" in path.read_text("utf-8")


def test_trec_qrels_hold_the_targets(data, path):
    cases(data, users=2).write_trec_qrels(path)
    rows = [line.split() for line in path.read_text("utf-8").splitlines()]
    assert rows == [[case.case_id, "0", case.target_ids[0], "1"] for case in cases(data, users=2)]


def test_trec_candidates_hold_every_candidate_without_a_score(data, path):
    cases(data, users=1, candidates="uniform:3").write_trec_candidates(path)
    (case,) = cases(data, users=1, candidates="uniform:3")
    rows = [line.split() for line in path.read_text("utf-8").splitlines()]
    assert rows == [
        [case.case_id, "Q0", item.item_id, str(rank), "0", "candidates"] for rank, item in enumerate(case.candidates, 1)
    ]


def test_other_tools_read_the_qrels(data, path):
    ir_measures = pytest.importorskip("ir_measures")
    cases(data).write_trec_qrels(path)
    read = [(row.query_id, row.doc_id, row.relevance) for row in ir_measures.read_trec_qrels(str(path))]
    assert read == [(case.case_id, case.target_ids[0], 1) for case in cases(data)]


@pytest.mark.parametrize("name", ["plain", "two words", "100%", "%20", "a\tb\nc", "no\u00a0break", "\x1c", "ü"])
def test_any_name_is_one_word_in_trec_and_comes_back(name):
    assert to_trec(name).split() == [to_trec(name)]
    assert from_trec(to_trec(name)) == name


def test_an_unfinished_write_leaves_the_older_file_and_no_draft(path):
    path.write_text("older")

    def lines():
        yield "new\n"
        raise ConnectionError("the retriever is gone")

    with pytest.raises(ConnectionError, match="the retriever is gone"):
        replace_file(path, lines())
    assert path.read_text() == "older"
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_takes_no_more_is_a_sentence_and_leaves_the_older_file(path):
    path.write_text("older")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(CandidateError, match=r"cannot write .*candidates.jsonl: File too large; check the folder"):
            replace_file(path, ("x" * 1000 for _ in range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "older"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_a_sentence(path):
    path.write_text("a file")
    with pytest.raises(CandidateError, match=r"cannot write .*: (File exists|Not a directory)"):
        replace_file(path / "below" / "it", ["x"])


def test_what_cannot_be_written_is_known_before(path):
    path.write_text("older")
    check_writable(path)
    assert path.read_text() == "older"
    assert list(path.parent.iterdir()) == [path]
    check_writable("/dev/null")
    for nowhere, why in ((path.parent, "a folder"), (path / "below", "File exists|Not a directory")):
        with pytest.raises(CandidateError, match=rf"cannot write .*: ({why}|it is {why})"):
            check_writable(nowhere)


def test_missing_folders_are_made(path):
    replace_file(path.parent / "a" / "b" / "c", ["x"])
    assert (path.parent / "a" / "b" / "c").read_text() == "x"


def test_what_stands_for_standard_output_is_written_to(tmp_path):
    code = "from srec.data.candidate_file import replace_file; replace_file('/dev/stdout', ['a line\\n'])"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "a line\n"
    assert Path("/dev/stdout").is_symlink()


def test_a_device_stays_a_device_and_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        replace_file(pipe, ["a line\n"])
        assert read.result(timeout=10) == "a line\n"
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
