"""The pictures of a converted dataset, fetched from where its publishers say that they are.

What a folder has is not asked for again, nor is what cannot be had; so a download that was stopped goes on. The table
of items names the pictures that are there, whenever and however a download ends.
"""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Event, local
from typing import Any

from PIL import Image as Pillow

from srec.data.folder import image_stem, replacing
from srec.data.intake import normalize_image
from srec.data.web import Client, Failure, Hosts, Manners
from srec.errors import DatasetError, ImageError
from srec.progress import bar

URLS = "image_urls.csv"  # item_id, url
FAILURES = "image_failures.csv"  # item_id, reason: what was not had and will not be
ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
MOST_BYTES = 10 * 2**30  # of one download
STOPPED = "the download was stopped"

Wanted = tuple[str, str]  # item id, URL


@dataclass(slots=True, kw_only=True)
class Fetched:
    """What a download brought: of `wanted` pictures, `before` were there or known not to be had.

    Those of `left_out`, by reason, were not asked for, and will be by the next download.
    """

    wanted: int = 0
    before: int = 0
    fetched: int = 0
    bytes: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        """How many were left out."""
        return self.left_out.total()

    def __str__(self) -> str:
        told = (
            f"pictures: {self.wanted:,} wanted, {self.before:,} settled before, {self.fetched:,} fetched "
            f"({self.bytes / 2**20:,.1f} MiB), {self.failed.total():,} failed, {self.left:,} left"
        )
        failed = (f"failed {times:,} × {reason}" for reason, times in sorted(self.failed.items()))
        left_out = (f"left out {times:,} × {reason}; run it again to go on" for reason, times in self.left_out.items())
        return "\n".join([told, *failed, *left_out])

    def to_object(self) -> dict[str, Any]:
        """The same for machines."""
        counts = {name: getattr(self, name) for name in ("wanted", "before", "fetched", "bytes", "left")}
        return {**counts, "failed": dict(sorted(self.failed.items())), "left_out": dict(self.left_out)}


def fetch_images(
    folder: Path | str,
    *,
    manners: Manners | None = None,
    most: int | None = None,
    most_bytes: int = MOST_BYTES,
    stop: Event | None = None,
    progress: bool | None = None,
) -> Fetched:
    """Fetch the pictures of a folder that `convert` wrote, at most `most` of them, until `stop` is set.

    Once they have `most_bytes` together, no more are asked for; the few that are under way are still taken.

    A picture takes its place as a whole. What fails in passing is tried again by the next download; what fails for
    good (not there, no picture, an address that may not be asked) is written to `image_failures.csv` and left alone;
    take a line out of it to have that picture tried again. DatasetError where a file of the folder is damaged.
    """
    root, manners, stop = Path(folder), manners or Manners(), stop or Event()
    if not (root / URLS).is_file():
        raise DatasetError(f"{root} has no {URLS}; convert a dataset that is published with URLs of its pictures")
    images = root / "images"
    with _readable(images):
        images.mkdir(exist_ok=True)
    with _readable(root / FAILURES):
        (root / FAILURES).open("a").close()
    _check_items(root / "items.csv")  # before the network is asked for what could not be named there
    counts = Fetched()
    try:
        with (root / FAILURES).open("a", encoding="utf-8", newline="") as file, bar("pictures", show=progress) as tick:
            failures = csv.writer(file, lineterminator="\n")
            jobs = _unsettled(root, images, counts, most=most, most_bytes=most_bytes, stop=stop)
            for (item_id, _), got in _results(jobs, manners, stop):
                outcome = _saved(images, item_id, got) if isinstance(got, bytes) else got
                _count(counts, outcome, stopped=stop.is_set())
                if isinstance(outcome, Failure) and outcome.lasting:
                    failures.writerow([item_id, outcome.reason])
                    file.flush()
                tick(finished=counts.fetched, failed=counts.failed.total())
    finally:
        name_images(root)
    return counts


def name_images(root: Path) -> int:
    """Write into the table of items which pictures are in `images/`; how many."""
    there, named = there_are(root / "images"), 0
    path = root / "items.csv"
    with _readable(path), path.open(encoding="utf-8", newline="") as old, replacing(path) as new:
        rows, table = csv.reader(old), csv.writer(new, lineterminator="\n")
        header = next(rows, [])
        table.writerow(header)
        at, item = header.index("image"), header.index("item_id")
        for row in rows:
            row[at] = there.get(image_stem(row[item]), "")
            named += bool(row[at])
            table.writerow(row)
    return named


