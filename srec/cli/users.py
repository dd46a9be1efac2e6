"""One user: how the taste moved, and what to recommend."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srec import show
from srec.cli import named
from srec.cli.options import (
    DEFAULT_MODEL,
    Data,
    Json,
    Model,
    ProgramName,
    Reasoning,
    Recent,
    Seed,
    Step,
    StoreFolder,
    Strict,
    User,
    View,
    WindowSize,
    Workers,
)
from srec.cli.outcome import end, quietly, tell_rejected, write_object
from srec.errors import InputError
from srec.progress import waiting

if TYPE_CHECKING:
    from srec.lm.usage import Usage
    from srec.recommender import Recommendation


def profile(
    data: Data,
    *,
    user: User,
    model: Model = DEFAULT_MODEL,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    store: StoreFolder = None,
    workers: Workers = 32,
    json_to: Json = None,
    strict: Strict = False,
) -> None:
    """Show how one user's taste moved, window by window, and the lasting profile."""
    from srec import MLLMSRec, TemporalPreference, count_usage, keep
    from srec.data.unseen import check_user

    source, out = named.dataset(data, strict=strict), show.console(json_to)
    check_user(source, user)
    preference = TemporalPreference(window=window, step=step)
    lm = named.lm(model, out, connections=workers)
    program = MLLMSRec(
        fusion=named.fusion(data),
        preference=preference,
        scoring=lambda *_: [],
        recent=recent,
        workers=workers,
        lm=lm,
    )
    with keep(named.store(store, source)), count_usage() as usage, quietly(), _waiting("profile", usage):
        made = program.recommend(source.history(user), ())
    tell_rejected(source)
    show.person(out, made)
    out.print(show.usage_line(usage), markup=False)
    about = {"data": source.name, "model": lm.model, **show.person_object(made)}
    write_object({**about, **show.usage_object(usage)}, json_to)


def rank(
    context: typer.Context,
    data: Data,
    *,
    user: User,
    candidates: Annotated[
        str,
        typer.Option(
            help="full, uniform:20, popularity:99, retriever:NAME:200, file:PATH (an id a line), or id,id,…; "
            "none seen before."
        ),
    ] = "full",
    model: Model = DEFAULT_MODEL,
    explain: Annotated[bool, typer.Option("--explain", help="Say why.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    recent: Recent = 20,
    window: WindowSize = 10,
    step: Step = 5,
    reasoning: Reasoning = "user",
    view: View = "description",
    program_name: ProgramName = None,
    seed: Seed = 0,
    store: StoreFolder = None,
    workers: Workers = 32,
    json_to: Json = None,
    strict: Strict = False,
) -> None:
    """Rank what a user has not seen, from all that the user did."""
    from srec import count_usage, keep
    from srec.data.unseen import unseen

    source, out = named.dataset(data, strict=strict), show.console(json_to)
    with named.keeping_texts(candidates, store, source):
        chosen = unseen(source, user, candidates=candidates, seed=seed)
    if not chosen:
        raise InputError(f"user {user!r} has seen every item of {source.name!r}; there is nothing left to rank")
    program = named.program(
        named.fusion(data), recent=recent, window=window, step=step, reasoning=reasoning, view=view, workers=workers
    )
    program = named.saved(program, program_name, source, context)
    lm = named.lm(model, out, connections=workers)
    program.set_lm(lm)
    label = f"rank {len(chosen):,} items"
    with keep(named.store(store, source)), count_usage() as usage, quietly(), _waiting(label, usage):
        made = program.recommend(source.history(user), chosen)
    tell_rejected(source)
    show.ranking(out, made, top=top)
    rows = _explained(made, out, top=top, explained=explain, once=getattr(program.scoring, "reasoning", "") == "user")
    out.print(show.usage_line(usage), markup=False)
    about = {"data": source.name, "model": lm.model, "candidates": candidates, "n": len(chosen), "ranking": rows}
    write_object({**about, **show.person_object(made), **show.usage_object(usage)}, json_to)
    failed = [score.error for score in made.scores if score.value is None]
    reason = failed[0] if failed else ""
    end(len(failed), f"{len(failed):,} of {len(chosen):,} candidates were not scored; the first: {reason}")


def _waiting(label: str, usage: Usage) -> AbstractContextManager[Any]:
    """On a terminal, what is done and what the LM was asked for it so far."""
    return waiting(label, news=lambda: show.usage_line(usage))


def _explained(made: Recommendation, out: Any, *, top: int, explained: bool, once: bool) -> list[dict[str, Any]]:
    """The rows of the ranking; printed with their reasons if these are asked for."""
    from srec import explain

    found = explain(made, top=top)
    if explained:
        show.reasons(out, found, reasoning_once=once)
    return [show.ranked_object(one, explained=explained) for one in found]
