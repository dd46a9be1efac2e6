"""The pictures of a converted folder, from a real host on this machine."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest
from control_c import hear_control_c
from data_pictures import picture, serving

from srec.data.convert import convert
from srec.data.fetch import fetch_images
from srec.data.folder import load
from srec.data.web import Manners
from srec.errors import DatasetError, InputError

QUICK = Manners(delay_s=0.0, timeout_s=10.0, whole_s=20.0, attempts=2, backoff_s=0.05, trusted=frozenset({"127.0.0.1"}))


@pytest.fixture
def server():
    with serving() as server:
        yield server


def dump(source: Path, urls: dict[str, str]) -> Path:
    """A dump of 2018 in which item n has the n-th URL, and an item without."""
    source.mkdir()
    items = [{"asin": name, "title": name, "imageURLHighRes": [url] if url else []} for name, url in urls.items()]
    events = [
        {"reviewerID": "u", "asin": name, "overall": 5.0, "unixReviewTime": 10 + n} for n, name in enumerate(urls)
    ]
    (source / "meta_Toys.json").write_text("".join(json.dumps(row) + "\n" for row in items))
    (source / "Toys_5.json").write_text("".join(json.dumps(row) + "\n" for row in events))
    return source


def images_of(folder: Path) -> dict[str, str]:
    with (folder / "items.csv").open(newline="") as file:
        return {row["item_id"]: row["image"] for row in csv.DictReader(file)}


def test_without_the_request_nothing_is_fetched(server, tmp_path):
    source = dump(tmp_path / "dump", {"a": server.url("/ok/a")})
    convert("amazon-2018", source, tmp_path / "out")
    assert not server.asked
    assert images_of(tmp_path / "out") == {"a": ""}


def test_pictures_arrive_beside_the_reasons_of_those_that_do_not(server, tmp_path):
    paths = {"a": "/ok/a", "b": "/status/404", "c": "/lie", "d": "/pixel", "e": "/png", "f": "/status/500"}
    urls = {name: server.url(path) for name, path in paths.items()} | {"g": "", "h": "file:///etc/passwd"}
    source = dump(tmp_path / "dump", urls)
    made = convert("amazon-2018", source, tmp_path / "out", download_images=True, manners=QUICK)
    assert (made.fetched.wanted, made.fetched.fetched, made.images) == (7, 2, 2)
    assert made.fetched.failed == {
        "status 404": 1,
        "no image format": 1,
        "one pixel, which stands for no picture": 1,
        "status 500": 1,
        "the URL is neither http nor https": 1,
    }
    assert images_of(tmp_path / "out") == {"a": "a.jpg", "e": "e.png"} | dict.fromkeys("bcdfgh", "")
    data = load(tmp_path / "out")
    assert data.take_in().images_taken_in == 2
    assert not data.report.problems
    assert "failed 1 × status 404" in str(made)


def test_the_same_call_goes_on_and_asks_again_only_for_what_may_still_come(server, tmp_path):
    paths = {"a": "/ok/a", "b": "/status/404", "c": "/status/503"}
    source = dump(tmp_path / "dump", {name: server.url(path) for name, path in paths.items()})
    first = convert("amazon-2018", source, tmp_path / "out", download_images=True, manners=QUICK)
    server.asked.clear()
    again = convert("amazon-2018", source, tmp_path / "out", download_images=True, manners=QUICK)
    assert set(server.paths) == {"/status/503"}
    assert (again.fetched.before, again.fetched.fetched, again.images) == (2, 0, 1)
    assert again.table() == first.table()


def test_another_call_does_not_take_the_folder_for_its_own(server, tmp_path):
    source = dump(tmp_path / "dump", {"a": server.url("/ok/a")})
    convert("amazon-2018", source, tmp_path / "out")
    with pytest.raises(DatasetError, match="already holds a dataset"):
        convert("amazon-2018", source, tmp_path / "out", min_events=1, download_images=True, manners=QUICK)
    with pytest.raises(DatasetError, match="already holds a dataset"):
        convert("amazon-2018", source, tmp_path / "out")
    assert not server.asked


def test_at_most_so_many_are_fetched_and_the_others_later(server, tmp_path):
    urls = {name: server.url(f"/ok/{name}") for name in "abcde"}
    convert("amazon-2018", dump(tmp_path / "dump", urls), tmp_path / "out")
    first = fetch_images(tmp_path / "out", manners=QUICK, most=2)
    assert (first.fetched, first.left) == (2, 3)
    assert [name for name, image in images_of(tmp_path / "out").items() if image] == ["a", "b"]
    assert fetch_images(tmp_path / "out", manners=QUICK).fetched == 3
    assert sorted(server.paths) == [f"/ok/{name}" for name in "abcde"]


def test_a_conversion_fetches_no_more_pictures_than_it_was_asked_for_and_says_what_it_left_out(server, tmp_path):
    source = dump(tmp_path / "dump", {name: server.url(f"/ok/{name}") for name in "abcde"})
    asked = {"download_images": True, "manners": QUICK}
    first = convert("amazon-2018", source, tmp_path / "out", most_images=2, **asked)
    assert str(first).endswith("\nleft out 3 × no more than 2 were to be asked for; run it again to go on")
    assert first.to_object()["fetched"]["left_out"] == {"no more than 2 were to be asked for": 3}
    assert sorted(server.paths) == ["/ok/a", "/ok/b"]
    size = first.fetched.bytes // 2
    second = convert("amazon-2018", source, tmp_path / "out", most_image_bytes=size + 1, **asked)
    assert (second.fetched.before, second.fetched.fetched, second.images) == (2, 2, 4)
    assert second.fetched.left_out == {"no more than 0 MiB were to be fetched": 1}
    assert convert("amazon-2018", source, tmp_path / "out", **asked).fetched.left == 0
    assert sorted(server.paths) == [f"/ok/{name}" for name in "abcde"]


@pytest.mark.parametrize("asked", [{"most_images": 0}, {"most_image_bytes": 0}])
def test_a_bound_that_lets_nothing_through_is_refused(asked, tmp_path):
    source = dump(tmp_path / "dump", {"a": "http://127.0.0.1/a"})
    with pytest.raises(InputError, match="at least 1 picture and 1 byte"):
        convert("amazon-2018", source, tmp_path / "out", download_images=True, **asked)


@pytest.mark.parametrize("delay_s", [-1.0, float("nan"), float("inf")])
def test_a_delay_that_cannot_be_kept_is_refused(delay_s):
    with pytest.raises(InputError, match="give 0 to 3,600"):
        Manners(delay_s=delay_s)


@pytest.mark.parametrize("connections", [1, 3])
def test_no_more_connections_are_open_than_are_asked_for(server, tmp_path, connections):
    urls = {f"i{n}": server.url(f"/slow/{n}") for n in range(9)}
    convert("amazon-2018", dump(tmp_path / "dump", urls), tmp_path / "out")
    manners = Manners(connections=connections, delay_s=0.0, trusted=frozenset({"127.0.0.1"}))
    assert fetch_images(tmp_path / "out", manners=manners).fetched == 9
    assert connections // 2 < server.most_at_once <= connections
    assert len(server.sockets) <= connections


@pytest.mark.parametrize("connections", [1, 3])
def test_a_stop_leaves_a_folder_that_can_be_used_and_gone_on_with(server, tmp_path, connections):
    urls = {f"i{n}": server.url(f"/slow/{n}") for n in range(40)}
    convert("amazon-2018", dump(tmp_path / "dump", urls), tmp_path / "out")
    stop = Event()
    Thread(target=lambda: server.wait_for(6) and stop.set()).start()
    manners = Manners(connections=connections, delay_s=0.0, trusted=frozenset({"127.0.0.1"}))
    first = fetch_images(tmp_path / "out", manners=manners, stop=stop)
    assert 0 < first.fetched < 40
    assert first.fetched + first.left == first.wanted == 40
    assert sum(map(bool, images_of(tmp_path / "out").values())) == first.fetched
    second = fetch_images(tmp_path / "out", manners=manners)
    assert (second.before, second.fetched) == (first.fetched, 40 - first.fetched)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_download_goes_on(server, tmp_path, sign):
    urls = {f"i{n}": server.url(f"/slow/{n}") for n in range(30)}
    source = dump(tmp_path / "dump", urls)
    code = (
        "import sys; from srec.data.convert import convert; from srec.data.web import Manners\n"
        "quick = Manners(delay_s=0.0, trusted=frozenset({'127.0.0.1'}))\n"
        "print(convert('amazon-2018', sys.argv[1], sys.argv[2], download_images=True, manners=quick))"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "out")]
    process = subprocess.Popen(
        command,
        preexec_fn=hear_control_c,  # noqa: PLW1509 (no thread holds a lock that the child needs)
        stderr=subprocess.DEVNULL,
    )
    assert server.wait_for(5)
    os.kill(process.pid, sign)
    assert process.wait(timeout=30) != 0
    there = {path.stem for path in (tmp_path / "out" / "images").glob("i*.jpg")}
    assert 3 < len(there) < 30
    named = {name for name, image in images_of(tmp_path / "out").items() if image}
    assert named == (there if sign == signal.SIGINT else set())
    for name in there:
        assert (tmp_path / "out" / "images" / f"{name}.jpg").read_bytes() == picture()
    before = len(server.asked)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert f"{len(there)} settled before, {30 - len(there)} fetched" in done.stdout
    assert len(server.asked) - before == 30 - len(there)
    assert all(images_of(tmp_path / "out").values())


def test_a_folder_without_urls_says_so(tmp_path):
    with pytest.raises(DatasetError, match=r"no image_urls\.csv; convert a dataset"):
        fetch_images(tmp_path)


def damage(path: Path, raw: bytes | None) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if raw is not None:
        path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("images", b"no folder"),
        ("items.csv", None),
        ("items.csv", b""),
        ("items.csv", b"item_id,title,image\na\n"),
        ("items.csv", b"item_id,title\na,A\n"),
        ("image_urls.csv", b"item_id,url\na," + b"x" * 200_000 + b"\n"),
        ("image_failures.csv", b"\xff\xfe\n"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_name_of_its_file_and_nothing_is_asked_for(server, tmp_path, name, raw):
    source = dump(tmp_path / "dump", {"a": server.url("/ok/a")})
    convert("amazon-2018", source, tmp_path / "out")
    damage(tmp_path / "out" / name, raw)
    with pytest.raises(InputError, match=rf"out/{re.escape(name)} .*; convert into a new folder"):
        convert("amazon-2018", source, tmp_path / "out", download_images=True, manners=QUICK)
    assert not server.asked


def test_two_ways_of_pictures_at_once_are_refused(tmp_path):
    with pytest.raises(InputError, match="not both"):
        convert("amazon-2018", tmp_path, tmp_path / "out", images=tmp_path, download_images=True)
