"""One string for each language model, and one door to all of them.

local:srec-tiny                         weights in this process: a packaged name, a folder, or a hub repository
local:srec-tiny#runs/lora               the same with a LoRA of that model, from a folder
local:srec-tiny#toyshop-student         the same with a LoRA that comes with srec
local:                                  the same, of the model that $SREC_LOCAL_MODEL names, else of srec-tiny
vllm:http://127.0.0.1:8000/v1#MODEL     a vLLM server
http://127.0.0.1:1234/v1#MODEL          any other server with OpenAI's chat API
openai/gpt-4o-mini, anthropic/..., ...  a hosted provider, as DSPy spells it
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import dspy
from dspy.clients.engines.lm15_engine import LM15Engine
from dspy.lm15 import Request, Response, RouterConfig, Timeouts, UnknownModelError
from dspy.utils.exceptions import LMConfigurationError

from srec.errors import InputError, MissingPackage, ModelError
from srec.lm import checkpoint
from srec.lm.lora import obtain_lora
from srec.lm.threads import wait_calmly
from srec.lm.verbalizer import answer_token_ids
from srec.place import place

FORMS = "local:NAME, local:FOLDER, local:NAME#LORA_FOLDER, vllm:URL#MODEL, URL#MODEL or PROVIDER/MODEL"
FREQUENCY_PENALTY = 0.5
"""For local models: without it, models of this size repeat themselves until an answer's bound."""
DEFAULT_LOCAL = "srec-tiny"
DEFAULT_BASE = "local:"
Kind = Literal["local", "vllm", "server", "hosted"]
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelString:
    """A model string taken apart; `url` is empty without a server to name, `lora` without a LoRA's folder."""

    kind: Kind
    model: str
    url: str = ""
    lora: str = ""


def parse(model: str) -> ModelString:
    """Take a model string apart.

    Raises:
        ModelError: it has none of the known forms.
    """
    if model.startswith("local:"):
        return _local_string(model.removeprefix("local:"))
    if model.startswith(("vllm:", "http://", "https://")):
        url, _, name = model.removeprefix("vllm:").partition("#")
        if not name or urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ModelError(
                f"model string {model!r} needs an address and a model, as in vllm:http://127.0.0.1:8000/v1#NAME"
            )
        kind: Kind = "vllm" if model.startswith("vllm:") else "server"
        return ModelString(kind=kind, model=name, url=url.rstrip("/"))
    provider, _, name = model.partition("/")
    if provider and name and ":" not in provider and _is_provider(model):
        return ModelString(kind="hosted", model=model)
    raise ModelError(f"unknown model string {model!r}; give one of the forms {FORMS}")


def _local_string(told: str) -> ModelString:
    """`NAME`, `NAME#LORA_FOLDER` or `#LORA_FOLDER`; else what $SREC_LOCAL_MODEL says, without a leading '#'."""
    default = os.environ.get("SREC_LOCAL_MODEL") or DEFAULT_LOCAL
    name, sign, lora = (told or default).partition("#")
    if sign and not lora:
        raise ModelError(f"model string 'local:{told}' names no LoRA after '#', as in local:{DEFAULT_LOCAL}#FOLDER")
    return ModelString(kind="local", model=name or default.partition("#")[0], lora=lora)


def base_name(base: str | Path) -> str:
    """What `checkpoint.obtain` takes, of what a user calls a base: a model string, a name or a folder.

    Raises:
        InputError: it names a LoRA too.
    """
    if isinstance(base, Path):
        return str(place(base).absolute())
    if "#" in base:
        raise InputError(f"base {base!r} names a LoRA; name the base alone, and the LoRA beside it")
    return parse(base).model if base.startswith("local:") else base


