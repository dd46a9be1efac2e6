"""The recipes from download to table, on dumps as documented, served from this machine."""

import gzip
import json
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evals.canned_server import serving as chatting
from srec.data.convert import convert
from srec.data.folder import load

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "evals" / "datasets"))

import dumps  # noqa: E402 (from evals/datasets)
import run as runner  # noqa: E402 (likewise)
import samples  # noqa: E402 (likewise)

from srec.errors import InputError  # noqa: E402 (after the folder is known)


class Mirror(BaseHTTPRequestHandler):
    """Files of a folder, whole or from a byte on; pictures for all else that ends in .jpg."""

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append((name, self.headers.get("Range")))
        path = self.server.folder / name
        body = path.read_bytes() if path.is_file() else samples.picture(len(name)) if name.endswith(".jpg") else None
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if body is not None and start >= len(body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(404 if body is None else 206 if start else 200)
        self.send_header("Content-Type", "image/jpeg" if name.endswith(".jpg") else "application/octet-stream")
        self.send_header("Content-Length", str(len((body or b"")[start:])))
        self.end_headers()
        self.wfile.write((body or b"")[start:][: self.server.most])

    def log_message(self, *_):
        """Nothing."""


@contextmanager
def mirror(folder):
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    listener.folder, listener.asked, listener.most = folder, [], None
    listener.url = f"http://127.0.0.1:{listener.server_address[1]}"
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield listener
    finally:
        listener.shutdown()
        listener.server_close()


@pytest.fixture
def recipe(monkeypatch, capfd):
    """Runs a recipe and gives what it and its `srec evaluate` printed."""

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, words)])
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        runner.main()
        return capfd.readouterr().out

    return typed


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    with mirror(folder) as listener:
        yield listener


def test_amazon_from_download_to_table_with_pictures_and_a_model(published, recipe, tmp_path):
    samples.amazon_2014(published.folder, pictures=f"{published.url}/I")
    typed = ("amazon-baby", "--work", tmp_path, "--mirror", published.url, "--trust", "127.0.0.1", "--users", 2)
    with chatting() as chat:
        printed = recipe(*typed, "--ranker", "program,popularity", "--model", chat.model)
        assert chat.total > 0
    assert "| interactions | kept | 360 |" in printed
    assert "users: 19,445 printed, 40 here: differs by -19,405\n" in printed
    assert f"{runner.WHERE_TO_LOOK}\n" in printed
    assert "| program |" in printed
    assert "candidates `uniform:20`, n = 2 cases of 2 users" in printed
    beside = printed[printed.index("candidates `full`, n = 2 cases of 2 users") :]
    assert "| popularity |" in beside
    assert "| program |" not in beside
    data = load(tmp_path / "amazon-baby" / "dataset")
    assert data.take_in().images_taken_in == 30
    assert data.rating_threshold == 4.0
    assert [name for name, _ in published.asked[:2]] == ["reviews_Baby_5.json.gz", "meta_Baby.json.gz"]
    asked = len(published.asked)
    assert "30 settled before, 0 fetched" in recipe(*typed, "--until", "convert")
    assert len(published.asked) == asked


def test_the_ratings_of_an_archive_are_ranked_without_a_model(published, recipe, tmp_path):
    samples.movielens(published.folder, zipped=True)
    typed = ("movielens", "--work", tmp_path, "--mirror", published.url)
    assert "| popularity |" in recipe(*typed, "--users", 5, "--ranker", "popularity,random")
    assert not load(tmp_path / "movielens" / "dataset").take_in().images_taken_in


def test_the_covers_of_an_archive_become_the_pictures_of_the_items(published, recipe, tmp_path):
    samples.microlens(published.folder, covers=True)
    typed = ("microlens", "--work", tmp_path, "--mirror", published.url, "--until", "convert")
    assert "30 items (30 with an image)" in recipe(*typed)
    assert load(tmp_path / "microlens" / "dataset").take_in().images_taken_in == 30
    assert "was written before" in recipe(*typed)


def test_printed_counts_are_compared_with_those_of_the_folder_counted_anew(tmp_path):
    (tmp_path / "published").mkdir()
    samples.movielens(tmp_path / "published")
    with (tmp_path / "published" / "movies.dat").open("a") as file:
        file.write("78::A film that nobody rated::Drama\n")
    made = convert("movielens", tmp_path / "published", tmp_path / "dataset")
    assert made.items.kept == 31
    agreeing = {"source": "a paper", "users": 40, "items": 30, "interactions": made.interactions.kept}
    assert runner.compared(agreeing, tmp_path / "dataset") == [
        "counts printed in a paper:",
        "users: 40 printed, agrees",
        "items: 30 printed, agrees",
        f"interactions: {made.interactions.kept} printed, agrees",
    ]
    assert runner.compared({"source": "a paper", "items": 1_029}, tmp_path / "dataset") == [
        "counts printed in a paper:",
        "items: 1,029 printed, 30 here: differs by -999",
        runner.WHERE_TO_LOOK,
    ]


