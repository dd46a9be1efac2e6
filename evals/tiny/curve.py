"""Draw how training went: python evals/tiny/curve.py FOLDER OUT.png, from the `*.jsonl` logs in the folder.

Needs matplotlib: pip install '.[plots]'.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

PARTS = {
    "tower": ("1. tower: facts told, unseen renders", ("category", "colour", "pattern")),
    "words": ("2. words: answers' tokens right, kept wordings", ("token_accuracy",)),
    "wider": ("2. the same, more wordings", ("token_accuracy",)),
    "connector": ("3. connector: nearest words are the true ones", ("category", "colour", "pattern")),
}


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    figure, panels = plt.subplots(1, len(PARTS), figsize=(16, 3.6), layout="constrained")
    for panel, (part, (title, names)) in zip(panels, PARTS.items(), strict=True):
        draw(panel, [json.loads(line) for line in (folder / f"{part}.jsonl").read_text().splitlines()], names)
        panel.set_title(title, fontsize=10)
    figure.savefig(out, dpi=110)


def draw(panel: Any, log: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    """Loss on the left axis, shares of right answers on the right one, over steps."""
    losses = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    panel.plot(*zip(*losses, strict=True), color="0.6", linewidth=1)
    panel.set_xlabel("step")
    panel.set_ylabel("training loss (grey)")
    shares = panel.twinx()
    for name in names:
        right = [(entry["step"], entry[f"eval_{name}"]) for entry in log if f"eval_{name}" in entry]
        shares.plot(*zip(*right, strict=True), marker="o", markersize=3, label=name)
    shares.set_ylim(0, 1.02)
    shares.legend(loc="center right", fontsize=8)


if __name__ == "__main__":
    main()
