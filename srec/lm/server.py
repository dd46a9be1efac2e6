"""A LoRA, or a model without one, served by vLLM for as long as a `with` block lasts.

    with srec.serve("runs/lora", base="local:srec-tiny") as student:
        print(student("Hello"))

    with srec.start_server({"mild": "runs/mild", "bold": "runs/bold"}) as server:
        mild, bold = server.lm("mild"), server.lm("bold")

What is served is named by its weights: DSPy keeps answers by the name of their model and knows neither the server nor
the LoRA, so two of the same name would answer for each other.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import dspy

from srec.errors import InputError, ModelError
from srec.lm.checkpoint import Checkpoint, obtain
from srec.lm.connect import DEFAULT_BASE, base_name, connect, parse, served_models
from srec.lm.launch import HOT_LOADING, Launch, find_python, free_port, launched
from srec.lm.lora import LoraCheckpoint, obtain_lora
from srec.lm.merged import merged
from srec.place import place

LOAD_S = 120.0
MOST_BYTES = 1 << 20


class StaysLoadedWarning(UserWarning):
    """A LoRA that was loaded into a running server could not be taken out again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that is ready.

    `base` is the name under which the model without a LoRA is served, `loras` maps the names given by the user to those
    served. `log` is None for a server that was running already.
    """

    url: str
    base: str
    loras: Mapping[str, str]
    log: Path | None = None
    sees_images: bool = True
    _key: str = field(default="EMPTY", repr=False)
    _ended: Callable[[], str] = field(default=lambda: "", repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All that is served here, the base first."""
        return tuple(dict.fromkeys((self.base, *self.loras.values())))

    @property
    def needs_key(self) -> bool:
        """Whether clients have to send a key."""
        return self._key != "EMPTY"

    def lm(self, name: str | None = None, **settings: Any) -> dspy.LM:
        """The model of that name: the user's or the one served. Without a name the first LoRA, else the base.

        `settings` are those of `srec.connect`. Raises `InputError` where nothing has that name.
        """
        served = next(iter(self.loras.values()), self.base) if name is None else self.loras.get(name, name)
        if served not in self.names:
            known = ", ".join([*self.loras, self.base])
            raise InputError(f"no model {name!r} is served here; name one of: {known}")
        weights = served.rpartition("@")[2]
        told = {"images": self.sees_images, "weights": weights, "api_key": self._key, **settings}
        return connect(self.model_string(served), **told)

    def model_string(self, served: str) -> str:
        """What `srec.connect` and `--model` take for one of `names`."""
        return f"vllm:{self.url}#{served}"

    def wait(self) -> None:
        """Return never; raise `ModelError` once the server has ended."""
        while not (reason := self._ended()):
            time.sleep(0.5)
        raise ModelError(f"vLLM ended: {reason}")


@contextmanager
def serve(
    lora: str | Path | None = None,
    *,
    base: str | Path = DEFAULT_BASE,
    merge: bool = False,
    base_url: str | None = None,
    python: str | Path | None = None,
    port: int | None = None,
    log: str | Path | None = None,
    max_model_len: int | None = None,
    max_num_seqs: int | None = None,
    arguments: Sequence[str] = (),
    ready_within_s: float = 600.0,
    progress: bool | None = None,
    **settings: Any,
) -> Iterator[dspy.LM]:
    """The LM of a LoRA on `base`, or of `base` itself, served by vLLM until the block ends.

    All arguments are those of `start_server`, which serves several LoRAs at once; `settings` are those of
    `srec.connect`, such as `max_tokens`.
    """
    with start_server(
        [] if lora is None else [lora],
        base=base,
        merge=merge,
        base_url=base_url,
        python=python,
        port=port,
        log=log,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        arguments=arguments,
        api_key=settings.pop("api_key", None),
        ready_within_s=ready_within_s,
        progress=progress,
    ) as server:
        yield server.lm(**settings)


