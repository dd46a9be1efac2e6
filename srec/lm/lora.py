"""A LoRA on disk: peft's files with a card beside them, and what identifies them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from srec.card import read_card
from srec.errors import InputError, ModelError
from srec.lm.checkpoint import Checkpoint
from srec.place import place

SETTINGS_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "card.toml"
UNTOLD = frozenset({"base_model_name_or_path", "inference_mode", "peft_version", "revision"})
"""Settings that say how a LoRA came to be or is used; they differ between two folders of the same LoRA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraCheckpoint:
    """A folder in peft's layout; `digest` identifies its numbers, `base` is the model that it was trained on."""

    folder: Path
    digest: str
    base: Checkpoint

    @property
    def identity(self) -> str:
        """Its numbers in one short string, for model names and for keys of results."""
        return f"lora@{self.digest[:12]}"

    def misfit(self, why: str) -> ModelError:
        """The error of a LoRA that cannot be laid on its base."""
        return ModelError(f"the LoRA in {self.folder} does not fit {self.base.name} ({why}); name the base of its card")


def obtain_lora(folder: str | Path, *, base: Checkpoint) -> LoraCheckpoint:
    """The LoRA in a folder, to be laid on `base`.

    Raises:
        ModelError: a file is missing or cannot be read, or the folder's card tells of another base.
    """
    where = place(folder).resolve()
    check_files(where)
    told = _base_of(where)
    if told and told.get("digest") != base.digest:
        raise ModelError(
            f"the LoRA in {where} was trained on {told.get('name')}@{str(told.get('digest'))[:12]}, not on "
            f"{base.identity}; name that base, or train anew on this one"
        )
    return LoraCheckpoint(folder=where, digest=digest_of_lora(where), base=base)


def check_files(folder: Path) -> None:
    """Raise ModelError unless the folder has what a LoRA consists of."""
    for name in (SETTINGS_FILE, WEIGHTS_FILE):
        if not (place(folder) / name).is_file():
            raise ModelError(f"{folder} has no {name}; give the folder of a LoRA that srec.train or peft wrote")


def digest_of_lora(folder: Path) -> str:
    """SHA-256 over a LoRA's settings and numbers, wherever it lies and whatever its base's folder is called."""
    settings = _json(folder / SETTINGS_FILE)
    kept = {key: value for key, value in settings.items() if key not in UNTOLD}
    total = sha256(json.dumps(kept, sort_keys=True).encode() + b"\0")
    total.update((folder / WEIGHTS_FILE).read_bytes())
    return total.hexdigest()


def _base_of(folder: Path) -> dict[str, Any]:
    """What the card says of the base; nothing where there is no card."""
    card = folder / CARD_FILE
    try:
        base = read_card(card).get("base", {}) if card.exists() else {}
    except InputError as error:
        raise ModelError(f"{error} with srec.train, or take the card away") from error
    return base if isinstance(base, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}; train anew") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{path} does not hold settings; train anew")
    return settings
