"""Rankers by name, and the names that rankers get in a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from srec.errors import InputError
from srec.evaluation.ablated import Ablated
from srec.evaluation.blend import Blend
from srec.evaluation.probes import PROBES, Probe
from srec.evaluation.rankers import BASELINES, Baseline, Ranker
from srec.evaluation.trec import RunFile, read_run
from srec.recommender import MLLMSRec

if TYPE_CHECKING:
    from srec.data.cases import CaseSet

Entry = str | Ranker | Baseline
"""A name, a ranker, or something with a `fit` that makes one."""
Rankers = Mapping[str, Entry] | Sequence[Entry] | Entry

BLEND, RUN, ABLATED = "blend:", "run:", "ablated:"
NAMES = (
    ", ".join(map(repr, BASELINES)) + ", 'program', 'run:PATH' for a TREC run file, 'blend:NAME+NAME', or "
    "'ablated:PROBE' for the program with one thing changed"
)
ENTRIES = f"{NAMES}; or a callable from a case to scores"


def check_name(name: str) -> None:
    """Raise InputError for what names no ranker, before anything is loaded."""
    if name.startswith(ABLATED):
        _probe(name)
        return
    for part in name.removeprefix(BLEND).split("+") if name.startswith(BLEND) else [name]:
        if part not in (*BASELINES, "program") and not part.startswith(RUN):
            raise InputError(f"ranker {part!r} is not known; give {NAMES}")


def means_program(name: str) -> bool:
    """Whether a name is `program`, the program with one thing changed, or a blend with it."""
    return name.startswith(ABLATED) or "program" in name.removeprefix(BLEND).split("+")


def _probe(name: str) -> Probe:
    """The probe that a name asks for."""
    found = PROBES.get(name.removeprefix(ABLATED))
    if found is None:
        raise InputError(f"ranker {name!r} names no probe; give {ABLATED} and one of {', '.join(PROBES)}")
    return found


def named(
    given: Rankers, *, cases: CaseSet, program: MLLMSRec | None = None, users: int | None = None
) -> dict[str, Ranker | Baseline]:
    """Each ranker by its name in the report; a plain list names them by what they are, a run file by its tag.

    `program` and `users` are those of `resolved`.
    """
    resolve = partial(resolved, cases=cases, program=program, users=users)
    if isinstance(given, Mapping):
        found = {name: resolve(entry)[1] for name, entry in given.items()}
    else:
        entries = [given] if isinstance(given, (str, Baseline)) or callable(given) else list(given)
        pairs = _apart([(entry, *resolve(entry)) for entry in entries])
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise InputError(f"two rankers are named {twice!r}; give each once, or a mapping with a name for each")
    if not found:
        raise InputError(f"no ranker is given; give {ENTRIES}")
    for name in found:
        _check_title(name)
    return found


def _check_title(name: object) -> None:
    """Raise InputError for what no table and no file can show as a name."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(f"a ranker is named {name!r}; give it a name of letters that can be printed")


def _apart(found: Sequence[tuple[Entry, str, Ranker | Baseline]]) -> list[tuple[str, Ranker | Baseline]]:
    """Names and rankers; a run file whose tag is taken goes by its path."""
    counts = Counter(name for _, name, _ in found)
    return [
        (entry if counts[name] > 1 and isinstance(entry, str) and entry.startswith(RUN) else name, ranker)
        for entry, name, ranker in found
    ]


def resolved(
    entry: Entry, *, cases: CaseSet, program: MLLMSRec | None = None, users: int | None = None
) -> tuple[str, Ranker | Baseline]:
    """The ranker that `entry` means for these cases, and a name for it.

    `program` is what `program` means, alone and in a blend, by default the reference program. `users` bounds the
    validation cases of a blend.
    """
    if isinstance(entry, str):
        if not entry.startswith(RUN):
            return entry, _meant(entry, cases=cases, program=program, users=users)
        entry = read_run(entry.removeprefix(RUN))
    if isinstance(entry, RunFile):
        return entry.name, entry
    if isinstance(entry, Ablated):
        return f"{ABLATED}{entry.probe.name}", entry.of(cases)
    if isinstance(entry, MLLMSRec):
        return "program", entry
    if not (callable(entry) or isinstance(entry, Baseline)):
        raise InputError(f"{entry!r} is no ranker; give {ENTRIES}")
    return getattr(entry, "__name__", type(entry).__name__), entry


def _meant(name: str, *, cases: CaseSet, program: MLLMSRec | None, users: int | None) -> Ranker | Baseline:
    """The ranker of a name that is no run file's."""
    check_name(name)
    if name in BASELINES:
        return BASELINES[name]
    if name.startswith(BLEND):
        parts = dict.fromkeys(name.removeprefix(BLEND).split("+"))
        return Blend.like(cases, dict(resolved(part, cases=cases, program=program) for part in parts), users=users)
    asked = program or MLLMSRec()
    if name.startswith(ABLATED):
        return Ablated(_probe(name), asked, cases=cases, items=cases.items, seed=cases.seed)
    return asked
