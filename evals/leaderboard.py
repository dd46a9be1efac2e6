"""Write the tables of LEADERBOARD.md from the JSON of `srec evaluate`.

python evals/leaderboard.py evals/results/NAME.json ... > evals/LEADERBOARD.md
"""

import json
import sys
from pathlib import Path

COLUMNS = ("ndcg@10", "recall@10", "mrr@10", "auc", "pooled_auc")
HEAD = """# Leaderboard

Made by `python evals/leaderboard.py` from the JSON files in `evals/results/`. Each cell is the mean over cases with its
95 % bootstrap interval over users; *chance* is the expectation of a random order of the same candidates. Sampled
candidates (`uniform:20`) do not rank systems as full ranking does; compare within a table only.
"""


def main() -> None:
    """Print the page."""
    sys.stdout.write(HEAD)
    for path in map(Path, sys.argv[1:]):
        sys.stdout.write(section(json.loads(path.read_text(encoding="utf-8")), name=path.stem))


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
    return f"\n## {report['data']}: {name}\n\n{facts}\n\n{table}\n\n{cost(report)}\n"


def cell(metric: dict) -> str:
    """A value with its interval."""
    return f"{metric['value']:.3f} [{metric['low']:.3f} {metric['high']:.3f}]"


def cost(report: dict) -> str:
    """What the program took."""
    program = report["rankers"].get("program")
    if program is None:
        return ""
    return (
        f"Program: {program['seconds']:.0f} s, {program['lm_calls']:,} LM calls, "
        f"{program['cache_hits']:,} results from the store, {program['prompt_tokens']:,} prompt and "
        f"{program['output_tokens']:,} output tokens, "
        f"{program['truncated']:,} answers cut at their bound, {program['unseen_images']:,} pictures not seen."
    )


if __name__ == "__main__":
    main()