def test_every_recipe_is_of_a_known_kind_and_names_what_its_converter_takes(tmp_path):
    for name, path in runner.RECIPES.items():
        told = runner.tomllib.loads(path.read_text())
        files = [one["url"].rpartition("/")[2] for one in told["download"]]
        assert told["kind"] in samples.SAMPLES, name
        assert set(told["convert"]) <= {"min_events", "rating_threshold", "liked_only", "images", "download_images"}
        assert all(one["url"].startswith("https://") for one in told["download"]), name
        assert told["expected"].keys() == {"source", "users", "items", "interactions"}, name
        if told["kind"] == "amazon-2014":
            category = files[0].removeprefix("reviews_").removesuffix("_5.json.gz")
            assert files[1] == f"meta_{category}.json.gz"


def test_a_download_goes_on_from_the_byte_that_it_reached(published, tmp_path):
    (published.folder / "a.bin").write_bytes(bytes(range(256)) * 5000)
    published.most = 300_000
    with pytest.raises(InputError, match="broke off after 300,000 of 1,280,000 bytes"):
        dumps.obtain([{"url": "https://example.org/a.bin"}], tmp_path / "out", mirror=published.url)
    assert not (tmp_path / "out" / "a.bin").exists()
    published.most = None
    dumps.obtain([{"url": "https://example.org/a.bin"}], tmp_path / "out", mirror=published.url)
    assert (tmp_path / "out" / "a.bin").read_bytes() == (published.folder / "a.bin").read_bytes()
    assert published.asked == [("a.bin", None), ("a.bin", "bytes=300000-")]


@pytest.mark.parametrize("there", [b"0123456789", b"0123456789 and more, of another version"])
def test_a_part_that_is_whole_already_is_taken_and_one_that_is_too_long_begins_anew(there, published, tmp_path):
    (published.folder / "a.bin").write_bytes(b"0123456789")
    (tmp_path / "a.bin.part").write_bytes(there)
    dumps.obtain([{"url": "https://example.org/a.bin"}], tmp_path, mirror=published.url)
    assert (tmp_path / "a.bin").read_bytes() == b"0123456789"
    assert not (tmp_path / "a.bin.part").exists()
    assert len(published.asked) == (1 if len(there) == 10 else 2)


def test_a_recipe_whose_files_or_config_are_not_there_ends_in_a_sentence(published, recipe, tmp_path):
    typed = ("movielens", "--work", tmp_path, "--mirror", published.url)
    with pytest.raises(SystemExit, match=r"^movielens: http://.*zip cannot be fetched: HTTP Error 404: .*--mirror$"):
        recipe(*typed)
    with pytest.raises(SystemExit, match=r"^movielens: /nosuch\.toml cannot be read: .*name a TOML file"):
        recipe(*typed, "--config", "/nosuch.toml")
    published.shutdown()
    published.server_close()
    with pytest.raises(SystemExit, match=r"cannot be fetched: .*refused.*; run this again to go on$"):
        recipe(*typed)


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../../evil.jpg", b"1")
        archive.writestr("deep/er/fine.jpg", b"2")
        archive.writestr("notes.txt", b"3")
    dumps._unpack(tmp_path / "x.zip", tmp_path / "in" / "to", pattern="*.jpg")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "in/to/evil.jpg",
        "in/to/fine.jpg",
        "x.zip",
    ]


@pytest.mark.parametrize("kind", samples.SAMPLES)
def test_documented_dumps_are_converted_and_every_row_is_accounted_for(kind, tmp_path):
    source = tmp_path / "published"
    source.mkdir()
    samples.SAMPLES[kind](source)
    made = convert(kind, source, tmp_path / "dataset", min_events=5)
    assert (made.items.kept, made.users, made.interactions.kept) == (30, 40, 360)
    for tally in (made.items, made.interactions):
        assert tally.read == tally.kept + tally.rejected.total() + tally.left_out.total()
    assert made.items.read == file_rows(source, "meta", "titles", "movies", ".item")
    data = load(tmp_path / "dataset")
    assert (len(data.items), len(data.interactions)) == (30, 360)
    assert not data.report.causes()
    urls = tmp_path / "dataset" / "image_urls.csv"
    assert urls.exists() == kind.startswith("amazon")
    if kind == "amazon-2023":
        assert "B000000000,https://m.media-amazon.com/images/I/0.jpg" in urls.read_text()
    assert json.loads((tmp_path / "dataset" / "conversion.json").read_text())["made"]["rows"]["items"]["kept"] == 30


def file_rows(folder, *parts):
    """Lines of the item file that are no header."""
    path = next(one for part in parts for one in sorted(folder.iterdir()) if part in one.name)
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = [line for line in raw.split(b"\n") if line.strip()]
    return len(lines) - lines[0].startswith((b"item,title", b"item_id:"))
