"""What `evaluate(out=)` keeps, and what is refused when it is read."""

import io
import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hostile_texts import HOSTILE, cases_of, functions, hostile_shop, optimized
from PIL import Image as Pillow

import srec
from srec.errors import InputError
from srec.evaluation.keeping import thumbnail
from srec.evaluation.run_folder import read_run_folder
from srec.types import Image


@pytest.fixture(scope="module")
def cases():
    return cases_of(hostile_shop(items=16, users=8, seed=3), users=3, candidates="uniform:5")


@pytest.fixture(scope="module")
def run(cases, tmp_path_factory):
    """A run, its report, and how often the LM was asked."""
    folder = tmp_path_factory.mktemp("kept")
    program, lm = optimized()
    report = srec.evaluate(cases, {"popularity": "popularity", "program": program}, lm=lm, out=folder, workers=2)
    return folder, report, len(lm.engine.prompts)


def test_keeping_a_run_asks_nothing_more(cases, run):
    program, lm = optimized()
    plain = srec.evaluate(cases, {"popularity": "popularity", "program": program}, lm=lm, workers=2)
    assert len(lm.engine.prompts) == run[2]
    assert plain.rankers["program"].metrics == run[1].rankers["program"].metrics
    assert plain.rankers["program"].lm_calls == run[2]


def test_the_calls_of_all_stages_add_up(run):
    row = run[1].rankers["program"]
    assert list(row.stages) == ["fusion", "preference", "profiling", "reasoning", "scoring"]
    for name in ("lm_calls", "cache_hits", "prompt_tokens", "output_tokens", "failures"):
        assert sum(getattr(stage, name) for stage in row.stages.values()) == getattr(row, name)
    assert row.stages["profiling"].lm_calls + row.stages["profiling"].cache_hits == 3
    assert all(stage.seconds > 0 for stage in row.stages.values())
    assert run[1].rankers["popularity"].stages == {}


def test_every_case_is_kept_with_what_the_program_made_of_it(cases, run):
    kept = read_run_folder(run[0])
    assert [case.case_id for case in kept.cases] == [case.case_id for case in cases]
    for case, given in zip(kept.cases, cases, strict=True):
        assert [event.at for event in case.events] == [event.at for event in given.history.events]
        made = case.made["program"]
        assert made.reason == HOSTILE[1]
        assert made.summaries[-1].until == given.history.until
        ranking = run[1].ranked("program", given.case_id)
        assert [row.item_id for row in made.ranked] == list(ranking.item_ids)
        assert set(case.made) == {"program"}
        assert all(kept.items[item_id].title is not None for item_id in (*given.target_ids, *ranking.item_ids))


def test_pictures_are_small_and_encoded_anew(run):
    kept = read_run_folder(run[0])
    data = kept.thumbnail(next(item for item in kept.items.values() if item.image))
    with Pillow.open(io.BytesIO(data)) as opened:
        assert opened.format == "WEBP"
        assert max(opened.size) <= 96


def test_a_thumbnail_has_nothing_but_the_picture():
    encoded = io.BytesIO()
    Pillow.new("RGB", (400, 200), "red").save(encoded, "JPEG", comment=b"<script>", exif=b"Exif\x00\x00secret")
    small = thumbnail(Image(data=encoded.getvalue(), width=400, height=200))
    assert b"script" not in small
    assert b"secret" not in small
    with Pillow.open(io.BytesIO(small)) as opened:
        assert opened.size == (96, 48)


def test_prompts_stand_beside_those_that_srec_ships(run):
    prompts = read_run_folder(run[0]).prompts["program"]
    assert len(prompts) == 8
    changed = [name for name, one in prompts.items() if one.plain != one.instructions]
    assert changed == ["scoring.judge"]
    assert prompts["profiling.describe"].fields == "summaries -> profile, traits"


