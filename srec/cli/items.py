"""Items: a dataset folder of them, and a description of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srec import show
from srec.cli import named
from srec.cli.options import DEFAULT_MODEL, Data, Json, Model, Seed, StoreFolder, Strict, Workers
from srec.cli.outcome import end, quietly, tell_rejected, write_object
from srec.errors import InputError
from srec.place import place

if TYPE_CHECKING:
    from srec.data.folder import Dataset


def toyshop(
    folder: Annotated[Path, typer.Argument(help="Where to write; an empty or new folder.")],
    *,
    items: Annotated[int, typer.Option(min=2)] = 300,
    users: Annotated[int, typer.Option(min=2)] = 200,
    seed: Seed = 0,
) -> None:
    """Write the generated toy shop as a dataset folder: tables, pictures and all."""
    from srec import toyshop as make

    folder = place(folder)
    if any((folder / name).exists() for name in ("items.csv", "items.parquet")):
        raise InputError(f"{folder} already holds a dataset; name an empty folder")
    shop = make(items=items, users=users, seed=seed)
    shop.write(folder)
    typer.echo(f"{len(shop.data.items):,} toys and {len(shop.data.interactions):,} purchases written to {folder}")


def convert(
    kind: Annotated[str, typer.Argument(help="movielens, recbole, amazon-2014, amazon-2018, amazon-2023, microlens.")],
    source: Annotated[Path, typer.Argument(help="The folder with the published files.")],
    folder: Annotated[Path, typer.Argument(help="The dataset folder to write.")],
    *,
    min_events: Annotated[int, typer.Option(min=0, help="Leave out users and items with fewer, again and again.")] = 0,
    rating_threshold: Annotated[float | None, typer.Option(help="The rating from which an item is liked.")] = None,
    liked_only: Annotated[bool, typer.Option("--liked-only", help="Leave out what is not liked, first.")] = False,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures named by item id.")] = None,
    download_images: Annotated[
        bool, typer.Option("--download-images", help="Fetch the pictures; the same command again goes on.")
    ] = False,
    most_images: Annotated[int | None, typer.Option(min=1, help="Ask for no more pictures this time.")] = None,
    most_image_mib: Annotated[
        int | None, typer.Option(min=1, help="Ask for none beyond so many MiB this time; 10240 by default.")
    ] = None,
    image_delay: Annotated[
        float | None, typer.Option(help="Seconds from one request to the next at the same host; 0.2 by default.")
    ] = None,
    json_to: Json = None,
) -> None:
    """Write a public dataset in its published files as a dataset folder, and say what became of every row."""
    from srec import convert as run

    download = _download(most_images, most_image_mib, image_delay)
    if download and not download_images:
        raise InputError(
            "--most-images, --most-image-mib and --image-delay say how pictures are fetched; add --download-images"
        )
    made = run(
        kind,
        source,
        folder,
        min_events=min_events,
        rating_threshold=rating_threshold,
        liked_only=liked_only,
        images=images,
        download_images=download_images,
        **download,
    )
    show.console(json_to).print(str(made), markup=False, highlight=False, soft_wrap=True)
    write_object(made.to_object(), json_to)


def _download(most_images: int | None, most_image_mib: int | None, image_delay: float | None) -> dict[str, Any]:
    """The options of a download that were given, as `srec.convert` takes them."""
    from srec.data.web import Manners

    given = {
        "most_images": most_images,
        "most_image_bytes": None if most_image_mib is None else most_image_mib * 2**20,
        "manners": None if image_delay is None else Manners(delay_s=image_delay),
    }
    return {name: value for name, value in given.items() if value is not None}


def describe(
    data: Data,
    *,
    model: Model = DEFAULT_MODEL,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    attributes: Annotated[str | None, typer.Option(help="The attributes to read, separated by commas.")] = None,
    store: StoreFolder = None,
    workers: Workers = 16,
    json_to: Json = None,
    strict: Strict = False,
) -> None:
    """Describe every item from its picture and text. What is in the store is not asked again; failures are."""
    from itertools import islice

    from srec import ItemDescription, bulk, count_usage

    source, out = named.dataset(data, strict=strict), show.console(json_to)
    chosen = _known(source, named.several(attributes))
    lm = named.lm(model, out, connections=workers)
    fusion = named.fusion(data, attributes=chosen)
    fusion.set_lm(lm)
    inputs = islice(source.items.values(), limit)
    total = min(limit or len(source.items), len(source.items))
    with count_usage() as usage, quietly():
        outcomes = bulk.run(
            fusion,
            inputs,
            key=fusion.key,
            returns=ItemDescription,
            store=named.store(store, source),
            workers=workers,
            label="describe",
            total=total,
        )
        shown = 0
        for outcome in outcomes:
            if outcome.value is not None and shown < 3:  # noqa: PLR2004  a few, to see what it is like
                show.described(out, outcome.input, outcome.value)
                shown += 1
    summary = outcomes.summary
    tell_rejected(source)
    out.print(str(summary), markup=False)
    out.print(show.usage_line(usage, cached=summary.cached), markup=False)
    counted = {"data": source.name, "model": lm.model, "items": total, **show.summary_object(summary)}
    write_object({**counted, **show.usage_object(usage), "cache_hits": summary.cached}, json_to)
    end(summary.failed, f"{summary.failed:,} of {total:,} items failed; run again to try these again")


def _known(source: Dataset, attributes: list[str] | None) -> list[str] | None:
    """Names of attributes, each of which some item has; items are opened until all the names are found."""
    if attributes is None:
        return None
    lacking, known = set(attributes), dict[str, None]()
    items = iter(source.items.values())
    while lacking and (item := next(items, None)) is not None:
        lacking -= item.attributes.keys()
        known |= dict.fromkeys(item.attributes)
    if lacking:
        wrong = next(name for name in attributes if name in lacking)
        there = f"there are {', '.join(known)}" if known else "it has none; leave --attributes out"
        raise InputError(f"no item of {source.name!r} has an attribute {wrong!r}; {there}")
    return attributes
