"""How results look on a terminal, and as the JSON of `--json`. Whatever comes from a dataset is shown as plain text."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from srec.text import clean

if TYPE_CHECKING:
    from srec.bulk import Summary
    from srec.doctor import Finding
    from srec.explanation import Evidence, Explanation
    from srec.lm.server import Server
    from srec.lm.usage import Usage
    from srec.recommender import Recommendation
    from srec.types import Fact, Item, ItemDescription, Score

TITLE_CHARS = 60
WIDTH = 100  # columns where no terminal says how many it has
TO_STDOUT = "-"


def console(json_to: str | None = None) -> Console:
    """Where results are printed: standard output, or standard error where that carries the JSON."""
    to_stderr = json_to == TO_STDOUT
    on_terminal = (sys.stderr if to_stderr else sys.stdout).isatty()
    return Console(stderr=to_stderr, highlight=False, width=None if on_terminal else WIDTH)


def write_json(text: str, json_to: str | None) -> None:
    """Write one JSON object to a file, whole or not at all, or to standard output."""
    if json_to == TO_STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(f"{text}\n".encode())  # JSON is UTF-8 whatever the terminal is
        sys.stdout.buffer.flush()
    elif json_to is not None:
        from srec.data.candidate_file import replace_file  # noqa: PLC0415  numpy, for those who write

        replace_file(Path(json_to), [text, "\n"])


def check_json(json_to: str | None) -> str | None:
    """`json_to` as it is; a place that cannot be written to is refused before anything is computed for it."""
    if json_to not in (None, TO_STDOUT):
        from srec.data.candidate_file import check_writable  # noqa: PLC0415  numpy, for those who write

        check_writable(json_to)
    return json_to


def name_of(item: Item) -> str:
    """A title that fits a line."""
    return clean(item.title, max_chars=TITLE_CHARS) or f"item {clean(item.item_id, max_chars=TITLE_CHARS)}"


def server(out: Console, running: Server) -> None:
    """Where a server answers, what it serves, and how to ask it: by srec and by the `openai` client."""
    name = next(iter(running.loras.values()), running.base)
    key = "the value of SREC_API_KEY" if running.needs_key else "EMPTY"
    lines = (
        f"{running.url} serves {', '.join(running.names)}",
        *([f"its log is {running.log}"] if running.log else []),
        "",
        "With srec:",
        f"  --model '{running.model_string(name)}'",
        "With the openai client:",
        "  from openai import OpenAI",
        f'  client = OpenAI(base_url="{running.url}", api_key="{key}")',
        f'  client.chat.completions.create(model="{name}", messages=[{{"role": "user", "content": "Hello"}}])',
        "",
        "Ctrl-C ends it.",
    )
    out.print("\n".join(lines), markup=False, soft_wrap=True)


def usage_line(usage: Usage, *, cached: int | None = None) -> str:
    """What the LM was asked, in words; `cached` where results were taken from the store without counting them there."""
    from_store = usage.cache_hits if cached is None else cached
    line = (
        f"{usage.lm_calls:,} LM calls, {from_store:,} results from the store, {usage.prompt_tokens:,} tokens in, "
        f"{usage.output_tokens:,} out"
    )
    if usage.truncated:
        line += f"; {usage.truncated:,} answers cut off at their bound"
    if usage.unseen_images:
        line += f"; {usage.unseen_images:,} pictures that the model could not see"
    return line


def usage_object(usage: Usage) -> dict[str, int]:
    """The counts as plain numbers."""
    names = ("lm_calls", "cache_hits", "prompt_tokens", "output_tokens", "truncated", "unseen_images", "failures")
    return {name: getattr(usage, name) for name in names}


def described(out: Console, item: Item, description: ItemDescription) -> None:
    """One description with its facts."""
    out.print(Text(f"{name_of(item)} ({description.item_id})", style="bold"))
    out.print(_indented(description.text))
    if description.facts:
        out.print(_indented(f"facts: {_facts(description.facts)}"))
    if description.contradictions:
        out.print(_indented(f"contradictions: {'; '.join(description.contradictions)}"))


def summary_object(summary: Summary) -> dict[str, Any]:
    """A bulk run's counts as plain values."""
    return asdict(summary)


