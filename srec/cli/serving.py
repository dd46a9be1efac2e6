"""A model and its LoRAs behind an address."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srec import show
from srec.cli import named
from srec.errors import InputError
from srec.exits import notice
from srec.place import place

if TYPE_CHECKING:
    from collections.abc import Iterator


def serve(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENT…]", help="Further arguments of vLLM's server.")
    ] = None,
    *,
    base: Annotated[
        str, typer.Option(help="local: (as --model), or srec-tiny, smollm2-135m, a folder or a hub repository.")
    ] = "local:",
    lora: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]FOLDER", help="A LoRA of the base; as many as you like.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Serve base and LoRA as one whole model; faster.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where to listen; by default a free one.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Load the LoRAs into this running server instead.")] = None,
    python: Annotated[Path | None, typer.Option(help="The python that has vLLM; else $SREC_VLLM_PYTHON.")] = None,
    log: Annotated[Path | None, typer.Option(help="The file for what vLLM says.")] = None,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Most tokens of prompt and answer; 4096.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Answers that are written at once.")] = None,
    ready_within: Annotated[float, typer.Option(min=1, help="Seconds to wait until it is ready.")] = 600.0,
) -> None:
    """Serve a model and its LoRAs with vLLM until Ctrl-C, and say how to reach them."""
    from srec import start_server

    named.check_base(base)
    loras = _named_folders(lora or [])
    for folder in loras.values():
        named.check_lora(folder)
    served = False
    try:
        with (
            _ended_by_sigterm(),
            start_server(
                loras,
                base=base,
                merge=merge,
                base_url=base_url,
                python=python,
                port=port,
                log=log,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
                arguments=arguments or (),
                ready_within_s=ready_within,
            ) as server,
        ):
            served = True
            show.server(show.console(), server)
            server.wait()
    except KeyboardInterrupt:
        if not served:
            raise
        notice("the server has ended" if base_url is None else "the LoRAs were taken out again")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that what was begun is also put away then."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _named_folders(given: list[str]) -> dict[str, str]:
    """Folders by the names given with them, else by their own."""
    folders = {}
    for one in given:
        name, sign, folder = one.rpartition("=")
        alias = name if sign else place(folder).resolve().name
        if alias in folders:
            raise InputError(f"two LoRAs are called {alias!r}; name them apart, as in --lora other={folder}")
        folders[alias] = folder
    return folders