def connect(
    model: str,
    *,
    max_tokens: int = 512,
    temperature: float = 0.0,
    cache: bool = False,
    num_retries: int = 2,
    timeout_s: float = 120.0,
    max_connections: int = 128,
    api_key: str | None = None,
    images: bool | None = None,
    weights: str | None = None,
    device: str | None = None,
    **options: Any,
) -> dspy.LM:
    """The language model that a string names, as a `dspy.LM` that srec's stages and any DSPy program can use.

    Args:
        model: One of the forms in this module's docstring.
        max_tokens: Bound of an answer where a stage sets none.
        temperature: 0.0 for the likeliest answer.
        cache: Whether DSPy keeps answers too; srec's own store does not need it.
        num_retries: How often a call is tried again after a busy, slow or broken answer of a server.
        timeout_s: How long a server may be silent.
        max_connections: Size of the connection pool; as many as there are workers is right.
        api_key: The server's key, else `$SREC_API_KEY` or, for a hosted provider, the provider's own variable.
        images: Whether the model sees pictures, where srec cannot know: servers and hosted providers (default: yes).
        weights: What identifies a server's weights (a digest, a revision), so that results outlive its address.
        device: For local models: "cpu", "cuda", "cuda:1"; the GPU where there is one.
        options: Further generation options, such as `top_p` or `seed`.

    Raises:
        ModelError: the string, its weights or its server cannot be used; the sentence says what to do.
    """
    wanted = parse(model)
    settings = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "cache": cache,
        "num_retries": num_retries,
        **options,
    }
    if wanted.kind == "hosted":
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # else LiteLLM fetches a price list
        key = {"api_key": api_key} if api_key else {}
        try:
            hosted = dspy.LM(model, timeout=timeout_s, **key, **settings)
        except LMConfigurationError as error:
            raise ModelError(
                f"{model} takes no temperature of 0 and writes before it answers; choose one that does not reason, "
                "since scores are read from its first token"
            ) from error
        hosted.sees_images = images is not False
        return hosted
    if wanted.kind == "local":
        engine: Any = local_engine(wanted, device=device)
        if not engine.is_tuned:  # what is tuned writes as it learned, here and on a server
            settings.setdefault("frequency_penalty", FREQUENCY_PENALTY)
    else:
        server_key = api_key or os.environ.get("SREC_API_KEY") or "EMPTY"
        served_models(wanted.url, key=server_key, must_have=wanted.model, timeout_s=min(timeout_s, 10.0))
        engine = ServerEngine(
            wanted,
            api_key=server_key,
            timeout_s=timeout_s,
            max_connections=max_connections,
            images=images is not False,
            weights=weights,
        )
    return dspy.LM(f"{wanted.kind}/{engine.identity}", engine=engine, **settings)


def identity(lm: Any) -> str:
    """What decides an LM's answers, in one string: its weights or server, and its generation options.

    Results are kept under it, so two models never answer for each other.
    """
    hidden = {"api_key", "timeout", "rollout_id", "headers", "extra_headers"}
    options = {key: value for key, value in sorted(lm.kwargs.items()) if key not in hidden and value is not None}
    return f"{lm.model} {json.dumps(options, sort_keys=True, default=str)}"


def sees(lm: Any) -> bool:
    """Whether an LM takes pictures."""
    return bool(getattr(lm.engine, "sees_images", getattr(lm, "sees_images", True)))


