"""The page: one file, light and dark, that loads nothing.

Its policy (`Content-Security-Policy`) allows the style and the script that it was written with, pictures that stand in
it, and nothing else. Text is escaped by the templates without exception; pictures are defined once, as classes of the
style.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from srec.data.candidate_file import replace_file
from srec.errors import InputError
from srec.evaluation.run_folder import FILES, IMAGES, RUN, RunFolder, SeenItem, read_run_folder
from srec.page import plots, wording
from srec.page.choice import Choice, chosen
from srec.page.looks import Look, looks_of
from srec.page.people import Person, item, person
from srec.page.prompts import difference
from srec.page.stored import stored
from srec.place import place

PAGE = "report.html"
METRICS = ("ndcg@{k}", "recall@{k}", "mrr@{k}", "auc", "pooled_auc")
CODES = {"style": "page.css", "script": "page.js"}
FILTERS = ("number", "interval", "p", "count", "seconds", "day", "head", "told_apart")  # of wording, for the templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page that was written: where it lies, how many bytes it has, and how many of the run's cases it tells of."""

    path: Path
    size: int
    shown: int
    cases: int

    def __str__(self) -> str:
        return f"{self.path}: {self.shown:,} of {self.cases:,} cases, {self.size / 1e6:,.1f} MB"


def report(
    run: str | Path,
    *,
    out: str | Path | None = None,
    users: int | Sequence[str] = 20,
    choice: Choice = "worst",
    ranker: str | None = None,
    seed: int = 0,
) -> Page:
    """Write one HTML file about a run that `evaluate(out=run)` kept.

    Args:
        run: The folder of the run.
        out: The file; `report.html` in the folder if None.
        users: How many users to tell of, or their ids.
        choice: Whom: those that `ranker` serves "worst" or "best" by the table's NDCG, or "random" ones by `seed`.
        ranker: The ranker in question; by default the first program, else the first ranker.
        seed: Draws among users that are served alike.

    Raises:
        InputError: it is no run folder, it was changed or written by a newer srec, `ranker` is not in it, or `out` is
            one of its own files.
    """
    kept = read_run_folder(run)
    by = _ranker(kept, ranker)
    metric = f"ndcg@{kept.report['shown_k']}"
    places = chosen(kept.report, by=by, metric=metric, users=users, choice=choice, seed=seed)
    people = [person(kept, place, by=by) for place in places]
    text = _html(kept, people, by=by, metric=metric, told=_told(choice if isinstance(users, int) else None, by, metric))
    path = place(out) if out is not None else kept.folder / PAGE
    _spare(kept, path)
    replace_file(path, [text])
    return Page(path=path, size=len(text.encode()), shown=len(people), cases=len(kept.cases))


@dataclass(slots=True)
class _Pictures:
    """Gives every picture a class of its own, once."""

    run: RunFolder
    _classes: dict[str, str] = field(default_factory=dict)

    def __call__(self, seen: SeenItem) -> str:
        """The class that shows an item's picture; empty where there is none."""
        if seen.image not in self._classes:
            there = self.run.thumbnail(seen) is not None
            self._classes[seen.image] = f"p{len(self._classes)}" if there else ""
        return self._classes[seen.image]

    def style(self) -> Iterable[str]:
        """The rules of all classes that were given."""
        for digest, name in self._classes.items():
            data = self.run.thumbnail(SeenItem(item_id="", title="", image=digest)) if name else None
            if data is not None:
                yield f".{name}{{background-image:url(data:image/webp;base64,{b64encode(data).decode('ascii')})}}\n"


def _html(run: RunFolder, people: list[Person], *, by: str, metric: str, told: str) -> str:
    pictures, looks = _Pictures(run), looks_of(run.report["rankers"])
    environment = _environment()
    body = environment.get_template("body.html").render(
        run=run,
        report=run.report,
        people=people,
        by=by,
        metric=metric,
        metrics=[name.format(k=run.report["shown_k"]) for name in METRICS],
        told=told,
        apart=wording.APART,
        part_chance=_chance_of_parts(run.report),
        plots=_plots(run.report, metric=metric, looks=looks),
        looks=looks,
        stored=stored(run.report["rankers"]),
        classes=pictures,
        item_of=lambda item_id: item(run, item_id),
        changed=_changed(run),
        difference=difference,
    )
    codes = {
        kind: resources.files("srec.page").joinpath("templates", name).read_text("utf-8")
        for kind, name in CODES.items()
    }
    codes["style"] += "".join(pictures.style())
    return environment.get_template("page.html").render(
        title=f"srec: {run.report['data']}, {run.report['task']}",
        body=Markup(body),  # noqa: S704  a template of ours made it, with everything in it escaped
        policy=_policy(codes),
        **{kind: Markup(code) for kind, code in codes.items()},  # noqa: S704  files of ours, and Base64
    )


