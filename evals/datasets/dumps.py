"""Published files, fetched once and unpacked: a download that was stopped goes on where it was."""

from __future__ import annotations

import fnmatch
import http.client
import shutil
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from srec.errors import InputError

TIMEOUT_S = 60
BLOCK = 2**20
MOST_BYTES = 40 * 2**30  # of one file, packed or unpacked


def obtain(downloads: list[dict[str, Any]], folder: Path, *, mirror: str | None = None) -> None:
    """Fetch what is not there yet; from `mirror`, files of the same names, if there is one."""
    for one in downloads:
        name = PurePosixPath(urlsplit(one["url"]).path).name
        url = f"{mirror.rstrip('/')}/{name}" if mirror else one["url"]
        packed = folder / "packed" / name if "unpack" in one else folder / name
        packed.parent.mkdir(parents=True, exist_ok=True)
        if not packed.exists():
            _fetch(url, packed)
        if "unpack" in one:
            _unpack(packed, folder / one.get("into", "."), pattern=one["unpack"])


def _fetch(url: str, path: Path) -> None:
    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url} is neither http nor https; name one that is")
    part = path.with_name(f"{path.name}.part")
    there = part.stat().st_size if part.exists() else 0
    print(f"fetching {url}" + (f" from byte {there:,} on" if there else ""), flush=True)
    try:
        _append(url, part, there)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not there:  # noqa: PLR2004 (there is nothing from that byte on)
            raise InputError(f"{url} cannot be fetched: {error}; try later, or name another --mirror") from error
        if error.headers.get("Content-Range", "").replace(" ", "") != f"bytes*/{there}":
            part.unlink()  # it is not the beginning of what is there now
            _fetch(url, path)
            return
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url} cannot be fetched: {error}; run this again to go on") from error
    part.replace(path)


def _append(url: str, part: Path, there: int) -> None:
    """Add to `part`, which has `there` bytes, what comes after them."""
    asked = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})  # noqa: S310 (see above)
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310 (likewise)
        goes_on = answer.status == 206  # noqa: PLR2004 (partial content); else the host sends it all again
        length = int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if goes_on else "wb") as file:
            whole = file.tell() + length
            while block := answer.read(BLOCK):
                file.write(block)
                if file.tell() > MOST_BYTES:
                    raise InputError(f"{url} has more than {MOST_BYTES:,} bytes; that is no file of a recipe")
            if length and file.tell() != whole:
                raise InputError(f"{url} broke off after {file.tell():,} of {whole:,} bytes; run this again to go on")


def _unpack(packed: Path, into: Path, *, pattern: str) -> None:
    """The files of an archive whose names fit, without their folders."""
    into.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(packed) as archive:
        fitting = [one for one in archive.infolist() if fnmatch.fnmatch(PurePosixPath(one.filename).name, pattern)]
        if sum(one.file_size for one in fitting) > MOST_BYTES:
            raise InputError(f"{packed} unpacks to more than {MOST_BYTES:,} bytes; that is no file of a recipe")
        for one in fitting:
            path = into / PurePosixPath(one.filename).name
            if not path.exists() or path.stat().st_size != one.file_size:
                with archive.open(one) as packed_file, path.open("wb") as file:
                    shutil.copyfileobj(packed_file, file, BLOCK)