def person(out: Console, made: Recommendation) -> None:
    """What the program made of a user: every summary, oldest first, and the profile."""
    for summary in made.summaries:
        out.print(Text(f"after {summary.events} events", style="bold"))
        out.print(_indented(summary.text))
        for word in ("stable", "rising", "fading"):
            tastes = getattr(summary, word)
            if tastes:
                out.print(_indented(f"{word}: {', '.join(tastes)}"))
    out.print(Text("profile", style="bold"))
    out.print(_indented(made.profile.text))
    if made.profile.traits:
        out.print(_indented(f"lasting tastes: {', '.join(made.profile.traits)}"))


def person_object(made: Recommendation) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "user": made.profile.user_id,
        "events_read": len(made.history),
        "summaries": [asdict(summary) for summary in made.summaries],
        "profile": asdict(made.profile),
    }


def ranking(out: Console, made: Recommendation, *, top: int) -> None:
    """The first `top` items with their scores."""
    items = {item.item_id: item for item in made.candidates}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for head in ("", "title", "item id", "score"):
        table.add_column(head, justify="right" if head in ("", "score") else "left", no_wrap=head == "score")
    for rank, score in enumerate(made.ranking.top(top), start=1):
        item = items[score.item_id]
        table.add_row(str(rank), Text(name_of(item)), Text(clean(item.item_id, max_chars=TITLE_CHARS)), _value(score))
    out.print(table)


def reasons(out: Console, explanations: Sequence[Explanation], *, reasoning_once: bool) -> None:
    """Why each item stands where it stands; what the LM wrote once for the user is shown once."""
    if reasoning_once and explanations and explanations[0].score.reason:
        out.print(Text("What the model reasoned about the user", style="bold"))
        out.print(_indented(explanations[0].score.reason))
    for rank, one in enumerate(explanations, start=1):
        out.print(Text(f"{rank}. {name_of(one.item)}", style="bold"), _value(one.score))
        for evidence in one.evidence:
            out.print(_indented(f"speaks for it: {_evidence(evidence)}"))
        if one.tastes:
            out.print(_indented(f"fits the taste{'s' * (len(one.tastes) > 1)}: {', '.join(one.tastes)}"))
        if one.contradictions:
            out.print(_indented(f"picture and text disagree: {'; '.join(one.contradictions)}"))
        if not reasoning_once and one.score.reason:
            out.print(_indented(f"reasoned: {one.score.reason}"))
        if not (one.evidence or one.tastes):
            out.print(_indented("no event shares a fact with it, and no named taste is in its description"))


def ranked_object(one: Explanation, *, explained: bool) -> dict[str, Any]:
    """One item of a ranking as plain values."""
    score = one.score
    row: dict[str, Any] = {"item_id": score.item_id, "title": one.item.title, "score": score.value, "mass": score.mass}
    if score.error:
        row["error"] = score.error
    if explained:
        row["evidence"] = [
            {
                "item_id": evidence.event.item.item_id,
                "title": evidence.event.item.title,
                "at": evidence.event.at,
                "rating": evidence.event.rating,
                "shared": [asdict(fact) for fact in evidence.shared],
            }
            for evidence in one.evidence
        ]
        row |= {"tastes": list(one.tastes), "contradictions": list(one.contradictions), "reason": score.reason}
    return row


def findings(out: Console, found: Sequence[Finding]) -> None:
    """What the doctor found, and below it what to do."""
    signs = {
        "ok": Text("ok", style="green"),
        "missing": Text("-", style="yellow"),
        "broken": Text("broken", style="red"),
    }
    for one in found:
        out.print(signs[one.state], Text(f"{clean(one.subject)}: {clean(one.told)}"))
        if one.advice:
            out.print(_indented(f"to do: {clean(one.advice)}"))


def counts_line(counts: Mapping[str, int]) -> str:
    """`one event 3, no target 2`."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _value(score: Score) -> Text:
    return Text("not scored" if score.value is None else f"{score.value:.3f}")


def _evidence(evidence: Evidence) -> str:
    rating = "" if evidence.event.rating is None else f", rated {evidence.event.rating:g}"
    return f"{name_of(evidence.event.item)}{rating} ({_facts(evidence.shared)})"


def _facts(facts: Sequence[Fact]) -> str:
    """Facts with where each was read."""
    where = {"image": "from the picture", "text": "from the text", "both": "from both"}
    return "; ".join(f"{fact.aspect}: {fact.value}, {where[fact.source]}" for fact in facts)


def _indented(text: str) -> Padding:
    return Padding(Text(clean(text)), (0, 0, 0, 3), expand=False)