@contextmanager
def start_server(
    loras: Mapping[str, str | Path] | Sequence[str | Path] = (),
    *,
    base: str | Path = DEFAULT_BASE,
    merge: bool = False,
    base_url: str | None = None,
    python: str | Path | None = None,
    port: int | None = None,
    log: str | Path | None = None,
    max_model_len: int | None = None,
    max_num_seqs: int | None = None,
    arguments: Sequence[str] = (),
    api_key: str | None = None,
    ready_within_s: float = 600.0,
    progress: bool | None = None,
) -> Iterator[Server]:
    """A vLLM server of `base` and any number of its LoRAs; it ends with the block, with all its processes.

    It ends as well when this process does, be it by `kill -9`. It listens to this machine only, fetches nothing from
    the network, and runs on GPUs or on the processor as the installed build of vLLM does.

    Args:
        loras: Folders of LoRAs, by name or named by their folders.
        base: The model they belong to: "local:NAME", a packaged name, a folder or a hub repository.
        merge: Serve, in place of a LoRA beside its base, the whole model that the two make (`srec.merge`), put together
            once in the cache folder. For one LoRA. It answers faster, on the processor much so.
        base_url: A running server of the base to use instead of a new one. LoRAs that it does not list are loaded into
            it and taken out at the end, which it has to allow; it reads them by their path on this machine.
        python: The python that has vLLM, else `$SREC_VLLM_PYTHON`, else this one.
        port: Where to listen; a free one where none is named.
        log: The file for what vLLM says, written anew; without one, a file in the folder for temporary files. It stays.
        max_model_len: The most tokens of a prompt with its answer, 4096 by default.
        max_num_seqs: How many answers are written at once; on the processor 16, else as vLLM has it.
        arguments: Further arguments of vLLM's server; they win over those set here.
        api_key: The key that clients have to send, else `$SREC_API_KEY`; without one, all on this machine are let in.
        ready_within_s: How long to wait until it is ready. A small model on the processor takes half a minute.
        progress: Whether to show that it starts; by default on a terminal.

    Raises:
        ModelError: the weights, the LoRA, vLLM or the running server cannot be used; names the log where there is one.
        InputError: an argument cannot be used.
    """
    url = None if base_url is None else _address(base_url)
    if url is not None and (merge or python or port or log or max_model_len or max_num_seqs or arguments):
        raise InputError("a server that is running already is taken as it is; leave out what is for a new one")
    checkpoint = obtain(base_name(base))
    fitting = {alias: obtain_lora(folder, base=checkpoint) for alias, folder in _aliases(loras).items()}
    if merge:
        checkpoint, names, served = _whole(fitting)
    else:
        names = {alias: served_name(alias, lora) for alias, lora in fitting.items()}
        served = {names[alias]: lora for alias, lora in fitting.items()}
    key = api_key or os.environ.get("SREC_API_KEY") or "EMPTY"
    server = Server(url="", base=checkpoint.identity, loras=names, sees_images=checkpoint.sees_images, _key=key)
    if url is not None:
        with _joined(url, checkpoint, served, key=key):
            yield replace(server, url=url)
        return
    launch = Launch(
        base=checkpoint,
        loras=served,
        python=find_python(python),
        port=free_port(port),
        key=key,
        max_model_len=max_model_len or 4096,
        max_num_seqs=max_num_seqs,
        arguments=tuple(arguments),
    )
    log_file = None if log is None else Path(log)
    with launched(launch, log=log_file, ready_within_s=ready_within_s, progress=progress) as running:
        ended = lambda: running.reason() if running.ended else ""  # noqa: E731
        yield replace(server, url=launch.url, log=running.log, _ended=ended)


def served_name(alias: str, lora: LoraCheckpoint) -> str:
    """The name under which a LoRA is served: the user's, and a digest of its numbers and its base's.

    Signs that mean something in a model string or an address are replaced.
    """
    both = sha256(f"{lora.base.digest} {lora.digest}".encode()).hexdigest()
    return f"{_plain(alias)}@{both[:12]}"


