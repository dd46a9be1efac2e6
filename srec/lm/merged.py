"""A LoRA added to the weights of its base: a whole model, which whatever loads models can load.

The sum is rounded to the base's own number format, so answers differ a little from those of the LoRA beside its base. A
whole model costs what its base costs, where vLLM on the processor multiplies a LoRA token by token.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from hashlib import sha256
from pathlib import Path

from srec.card import write_card
from srec.errors import InputError, MissingPackage, ModelError
from srec.lm.checkpoint import Checkpoint, digest_of, made, obtain
from srec.lm.connect import DEFAULT_BASE, base_name
from srec.lm.lora import CARD_FILE, LoraCheckpoint, obtain_lora
from srec.place import place

SAME_FILES = (".json", ".jinja", ".model", ".txt")
SHARED = 0o755  # as other folders are; a temporary one is for its owner alone


def merge(lora: str | Path, *, base: str | Path = DEFAULT_BASE, out: str | Path) -> Path:
    """Write the model that a LoRA makes of its base into a folder, in transformers' layout, with a card.

    Args:
        lora: The folder of a LoRA, or the name of one that comes with srec.
        base: The model that it was trained on: "local:NAME", a packaged name, a folder or a hub repository.
        out: A folder that is empty or not there yet. `local:FOLDER` then connects to it, and `srec.serve(base=FOLDER)`
            serves it.

    Raises:
        InputError: `out` is a file, or not empty.
        ModelError: the base or the LoRA cannot be had, they do not fit, or the folder cannot be written.
    """
    folder = place(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder; name one that is, or one that is not there yet")
    adapter = obtain_lora(lora, base=obtain(base_name(base)))
    target, aside = folder.resolve(), None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        aside.chmod(SHARED)
        _write_with_card(adapter, aside)
        aside.replace(target)
    except OSError as error:
        raise ModelError(f"the model cannot be written to {folder}: {error}; name another folder") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def merged(lora: LoraCheckpoint, *, name: str) -> Checkpoint:
    """The model that a LoRA makes of its base, under a name of the user's; put together once in the cache folder."""
    code = Path(__file__).read_bytes()
    key = sha256(f"{lora.base.digest} {lora.digest} ".encode() + code).hexdigest()
    folder = made(f"merged-{key[:12]}", "merged", partial(_write_with_card, lora))
    return Checkpoint(name=name, folder=folder, digest=digest_of(folder))


def _write_with_card(lora: LoraCheckpoint, folder: Path) -> None:
    write_merged(lora, folder)
    about = {"digest": digest_of(folder), "merged": True, "lora": lora.digest}
    write_card(folder / CARD_FILE, about | {"base": {"name": lora.base.name, "digest": lora.base.digest}})


def write_merged(lora: LoraCheckpoint, folder: Path) -> None:
    """A whole model: the base's own files around weights to which the LoRA was added in float32.

    Raises:
        ModelError: the base cannot be loaded, or the LoRA does not fit.
        MissingPackage: the extra `local` is not installed.
    """
    try:
        import torch  # noqa: PLC0415 (an extra)
        import transformers  # noqa: PLC0415 (an extra)

        from srec.lm.local import LocalEngine  # noqa: PLC0415 (likewise)
    except ImportError as error:
        raise MissingPackage(error.name or "torch", extra="local") from error
    engine = LocalEngine(lora.base, device="cpu", dtype=torch.float32)
    try:
        whole = lora.put_on(engine.model).merge_and_unload()
    finally:
        engine.close()
    for path in sorted(lora.base.folder.iterdir()):
        if path.suffix in SAME_FILES and not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)
    stored = transformers.AutoConfig.from_pretrained(lora.base.folder).dtype
    whole.to(stored if isinstance(stored, torch.dtype) else torch.float32).save_pretrained(folder)
