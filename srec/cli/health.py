"""Does it work here? A demonstration from end to end, and what is installed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from srec import show
from srec.cli import named
from srec.cli.options import DEFAULT_MODEL, DEFAULT_RANKERS, Model, Seed
from srec.cli.outcome import end, print_report, unscored

STUDENT, PROGRAM = "local:srec-tiny#toyshop-student", "toyshop-small"
RANKED = 12


def demo(
    *,
    items: Annotated[int, typer.Option(min=4, help="Toys in the shop; a shopper buys at most half.")] = 300,
    users: Annotated[int, typer.Option(min=2, help="Shoppers, of whom 12 are ranked for.")] = 60,
    model: Model = STUDENT,
    seed: Seed = 0,
    store: Annotated[Path | None, typer.Option("--store", help="Keep the results in this folder.")] = None,
) -> None:
    """Make a toy shop, rank its toys with the program and with baselines, and explain three recommendations."""
    from srec import cases, evaluate, explain, keep, load_program, toyshop
    from srec.data.unseen import unseen

    data, out = toyshop(items=items, users=users, seed=seed).data, show.console()
    offered = f"uniform:{min(20, items // 2)}"
    chosen = cases(data, candidates=offered, users=min(RANKED, users), seed=seed)
    lm = named.lm(model, out)
    program = load_program(PROGRAM)
    program.set_lm(lm)
    with TemporaryDirectory(prefix="srec-demo-") as aside, keep(store or aside) as kept:
        names = DEFAULT_RANKERS.split(",")
        report = evaluate(chosen, {"program": program, **{n: n for n in names}}, seed=seed, lm=lm, store=kept)
        print_report(report, out)
        user_id = data.users[0]
        made = program.recommend(data.history(user_id), unseen(data, user_id, candidates=offered, seed=seed))
    out.print(f"\nThree recommendations for {user_id}, out of {len(made.scores)} toys that were not bought yet:")
    show.reasons(out, explain(made, top=3), reasoning_once=True)
    end(unscored(report))


def doctor(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]…", help="Model strings to look at.")] = None,
    *,
    store: Annotated[Path, typer.Option(help="The folder that results would be kept in.")] = Path("runs"),
) -> None:
    """Say what is installed, what works here, and what to do about what is missing."""
    from srec.doctor import examine

    asked = tuple(models or ())
    found = []
    for finding in examine(asked or (DEFAULT_MODEL,), store=store):
        show.findings(show.console(), [finding])
        found.append(finding)
    broken = [one.subject for one in found if one.state == "broken" and (asked or one.subject != DEFAULT_MODEL)]
    end(len(broken), f"cannot work: {', '.join(broken)}; see above for what to do")