def test_a_program_that_fails_on_a_user_keeps_the_others(cases, tmp_path):
    program = functions()
    profile, seen = program.profiling, []

    def once(summaries):
        seen.append(summaries[-1].user_id)
        if len(seen) == 1:
            raise InputError("no profile today")
        return profile(summaries)

    program.profiling = once
    srec.evaluate(cases, {"program": program}, out=tmp_path, workers=1)
    kept = read_run_folder(tmp_path)
    assert [bool(case.made) for case in kept.cases] == [False, True, True]


def test_half_a_surrogate_pair_does_not_lose_the_run(cases, tmp_path):
    program = functions()
    profile = program.profiling
    program.profiling = lambda summaries: replace(profile(summaries), text="half \ud800 of \u2028 it")
    srec.evaluate(cases, {"program": program}, out=tmp_path)
    assert {case.made["program"].profile.text for case in read_run_folder(tmp_path).cases} == {"half ? of \u2028 it"}


def test_what_else_is_in_the_folder_stays(cases, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    srec.evaluate(cases, ["random"], out=tmp_path)
    srec.evaluate(cases, ["random", "popularity"], out=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert list(read_run_folder(tmp_path).report["rankers"]) == ["random", "popularity"]
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]


def test_a_run_of_something_else_is_not_lost(cases, tmp_path):
    def rank(_):
        raise AssertionError("somebody was asked")

    srec.evaluate(cases, ["random", "popularity"], out=tmp_path)
    before = read_run_folder(tmp_path)
    fewer = cases.without({cases[0].user_id})
    for asked, rankers, why in (
        (cases, {"random": rank}, "it has 'popularity'"),
        (fewer, {"random": rank, "popularity": rank}, f"n {len(cases)}, not {len(fewer)}"),
    ):
        with pytest.raises(InputError, match=rf"holds a run of something else \({why}\), which would be lost"):
            srec.evaluate(asked, rankers, out=tmp_path)
    with pytest.raises(InputError, match=r"\(model '', not '"):
        srec.evaluate(cases, ["random", "popularity"], lm=optimized()[1], out=tmp_path)
    assert read_run_folder(tmp_path) == before


@pytest.mark.parametrize("damage", ["[]", "{", '{"rankers": 3}', '{"rankers": [[]]}', "[" * 200_000])
def test_half_a_run_and_a_damaged_one_are_replaced(damage, cases, tmp_path):
    srec.evaluate(cases, ["random"], out=tmp_path)
    (tmp_path / "report.json").write_text(damage)
    srec.evaluate(cases, ["popularity"], out=tmp_path)
    (tmp_path / "run.json").unlink()  # it is written last
    srec.evaluate(cases, ["content-knn"], out=tmp_path)
    assert list(read_run_folder(tmp_path).report["rankers"]) == ["content-knn"]


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a run folder: run\.json cannot be read"):
        read_run_folder(tmp_path)


def test_a_run_of_a_newer_srec_is_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"format": 99, "srec": "9.1", "files": {}}))
    with pytest.raises(InputError, match=r"written by srec 9\.1 in format 99"):
        read_run_folder(tmp_path)