def _check_items(path: Path) -> None:
    with _readable(path), path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        last = max(header.index("image"), header.index("item_id"))
        if any(len(row) <= last for row in rows):
            raise ValueError("too few cells")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """DatasetError, which names `path`, where the block finds it other than `convert` wrote it, or cannot write it."""
    try:
        yield
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{path} cannot be used: {error.strerror}; convert into a new folder") from error
    except OSError as error:
        told = f"{path} cannot be read or written: {error.strerror}; make room or give the right to, and run it again"
        raise DatasetError(told) from error
    except (ValueError, LookupError, csv.Error) as error:
        raise DatasetError(f"{path} is damaged ({error}); convert into a new folder") from error


def there_are(images: Path) -> dict[str, str]:
    """The pictures in a folder by their names without ending; of several the first."""
    if not images.is_dir():
        return {}
    names = sorted(path.name for path in images.iterdir() if path.suffix.lower() in PICTURE_ENDINGS and path.is_file())
    return {Path(name).stem: name for name in reversed(names)}


def _unsettled(
    root: Path, images: Path, counts: Fetched, *, most: int | None, most_bytes: int, stop: Event
) -> Iterator[Wanted]:
    """What is to be fetched; all else is counted."""
    settled = there_are(images).keys() | {image_stem(row[0]) for row in _rows(root / FAILURES)}
    given = 0
    for item_id, url in _rows(root / URLS, header=True):
        counts.wanted += 1
        if image_stem(item_id) in settled:
            counts.before += 1
        elif stop.is_set():
            counts.left_out[STOPPED] += 1
        elif most is not None and given >= most:
            counts.left_out[f"no more than {most:,} were to be asked for"] += 1
        elif counts.bytes >= most_bytes:
            counts.left_out[f"no more than {most_bytes / 2**20:,.0f} MiB were to be fetched"] += 1
        else:
            given += 1
            yield item_id, url


def _rows(path: Path, *, header: bool = False) -> Iterator[Sequence[str]]:
    """Rows of two cells; the half of one that a kill may have left is none."""
    if not path.exists():
        return
    with _readable(path), path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if header:
            next(rows, None)
        yield from (row for row in rows if len(row) == 2)  # noqa: PLR2004 (said above)


def _results(jobs: Iterable[Wanted], manners: Manners, stop: Event) -> Iterator[tuple[Wanted, bytes | Failure]]:
    hosts = Hosts(manners)
    if manners.connections == 1:
        client = Client(manners, hosts, stop)
        try:
            for job in jobs:
                yield job, client.get(job[1])
        finally:
            client.close()
        return
    mine, clients = local(), []

    def get(url: str) -> bytes | Failure:
        if not hasattr(mine, "client"):
            mine.client = Client(manners, hosts, stop)
            clients.append(mine.client)
        got: bytes | Failure = mine.client.get(url)
        return got

    ahead: deque[tuple[Wanted, Future[bytes | Failure]]] = deque()
    pool = ThreadPoolExecutor(manners.connections)
    try:
        for job in jobs:
            ahead.append((job, pool.submit(get, job[1])))
            if len(ahead) > 2 * manners.connections:
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()
    except BaseException:
        stop.set()  # or the threads would go on until they are done
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for client in clients:
            client.close()


def _saved(images: Path, item_id: str, raw: bytes) -> int | Failure:
    """Write a picture as it came, if it is one; how many bytes."""
    try:
        picture = normalize_image(raw)
    except ImageError as error:
        return Failure(reason=error.cause)
    if (picture.width, picture.height) == (1, 1):
        return Failure(reason="one pixel, which stands for no picture")
    with Pillow.open(BytesIO(raw), formats=tuple(ENDINGS)) as opened:
        name = f"{image_stem(item_id)}.{ENDINGS[opened.format or 'JPEG']}"
    part = images / f".{name}.part"
    part.write_bytes(raw)
    part.replace(images / name)
    return len(raw)


def _count(counts: Fetched, outcome: int | Failure, *, stopped: bool) -> None:
    if isinstance(outcome, int):
        counts.fetched += 1
        counts.bytes += outcome
    elif stopped and not outcome.lasting:
        counts.left_out[STOPPED] += 1
    else:
        counts.failed[outcome.reason] += 1
