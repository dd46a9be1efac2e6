"""What a run of learning found, as a table, and as lines that stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TITLE = "# Log\n\nWhat was tried and what came of it, newest first. Negative results stay.\n"


def cell(figure: Mapping[str, float]) -> str:
    """`.812 [.780 .842]`."""
    value, low, high = (f"{figure[name]:.3f}" for name in ("value", "low", "high"))
    return f"{value} [{low} {high}]"


def table(found: Mapping[str, Any]) -> str:
    """Every system's AUC, and every difference, as Markdown."""
    rows = ["| system | AUC |", "|---|---|"]
    rows += [f"| {name.replace('_', ' ')} | {cell(figure)} |" for name, figure in found["auc"].items()]
    rows += ["| *chance* | 0.500 |", "", "| difference, paired | AUC |", "|---|---|"]
    rows += [f"| {name} | {cell(figure)} |" for name, figure in found["differences"].items()]
    return "\n".join(rows)


def facts(found: Mapping[str, Any]) -> str:
    """What was trained on what, and how long it took."""
    rows = ", ".join(f"{stage} {count:,}" for stage, count in found["rows"].items())
    closed = f", {found['gap_closed']:.0%} of the gap to the oracle closed" if "gap_closed" in found else ""
    return (
        f"{found['test']}, n = {found['n']}; base `{found['base_model']}`, reasoning `{found['reasoning']}`; "
        f"{found['taught_cases']:,} cases taught, rows: {rows}; {found['train_seconds'] / 60:.0f} minutes of training"
        f"{closed}. `{found['command']}`"
    )


def section(found: Mapping[str, Any]) -> str:
    """The section of the leaderboard."""
    return f"\n## Learning: {found['world']}, {found['date']}\n\n{facts(found)}\n\n{table(found)}\n"


def append(found: Mapping[str, Any], *, log: Path, leaderboard: Path) -> None:
    """Add the run to the log, as its newest entry, and to the leaderboard, as its last section."""
    told = "; ".join(f"{name.replace('_', ' ')} {cell(figure)}" for name, figure in found["auc"].items())
    entry = f"\n## {found['date']} · Learning: {found['world']}\n- {facts(found)}\n- AUC (chance .500): {told}.\n"
    begin, _, rest = log.read_text("utf-8").partition(TITLE)
    log.write_text(f"{begin}{TITLE}{entry}{rest}", encoding="utf-8")
    with leaderboard.open("a", encoding="utf-8") as page:
        page.write(section(found))