class ServerEngine:
    """A server with OpenAI's chat API, behind DSPy's engine seam; one connection pool, one attempt a call."""

    supports_response_schema = True
    supported_params = frozenset(
        {"max_tokens", "temperature", "top_p", "stop", "seed", "logprobs", "top_logprobs", "response_format"}
    )

    def __init__(
        self,
        server: ModelString,
        *,
        api_key: str,
        timeout_s: float,
        max_connections: int,
        images: bool,
        weights: str | None,
    ) -> None:
        told = bool(weights) and server.model.endswith(f"@{weights}")
        self.identity = server.model if told else f"{server.model}@{weights or server.url}"
        self.sees_images = images
        self.scores_labels = server.kind == "vllm"
        self._server, self._key, self._timeout_s = server, api_key, timeout_s
        provider = "vllm" if server.kind == "vllm" else "ollama"  # whose dialect (`max_tokens`) most servers speak
        self._wire_model = f"{provider}:{server.model}"
        self._engine = LM15Engine(
            RouterConfig(
                env={},
                base_urls={provider: server.url},
                api_keys={provider: api_key},
                timeouts=Timeouts(read=timeout_s, write=timeout_s, pool=timeout_s),
                max_connections=max_connections,
            )
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> ServerEngine:
        """The engine itself: a connection pool is shared, not copied."""
        return self

    def complete(self, request: Request) -> Response:
        """Send one request; errors are DSPy's own."""
        return self._engine.complete(replace(request, model=self._wire_model))

    def answer_token_ids(self, answers: Sequence[str]) -> tuple[int, ...]:
        """Token ids by which `answers` begin, from vLLM's `/tokenize` (`srec.lm.verbalizer`).

        Raises:
            ModelError: the server does not tell.
        """
        return answer_token_ids(str, self._encode_answer, answers)

    def _encode_answer(self, answer: str) -> list[int]:
        """Token ids of a chat up to and with `answer`; without one, up to where the assistant begins to write."""
        chat = [{"role": "user", "content": "?"}, *([{"role": "assistant", "content": answer}] if answer else [])]
        asked = {
            "model": self._server.model,
            "messages": chat,
            "add_generation_prompt": not answer,
            "continue_final_message": bool(answer),
        }
        url = self._server.url.removesuffix("/v1") + "/tokenize"
        answered = _http_json(url, key=self._key, timeout_s=self._timeout_s, body=asked)
        try:
            return [int(token) for token in answered["tokens"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{url} does not answer as vLLM does; connect without the prefix 'vllm:'") from error

    def close(self) -> None:
        """Close the connections."""
        self._engine.close()


def served_models(url: str, *, key: str = "EMPTY", must_have: str | None = None, timeout_s: float = 10.0) -> list[str]:
    """The models that a server lists at `URL/models`.

    Raises:
        ModelError: it does not answer, answers something else, or does not list `must_have`.
    """
    answered = _http_json(f"{url}/models", key=key, timeout_s=timeout_s)
    try:
        listed = [str(entry["id"]) for entry in answered["data"]]
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"what answers at {url}/models is not a server with OpenAI's API; check the address"
        ) from error
    if must_have is not None and must_have not in listed:
        raise ModelError(
            f"the server at {url} does not serve {must_have!r}; it serves: {', '.join(listed) or 'nothing'}"
        )
    return listed


def _http_json(url: str, *, key: str, timeout_s: float, body: dict[str, Any] | None = None) -> Any:
    """What a server answers at `url`: asked by GET, or by POST where there is a body."""
    asked = urllib.request.Request(  # noqa: S310 (parse() let only http and https in)
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=timeout_s) as answer:  # noqa: S310 (likewise)
            return json.loads(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        raise ModelError(f"the server answered {error.code} to {url}; check the address and SREC_API_KEY") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(f"no server answers at {url} ({reason}); start it, or check the address") from error
    except ValueError as error:
        raise ModelError(f"what answers at {url} is not a server with OpenAI's API; check the address") from error


def local_engine(wanted: ModelString, *, device: str | None) -> Any:
    """The engine of a model in this process, its weights loaded.

    Raises:
        ModelError: the weights or the LoRA cannot be used.
        MissingPackage: the extra `local` is not installed.
    """
    wait_calmly()
    weights = checkpoint.obtain(wanted.model)
    lora = obtain_lora(wanted.lora, base=weights) if wanted.lora else None
    try:
        from srec.lm.local import LocalEngine  # noqa: PLC0415 (torch is loaded when it is needed)
    except ImportError as error:
        raise MissingPackage(error.name or "torch", extra="local") from error
    return LocalEngine(weights, lora=lora, device=device)


def _is_provider(model: str) -> bool:
    """Whether DSPy, or LiteLLM behind it, knows the provider of `provider/model`."""
    try:
        LM15Engine(RouterConfig(env={})).resolve(model)
    except UnknownModelError:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
        import litellm  # noqa: PLC0415 (slow, and needed for rare providers only)

        return model.partition("/")[0] in {str(getattr(p, "value", p)) for p in litellm.provider_list}
    else:
        return True
