"""How many users a machine can teach in so many minutes, found by teaching a few."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import srec
from srec.learn.rows import Row

FEW = 12
REMINDERS = "fusion."  # rows of items: as many as there are items, however many users are taught

Rows = tuple[Sequence[Row], Path]
"""Rows, and the folder of their pictures."""


def fitting(rows: Callable[[int], Rows], *, base: str, config: srec.TrainConfig, minutes: float, folder: Path) -> int:
    """Users whose rows take about `minutes` of training; found once for a `folder`, so that a killed run goes on."""
    known = folder / f"pace-{minutes:g}.json"
    if not known.exists():
        few, images = rows(FEW)
        of_users = [row for row in few if not row.stage.startswith(REMINDERS)]
        seconds = _seconds(of_users, images, base=base, config=config, folder=folder / "pace")
        told = {"seconds_a_user": seconds, "users": max(FEW, round(minutes * 60 / seconds))}
        known.write_text(json.dumps(told), encoding="utf-8")
    return int(json.loads(known.read_text("utf-8"))["users"])


def _seconds(rows: Sequence[Row], images: Path, *, base: str, config: srec.TrainConfig, folder: Path) -> float:
    """Seconds of training for one of `FEW` users; the first step warms up and is not counted."""
    shutil.rmtree(folder, ignore_errors=True)
    ends: list[float] = []

    def note(_: object) -> None:
        ends.append(time.monotonic())

    srec.train(rows, base=f"local:{base}", out=folder, config=config, images=images, progress=note)
    shutil.rmtree(folder)
    return (ends[-1] - ends[0]) / (len(ends) - 1) * len(ends) / FEW
