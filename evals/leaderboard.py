"""Write the tables of LEADERBOARD.md from the JSON of `srec evaluate`, with and without `--stages`, and of `learn.py`.

python evals/leaderboard.py evals/results/NAME.json ...
"""

import json
import sys
from pathlib import Path

from learning import record

COLUMNS = ("ndcg@10", "recall@10", "mrr@10", "auc", "pooled_auc")
HEAD = """# Leaderboard

A section named after a JSON file in `evals/results/` is what `python evals/leaderboard.py` makes of it; what stands
beside these tables is written by hand. Each cell is the mean over cases with its
95 % bootstrap interval over users; *chance* is the expectation of a random order of the same candidates. Sampled
candidates (`uniform:20`) do not rank systems as full ranking does; compare within a table only.
"""


def main() -> None:
    """Print the page."""
    sys.stdout.write(HEAD)
    for path in map(Path, sys.argv[1:]):
        report = json.loads(path.read_text(encoding="utf-8"))
        sys.stdout.write(written(report, name=path.stem))


def written(report: dict, *, name: str) -> str:
    """The section of one JSON file, by what is in it."""
    if "taught_cases" in report:
        return record.section(report)
    if not {"vqa", "cases_seed"} & report.keys():
        raise SystemExit(f"{name}: not what srec evaluate writes of one seed, with or without --stages, nor learn.py")
    return stages(report) if "vqa" in report else section(report, name=name)


def section(report: dict, *, name: str) -> str:
    """One evaluation: what was asked, the table, and what it cost."""
    facts = (
        f"task `{report['task']}`, {report['protocol']}, candidates `{report['candidates']}`, "
        f"n = {report['n']} cases of {report['users']} users, seed {report['cases_seed']}, "
        f"model `{report['model']}`, tied in time: {report['tied']}"
    )
    rows = [["ranker", *COLUMNS, "unscored"], ["---"] * (len(COLUMNS) + 2)]
    for ranker, result in report["rankers"].items():
        rows.append([ranker, *(cell(result["metrics"][column]) for column in COLUMNS), str(result["unscored"])])
    rows.append(["*chance*", *(f"{report['chance'][column]:.3f}" for column in COLUMNS), ""])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    parts = (table, cost(report), rivals(report), command(report), sliced(report), paired(report))
    told = "\n\n".join(part for part in parts if part)
    return f"\n## {report['data']}: {name}\n\n{facts}\n\n{told}\n"


def command(report: dict) -> str:
    """What to type for it, where it is known."""
    return f"`{report['command']}`" if report.get("command") else ""


def rivals(report: dict) -> str:
    """What each rival of `evals/baselines` was searched for and was given in the end, and what that took."""
    if not report.get("rivals"):
        return ""
    rows = [
        ["rival", "library", "settings (* at the end of what was tried)", "validation ndcg@10", "tried", "seconds"],
        ["---"] * 6,
    ]
    for name, found in report["rivals"].items():
        for fold in found["folds"]:
            ends = at_the_end(fold)
            settings = ", ".join(f"{key} {value}{'*' * (key in ends)}" for key, value in fold["config"].items())
            library = found["name"].partition("(")[2].rstrip(")")
            reached, tried = number(fold["validation_ndcg@10"]), str(len(fold["tried"]))
            rows.append([name, library, settings, reached, tried, f"{found['seconds']:,.0f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


LIMIT = {"decay": 1.0}  # the plain method, beyond which there is nothing


def at_the_end(fold: dict) -> set[str]:
    """Settings whose best value is the least or the most that was tried, so that a wider search might find better."""
    values = {key: {trial["config"].get(key) for trial in fold["tried"]} - {None} for key in fold["config"]}
    ordered = {key: some for key, some in values.items() if len(some) > 1 and all(map(is_size, some))}
    best = fold["config"]
    return {key for key, some in ordered.items() if best[key] in (min(some), max(some)) and best[key] != LIMIT.get(key)}


def is_size(value: object) -> bool:
    """Whether a value of a setting is a number of more or less."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def sliced(report: dict) -> str:
    """Every ranker on the slices of the cases."""
    found = report.get("slices") or {}
    parts = [part for part in found.get("slices", ()) if 0 < part["n"] < report["n"]]
    if not parts:
        return ""
    rows = [[f"{found['metric']} on a slice", "n", *report["rankers"]], ["---"] * (len(report["rankers"]) + 2)]
    cells = [[cell(part["rankers"][name]) for name in report["rankers"]] for part in parts]
    rows += [[part["name"], str(part["n"]), *row] for part, row in zip(parts, cells, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def paired(report: dict) -> str:
    """Differences on the same cases, with p corrected for all pairs of the metric."""
    if not report.get("paired"):
        return ""
    rows = [["pair", "metric", "difference", "p (Holm)", "better", "same", "worse"], ["---"] * 7]
    for pair in report["paired"]:
        counts = [str(pair[count]) for count in ("better", "same", "worse")]
        rows.append([f"{pair['a']} - {pair['b']}", pair["metric"], cell(pair), f"{pair['p_holm']:.4f}", *counts])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


SECTIONS = ("vqa", "vqa_open", "vqa_held_out", "fusion", "preference", "profile", "scores")


def stages(report: dict) -> str:
    """Every stage beside the truth of a toy shop, on one table."""
    facts = f"n = {report['n']} items, {report['cases']} cases, seed {report['seed']}, model `{report['model']}`"
    parts = {name: report[name] for name in SECTIONS}
    parts |= {f"control {name}": figures for name, figures in report["controls"].items()}
    parts["ceilings"] = report["ceilings"]
    rows = [["stage", "figure", "value", "chance", "ceiling", "n"], ["---"] * 6]
    for part, figures in parts.items():
        for name, figure in figures.items():
            rows.append([part, name, cell(figure), number(figure["chance"]), number(figure["ceiling"]), figure["n"]])
    table = "\n".join(f"| {' | '.join(map(str, row)).replace('_', ' ')} |" for row in rows)
    failed = ", ".join(f"{step}: {count:,}" for step, count in report["failed"].items()) or "nothing"
    return f"\n## The stages beside the truth: {report['data']}\n\n{facts}. Failed: {failed}.\n\n{table}\n"


def number(value: float | None) -> str:
    """Three decimals; a dash where there was nothing to measure."""
    return "-" if value is None else f"{value:.3f}"


def cell(metric: dict) -> str:
    """A value with its interval."""
    return f"{number(metric['value'])} [{number(metric['low'])} {number(metric['high'])}]"


def cost(report: dict) -> str:
    """What each program took."""
    asking = {name: row for name, row in report["rankers"].items() if row["lm_calls"] or row["cache_hits"]}
    return "\n".join(
        f"{name}: {row['seconds']:.0f} s, {row['lm_calls']:,} LM calls, "
        f"{row['cache_hits']:,} results from the store, {row['prompt_tokens']:,} prompt and "
        f"{row['output_tokens']:,} output tokens, "
        f"{row['truncated']:,} answers cut at their bound, {row['unseen_images']:,} pictures not seen."
        for name, row in asking.items()
    )


if __name__ == "__main__":
    main()
