"""A LoRA on disk: peft's files with a card beside them, and what identifies them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from srec.card import read_card
from srec.errors import InputError, MissingPackage, ModelError
from srec.lm.checkpoint import Checkpoint
from srec.place import place

SETTINGS_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "card.toml"
WEIGHTS = Path(__file__).with_name("weights")
PACKAGED_LORAS = ("toyshop-student",)
"""Names of the LoRAs that come with srec."""
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

    def put_on(self, model: Any) -> Any:
        """Lay it on a model's layers, in their number format; what comes back is peft's model around them.

        Raises:
            ModelError: it does not fit the model.
            MissingPackage: peft is not installed.
        """
        try:
            import peft  # noqa: PLC0415 (only where a LoRA is used)
            from safetensors import SafetensorError  # noqa: PLC0415 (likewise)
        except ImportError as error:
            raise MissingPackage(error.name or "peft", extra="local") from error
        try:
            config = peft.PeftConfig.from_pretrained(str(self.folder))
            config.inference_mode = True
            around = peft.PeftModel(model, config, autocast_adapter_dtype=False)
            weights = peft.load_peft_weights(str(self.folder), device=str(model.device))
            result = peft.set_peft_model_state_dict(around, weights)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise self.misfit(str(error).splitlines()[0]) from error
        left = [name for name in result.missing_keys if "lora_" in name] + list(result.unexpected_keys)
        if left or not weights:
            raise self.misfit(f"{len(left)} of its parts have no counterpart, such as {min(left, default='all')}")
        return around.to(model.dtype).eval()

    def misfit(self, why: str) -> ModelError:
        """The error of a LoRA that cannot be laid on its base."""
        return ModelError(f"the LoRA in {self.folder} does not fit {self.base.name} ({why}); name the base of its card")


def obtain_lora(folder: str | Path, *, base: Checkpoint) -> LoraCheckpoint:
    """The LoRA in a folder, or the one of that name that comes with srec, to be laid on `base`.

    Raises:
        ModelError: a file is missing or cannot be read, or the folder's card tells of another base.
    """
    where = folder_of(folder)
    check_files(where)
    told = _base_of(where)
    if told and told.get("digest") != base.digest:
        raise ModelError(
            f"the LoRA in {where} was trained on {told.get('name')}@{str(told.get('digest'))[:12]}, not on "
            f"{base.identity}; name that base, or train anew on this one"
        )
    return LoraCheckpoint(folder=where, digest=digest_of_lora(where), base=base)


def folder_of(lora: str | Path) -> Path:
    """Where a LoRA is: a folder, else that of the LoRA of this name that comes with srec."""
    where = place(lora)
    known = str(lora) in PACKAGED_LORAS and not where.is_dir()
    return WEIGHTS / str(lora) if known else where.resolve()


def check_files(lora: str | Path) -> None:
    """Raise ModelError unless the folder has what a LoRA consists of."""
    folder = folder_of(lora)
    for name in (SETTINGS_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} has no {name}; give the folder of a LoRA that srec.train or peft wrote, or one that comes "
                f"with srec: {', '.join(PACKAGED_LORAS)}"
            )


def is_tuned(folder: Path) -> bool:
    """Whether a model's folder has the card of `srec.train` or `srec.merge`, which tells that it is a merged one."""
    card = folder / CARD_FILE
    try:
        return card.is_file() and read_card(card).get("merged") is True
    except InputError:
        return False


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
