"""What is installed, what works here, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from srec.errors import MissingPackage, ModelError, StoreError
from srec.place import place

State = Literal["ok", "missing", "broken"]

NEEDED = (
    "srec",
    "dspy",
    "numpy",
    "pyarrow",
    "pillow",
    "diskcache",
    "pydantic",
    "rich",
    "scipy",
    "tomli-w",
    "typer",
    "jinja2",
)
EXTRAS = {
    "local": ("accelerate", "gguf", "llguidance", "peft", "safetensors", "torch", "transformers"),
    "serve": ("vllm",),
}
SERVER_TIMEOUT_S = 3.0
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `missing` can be lived without, `broken` cannot work; `advice` is what to do."""

    subject: str
    state: State = "ok"
    told: str
    advice: str = ""


def examine(models: tuple[str, ...], *, store: Path) -> Iterator[Finding]:
    """Look at the packages, the machine, the folders and each of the model strings, one after the other."""
    yield from _packages()
    yield from _machine()
    yield _cache()
    yield _store(store)
    for model in models:
        yield _model(model)


def _packages() -> Iterator[Finding]:
    yield Finding(subject="python", told=f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield _installed("packages", NEEDED, advice="pip install --upgrade . (in srec's folder)", state="broken")
    for extra, packages in EXTRAS.items():
        yield _installed(
            f"extra {extra}", packages, advice=f"pip install '.[{extra}]' (in srec's folder)", state="missing"
        )


def _installed(subject: str, packages: tuple[str, ...], *, advice: str, state: State) -> Finding:
    versions = {package: _version(package) for package in packages}
    told = ", ".join(f"{package} {version or 'is not installed'}" for package, version in versions.items())
    if all(versions.values()):
        return Finding(subject=subject, told=told)
    return Finding(subject=subject, state=state, told=told, advice=advice)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _machine() -> Iterator[Finding]:
    threads = os.environ.get("OMP_NUM_THREADS")
    bound = f", OMP_NUM_THREADS={threads}" if threads else ""
    yield Finding(
        subject="processor",
        told=f"{platform.machine()}, {_cores()} cores{bound}; bfloat16 in hardware: {_bfloat16()}",
    )
    yield _gpu()


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bfloat16() -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return "unknown"
    return "yes" if "avx512_bf16" in flags else "no, local models compute in float32"


def _gpu() -> Finding:
    if util.find_spec("torch") is None:
        return Finding(
            subject="GPU",
            state="missing",
            told="not looked for without torch",
            advice="pip install '.[local]' (in srec's folder)",
        )
    import torch  # noqa: PLC0415  an extra, and slow

    if not torch.cuda.is_available():
        return Finding(
            subject="GPU", told=f"none that torch {torch.__version__} can use; local models run on the processor"
        )
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return Finding(subject="GPU", told=", ".join(names))


def _cache() -> Finding:
    from srec.lm.checkpoint import cache_folder  # noqa: PLC0415  the LM side, for this command only

    folder = cache_folder()
    told, usable = _room(folder)
    advice = "" if usable else "set SREC_CACHE to a folder that can be written"
    return Finding(subject="cache folder", state="ok" if usable else "broken", told=told, advice=advice)


def _room(folder: Path) -> tuple[str, bool]:
    """Where a folder would be made, with its free space, and whether it can be."""
    there = _existing(folder)
    usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return f"{folder}, {shutil.disk_usage(there).free / GIB:.1f} GiB free" + (
        "" if usable else ", cannot be written"
    ), usable


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    resolved = place(folder).resolve()
    return next(path for path in (resolved, *resolved.parents) if path.exists())


def _store(folder: Path) -> Finding:
    """Write a result into a store of its own beside where stores would be, and read it again."""
    from srec.store import Store  # noqa: PLC0415  for this command only

    subject = "store"
    told, _ = _room(folder)
    try:
        with tempfile.TemporaryDirectory(dir=_existing(folder), prefix=".srec-doctor-") as trial, Store(trial) as store:
            store.put("key", "value")
            works = store.get("key") == "value"
    except StoreError as error:
        return Finding(subject=subject, state="broken", told=str(error), advice="name another folder with --store")
    except OSError as error:
        told = f"{folder} cannot be written: {error.strerror}"
        return Finding(subject=subject, state="broken", told=told, advice="name another folder with --store")
    return Finding(subject=subject, state="ok" if works else "broken", told=told)


def _model(model: str) -> Finding:
    from srec.lm.connect import parse  # noqa: PLC0415  loads DSPy, which takes a second

    try:
        wanted = parse(model)
        match wanted.kind:
            case "local":
                told = _local(wanted.model, lora=wanted.lora)
            case "hosted":
                told = _hosted(wanted.model)
            case _:
                told = _served(wanted.url, wanted.model)
    except ModelError as error:
        told, _, advice = str(error).rpartition("; ")
        return Finding(subject=model, state="broken", told=told or advice, advice=advice if told else "")
    return Finding(subject=model, told=told)


def _local(name: str, *, lora: str = "") -> str:
    """What a local model's name means; `ModelError` if it surely cannot be loaded."""
    from srec.lm.checkpoint import whereabouts  # noqa: PLC0415  the LM side, for this command only
    from srec.lm.lora import check_files  # noqa: PLC0415  likewise

    where = whereabouts(name)
    if where.startswith("folder ") and not (Path(name).expanduser() / "config.json").is_file():
        raise ModelError(f"{where} has no config.json; give a folder in transformers' layout")
    for package in EXTRAS["local"]:
        if not _version(package):
            raise MissingPackage(package, extra="local")
    if not lora:
        return where
    check_files(lora)
    return f"{where}, with the LoRA in {lora}"


def _served(url: str, model: str) -> str:
    from srec.lm.connect import served_models  # noqa: PLC0415  loads DSPy

    key = os.environ.get("SREC_API_KEY") or "EMPTY"
    listed = served_models(url, key=key, must_have=model, timeout_s=SERVER_TIMEOUT_S)
    return f"the server at {url} answers and serves {', '.join(listed)}"


def _hosted(model: str) -> str:
    """What `connect` refuses is refused, and the provider's key is looked for; nothing is sent."""
    from srec.lm.connect import connect  # noqa: PLC0415  loads DSPy

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # else LiteLLM fetches a price list
    import litellm  # noqa: PLC0415  slow, and needed for hosted providers only

    connect(model)
    lacking = litellm.validate_environment(model)["missing_keys"]
    if lacking:
        raise ModelError(f"a hosted provider, whose key is not set; set {', '.join(lacking)}")
    return "a hosted provider; its key is set, whether it is good shows with the first call"