def _environment() -> Environment:
    """Templates that escape everything, stop at an unknown name, and show what would hide."""
    environment = Environment(
        loader=PackageLoader("srec.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(wording, name) for name in FILTERS}
    return environment


def _shown(value: Any) -> Any:
    """What a template writes; only plain strings can come from outside."""
    return wording.visible(value) if type(value) is str else value


def _policy(codes: Mapping[str, str]) -> str:
    """Nothing but the style and script of the page itself, and pictures that stand in it."""
    digests = {kind: b64encode(sha256(code.encode()).digest()).decode("ascii") for kind, code in codes.items()}
    allowed = "; ".join(f"{kind}-src 'sha256-{digest}'" for kind, digest in digests.items())
    return f"default-src 'none'; img-src data:; {allowed}; base-uri 'none'; form-action 'none'"


def _plots(told: Mapping[str, Any], *, metric: str, looks: Mapping[str, Look]) -> dict[str, Any]:
    """All plots of a report."""
    rankers, chance = told["rankers"], told["chance"]
    shown = [name.format(k=told["shown_k"]) for name in METRICS[:4]]
    slices, part_chance = told["slices"].get("slices", ()), _chance_of_parts(told)
    return {
        "metrics": [
            plots.forest(
                wording.head(name),
                {ranker: row["metrics"][name] for ranker, row in rankers.items()},
                chance=chance[name],
                looks=looks,
            )
            for name in shown
        ],
        "slices": [
            plots.forest(f"{one['name']} (n = {one['n']:,})", one["rankers"], chance=part_chance, looks=looks)
            for one in slices
        ],
        "calibration": [
            plots.reliability(name, row["calibration"], look=looks[name])
            for name, row in rankers.items()
            if row["calibration"]
        ],
        "costs": plots.costs(metric, _paid(rankers), n=told["n"], chance=chance[metric], looks=looks),
    }


def _chance_of_parts(told: Mapping[str, Any]) -> float | None:
    """What chance gets on any part of the cases: that of all, where each has as many candidates and targets; else None.

    A target that is no candidate has no rank.
    """
    sizes = {
        (case["candidates"], len(case["ranks"]), case["ranks"].count(None))
        for row in told["rankers"].values()
        for case in row["cases"]
    }
    return told["chance"].get(told["slices"].get("metric")) if len(sizes) == 1 else None


def _paid(rankers: Mapping[str, Any]) -> dict[str, Any]:
    """Those whose seconds are what they cost."""
    left_out = stored(rankers)
    return {name: row for name, row in rankers.items() if name not in left_out}


def _changed(run: RunFolder) -> dict[str, list[str]]:
    """By ranker, the predictors whose prompt is not the one that srec ships."""
    return {
        ranker: [name for name, one in prompts.items() if one.demos or one.plain not in (None, one.instructions)]
        for ranker, prompts in run.prompts.items()
    }


def _ranker(run: RunFolder, given: str | None) -> str:
    names = list(run.report["rankers"])
    if given is None:
        return next(iter(run.prompts), names[0])
    if given not in names:
        raise InputError(f"ranker {given!r} is not in this run; it has {', '.join(names)}")
    return given


def _spare(run: RunFolder, path: Path) -> None:
    """Raise where a page would take the place of what the run is made of."""
    asked, own = path.resolve(), run.folder.resolve()
    if asked in {own / name for name in (RUN, *FILES)} or own / IMAGES in asked.parents:
        raise InputError(f"{path} is a file of the run itself; name another file for the page")


def _told(choice: Choice | None, by: str, metric: str) -> str:
    """How the users were chosen."""
    if choice is None:
        return "named for this page"
    if choice == "random":
        return "drawn at random"
    return f"those that {by} serves {choice} by {wording.head(metric)}"
