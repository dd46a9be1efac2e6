"""How fast a local model sees: pictures and questions a second, and the time from a cold start to the first answer.

Pictures are rendered toys of 160 px that the process has not seen before, encoded as JPEG as a catalogue's would be.
"Seen" is decoding, scaling and the vision tower, without the language model; "first questions" and "further questions"
are short answers through the whole engine, asked by 32 threads. A start is a new process that connects and answers one
question about one picture: once with an empty cache folder, in which the model is first put together, and once with
the folder that it left.

    python evals/images_per_second.py [--json OUT] [--model local:] [--images 200]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from srec.data.render import COLOURS, PATTERNS, Look, draw
from srec.data.silhouettes import CATEGORIES
from srec.lm.adapters import ask
from srec.lm.connect import connect

FIRST = "What colour is the toy?"
FURTHER = ("What pattern does it have?", "What kind of toy is it?", "Is it striped?", "Describe the toy.")
THREADS, BATCH = 32, 32
SEED = 97  # a stream of its own: these toys are in no shop


def main() -> None:
    given = _options()
    lm = connect(given.model)
    pictures = toys(BATCH + given.images)
    answer_all(lm, pictures[:BATCH], [FIRST])  # the first pass of a process is slow
    rates = {
        "pictures seen": rate(given.images, see, lm, pictures[BATCH:]),
        "first questions": rate(given.images, answer_all, lm, toys(given.images, seed=SEED + 1), [FIRST]),
        "further questions": rate(given.images * len(FURTHER), answer_all, lm, pictures[BATCH:], FURTHER),
    }
    starts = first_answers(given.model, pictures[0]) if given.starts else {}
    show(rates, starts, lm.model)
    if given.json:
        told = {"model": lm.model, "images": given.images, "per_s": rates, "first_answer_s": starts}
        given.json.write_text(json.dumps({**told, "cores": os.cpu_count(), "threads": torch.get_num_threads()}) + "\n")


def toys(count: int, *, seed: int = SEED) -> list[bytes]:
    """Rendered toys as JPEG files."""
    rng, shown = np.random.default_rng(seed), []
    facts: Any = {"category": tuple(CATEGORIES), "colour": tuple(COLOURS), "pattern": PATTERNS}
    for _ in range(count):
        look = Look(**{aspect: values[rng.integers(len(values))] for aspect, values in facts.items()})
        encoded = io.BytesIO()
        draw(look, rng).save(encoded, "JPEG", quality=85)
        shown.append(encoded.getvalue())
    return shown


def see(lm: Any, pictures: list[bytes]) -> None:
    """Prepare all pictures from many threads, then look at them batch by batch, as the engine does."""
    eyes = lm.engine._eyes  # noqa: SLF001 (one step of the engine is measured)
    with ThreadPoolExecutor(THREADS) as pool:
        sights = list(pool.map(eyes.sight, pictures))
    with torch.inference_mode():
        for batch in eyes.batches(sights, most_rows=BATCH):
            eyes.look(batch)


def answer_all(lm: Any, pictures: list[bytes], questions: tuple[str, ...] | list[str]) -> list[str]:
    """A short answer to each question about each picture, all asked for at once."""
    asked = [(picture, question) for picture in pictures for question in questions]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda pair: answer(lm, *pair), asked))


def answer(lm: Any, picture: bytes, question: str) -> str:
    url = f"data:image/jpeg;base64,{b64encode(picture).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    return str(ask(lm, [{"role": "user", "content": content}], {"max_tokens": 8, "temperature": 0.0}).text)


def rate(count: int, work: Any, *args: Any) -> float:
    """How many of `count` a second `work` does."""
    begun = time.perf_counter()
    work(*args)
    return count / (time.perf_counter() - begun)


def first_answers(model: str, picture: bytes) -> dict[str, float]:
    """Seconds from the start of a new process to its first answer, with an empty and with a filled cache folder."""
    with tempfile.TemporaryDirectory() as cache:
        shown = Path(cache) / "toy.jpg"
        shown.write_bytes(picture)
        return {state: _start(model, shown, cache) for state in ("empty cache", "filled cache")}


def _start(model: str, shown: Path, cache: str) -> float:
    command = [sys.executable, str(Path(__file__).resolve()), "--model", model, "--answer-one", str(shown)]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "SREC_CACHE": cache})
    return time.perf_counter() - begun


def show(rates: dict[str, float], starts: dict[str, float], model: str) -> None:
    table = Table(title=f"{model}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
    table.add_column("what")
    table.add_column("", justify="right")
    for name, value in rates.items():
        table.add_row(name, f"{value:.1f} /s")
    for name, value in starts.items():
        table.add_row(f"first answer, {name}", f"{value:.1f} s")
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-starts", dest="starts", action="store_false", help="do not measure the first answer")
    parser.add_argument("--answer-one", type=Path, help=argparse.SUPPRESS)  # what a new process does
    given = parser.parse_args()
    if given.answer_one:
        print(answer(connect(given.model), given.answer_one.read_bytes(), FIRST))
        raise SystemExit
    return given


if __name__ == "__main__":
    main()