def test_a_file_that_changed_is_refused_by_name(cases, tmp_path):
    srec.evaluate(cases, ["random"], out=tmp_path)
    with (tmp_path / "users.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"users\.jsonl is not as run\.json beside it says"):
        read_run_folder(tmp_path)
    (tmp_path / "items.jsonl").unlink()
    with pytest.raises(InputError, match=r"users.jsonl is not|items.jsonl cannot be read"):
        read_run_folder(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_before_anybody_ranks(cases, tmp_path):
    (tmp_path / "file").write_text("")

    def ranker(case):
        raise AssertionError("asked")

    with pytest.raises(InputError, match="the run cannot be kept in"):
        srec.evaluate(cases, ranker, out=tmp_path / "file" / "run")


@pytest.fixture
def copied(run, tmp_path):
    """A run of one's own, to be damaged."""
    return Path(shutil.copytree(run[0], tmp_path / "run"))


def sealed(folder):
    """Digests that fit whatever is in the files, as anybody can write them."""
    manifest = json.loads((folder / "run.json").read_text())
    manifest["files"] = {name: sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("written", [0, -1, 2])
def test_another_format_is_refused(copied, written):
    manifest = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps({**manifest, "format": written}))
    with pytest.raises(InputError, match=f"in format {written}, this one reads 1"):
        read_run_folder(copied)


def edited(report, change):
    change(report)
    return report


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.pop("notes"),
        lambda report: report.update(rankers={}),
        lambda report: report.update(shown_k=7),
        lambda report: report["chance"].pop("auc"),
        lambda report: report["rankers"]["popularity"]["metrics"]["ndcg@10"].update(value="<script>"),
        lambda report: report["rankers"]["popularity"]["metrics"]["ndcg@10"].update(low=None),
        lambda report: report["rankers"]["popularity"]["cases"].pop(),
        lambda report: report["rankers"]["program"]["calibration"].update(bins=[]),
        lambda report: report["rankers"]["program"]["fitting"].update(seconds="long"),
        lambda report: report["comparisons"][0].update(value=float("inf")),
    ],
)
def test_a_report_that_a_page_cannot_be_made_of_is_refused_although_its_digest_fits(copied, change):
    told = json.loads((copied / "report.json").read_text())
    (copied / "report.json").write_text(json.dumps(edited(told, change)))
    with pytest.raises(InputError, match=r"report\.json is damaged .*; evaluate again"):
        read_run_folder(sealed(copied))


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[1", b"[]"])
def test_a_report_that_is_no_json_object_is_refused_although_its_digest_fits(copied, data):
    (copied / "report.json").write_bytes(data)
    with pytest.raises(InputError, match=r"report\.json is damaged"):
        read_run_folder(sealed(copied))


@pytest.mark.parametrize("change", [lambda lines: lines[:1], lambda lines: lines[::-1], lambda _: []])
def test_users_other_than_those_of_the_report_are_refused(copied, change):
    lines = (copied / "users.jsonl").read_text().splitlines(keepends=True)
    (copied / "users.jsonl").write_text("".join(change(lines)))
    with pytest.raises(InputError, match=r"other cases than report\.json"):
        read_run_folder(sealed(copied))


def pictured(folder):
    """The run, and an item of it that has a thumbnail."""
    kept = read_run_folder(folder)
    return kept, next(item for item in kept.items.values() if item.image)


def test_a_thumbnail_that_is_a_link_shows_no_file_of_this_machine(copied, tmp_path):
    kept, item = pictured(copied)
    path = copied / "images" / f"{item.image}.webp"
    (tmp_path / "secret").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="is a link"):
        kept.thumbnail(item)


def test_a_folder_of_thumbnails_that_is_a_link_is_refused(copied, tmp_path):
    kept, item = pictured(copied)
    (copied / "images").rename(tmp_path / "elsewhere")
    (copied / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link"):
        kept.thumbnail(item)


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"RIFF\0\0\0\0WEBP" + bytes(100_000)])
def test_what_is_no_thumbnail_is_not_shown(copied, data):
    kept, item = pictured(copied)
    (copied / "images" / f"{item.image}.webp").write_bytes(data)
    with pytest.raises(InputError, match="no thumbnail that srec wrote"):
        kept.thumbnail(item)


def test_a_folder_of_runs_names_them(cases, tmp_path):
    srec.evaluate_seeds(lambda _: cases, ["random"], seeds=[0, 1], out=tmp_path)
    with pytest.raises(InputError, match=r"it holds runs; name one of .*seed-0, .*seed-1"):
        read_run_folder(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc, a folder in which nobody can write")
def test_a_folder_that_is_there_and_cannot_be_written_is_refused_before_anybody_ranks(cases):
    def rank(_):
        raise AssertionError("somebody was asked")

    with pytest.raises(InputError, match="cannot be kept in /proc/self"):
        srec.evaluate(cases, {"mine": rank}, out="/proc/self")