def _plain(alias: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", alias)


def _whole(loras: Mapping[str, LoraCheckpoint]) -> tuple[Checkpoint, dict[str, str], dict[str, LoraCheckpoint]]:
    """The only LoRA merged into its base: the model to serve, its name by the user's, and no LoRA beside it."""
    if len(loras) != 1:
        raise InputError(f"{len(loras)} LoRAs cannot be merged into one model; serve one, or leave out merge")
    [(alias, lora)] = loras.items()
    checkpoint = merged(lora, name=_plain(alias))
    return checkpoint, {alias: checkpoint.identity}, {}


def _aliases(loras: Mapping[str, str | Path] | Sequence[str | Path]) -> dict[str, str | Path]:
    """Folders by name."""
    if isinstance(loras, str | Path):
        raise InputError(f"several LoRAs are given as a list or by name; write [{str(loras)!r}]")
    if isinstance(loras, Mapping):
        return dict(loras)
    named: dict[str, str | Path] = {place(folder).resolve().name: folder for folder in loras}
    if len(named) < len(loras):
        raise InputError("two of the LoRAs have folders of the same name; give them names of their own")
    return named


def _address(base_url: str) -> str:
    """The address of a running server, as `parse` takes it."""
    try:
        return parse(f"vllm:{base_url}#any").url
    except ModelError as error:
        raise InputError(f"{base_url!r} is no address of a server; write it as http://127.0.0.1:8000/v1") from error


# A server that is running already


@contextmanager
def _joined(url: str, base: Checkpoint, loras: Mapping[str, LoraCheckpoint], *, key: str) -> Iterator[None]:
    """Have a running server serve `loras` too; those that it did not serve before are taken out at the end."""
    listed = served_models(url, key=key)
    missing = [name for name in loras if name not in listed]
    if base.identity not in listed and (missing or not loras):
        raise ModelError(
            f"the server at {url} does not serve {base.identity}, it serves: {', '.join(listed) or 'nothing'}; if that "
            f"is the same model, start it with --served-model-name {base.identity}"
        )
    loaded = []
    try:
        for name in missing:
            _load(url, name, loras[name], key=key)
            loaded.append(name)
            served_models(url, key=key, must_have=name)
        yield
    finally:
        for name in loaded:
            _unload(url, name, key=key)


def _load(url: str, name: str, lora: LoraCheckpoint, *, key: str) -> None:
    code, said = _post(f"{url}/load_lora_adapter", {"lora_name": name, "lora_path": str(lora.folder)}, key=key)
    if code == http.HTTPStatus.OK:
        return
    if code in {http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED} and '"error"' not in said:
        raise ModelError(
            f"the server at {url} does not serve {name} and loads no LoRAs; start it with --enable-lora and "
            f"{HOT_LOADING}=1 in its environment, or start one that has the LoRA: srec serve --lora {lora.folder}"
        )
    raise ModelError(f"the server at {url} cannot load {lora.folder}, it says {code}: {said}; see its log")


def _unload(url: str, name: str, *, key: str) -> None:
    try:
        code, said = _post(f"{url}/unload_lora_adapter", {"lora_name": name}, key=key)
    except ModelError as error:
        code, said = 0, str(error)
    if code not in {http.HTTPStatus.OK, http.HTTPStatus.NOT_FOUND}:
        warnings.warn(f"{name} stays loaded at {url}: {said}", StaysLoadedWarning, stacklevel=2)


def _post(url: str, body: dict[str, Any], *, key: str) -> tuple[int, str]:
    """Code and words of an answer."""
    asked = urllib.request.Request(  # noqa: S310 (parse() let only http and https in)
        url,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=LOAD_S) as answer:  # noqa: S310 (likewise)
            return answer.status, answer.read(MOST_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(MOST_BYTES).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise ModelError(f"no server answers at {url} ({getattr(error, 'reason', error)}); start it again") from error
