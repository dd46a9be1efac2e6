"""One base model and the LoRAs trained of it, behind one engine: a request says by its model who is to answer.

DSPy copies an LM for its tuned weights by the name of the model alone, and copies programs with their LMs at will; so
the engine is the same for all of them, and what is loaded or served is kept here, by name. A name has a digest of the
weights, and is the one that `srec.connect` and `srec.serve` give to the same.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dspy.lm15 import Request, Response

from srec.errors import InputError, ModelError
from srec.lm.checkpoint import obtain
from srec.lm.connect import ModelString, ServerEngine, local_engine, parse
from srec.lm.lora import obtain_lora
from srec.lm.server import served_name, start_server

Words = tuple[str, ...]
"""What prompts of one predictor have in common: the instructions, and the answers of the demos."""


class OtherWordsWarning(UserWarning):
    """A LoRA is asked in other words than those that it was trained on."""


class Family:
    """Answers as the base or as one of its LoRAs, in this process or by vLLM.

    Args:
        base: A local model without a LoRA, as in "local:srec-tiny".
        device: As in `srec.connect`; in this process only.
        serve: Options of `srec.start_server`, for answers by vLLM; None for answers in this process, where weights are
            loaded when they are first asked and dropped by `kill`. A server has to be launched before it is asked.

    Raises:
        ModelError: the base is no local model, has a LoRA, or cannot be loaded.
    """

    supports_response_schema = True
    scores_labels = True
    supported_params = ServerEngine.supported_params | {"frequency_penalty"}

    def __init__(self, base: str, *, device: str | None = None, serve: Mapping[str, Any] | None = None) -> None:
        wanted = parse(base)
        if wanted.kind != "local" or wanted.lora:
            raise ModelError(f"{base!r} cannot be finetuned; give a local model without a LoRA, as in local:srec-tiny")
        self.base = f"local:{wanted.model}"
        self.checkpoint = obtain(wanted.model)
        self.sees_images = self.checkpoint.sees_images
        self.serves = serve is not None
        self._name, self._device, self._serve = wanted.model, device, dict(serve or {})
        self.model = f"{'vllm' if self.serves else 'local'}/{self.checkpoint.identity}"
        self._loras: dict[str, Path | None] = {self.model: None}
        self._words: dict[str, frozenset[Words]] = {}
        self._running: dict[str, tuple[Any, ExitStack]] = {}
        self._special_tokens: tuple[str, ...] | None = () if self.serves else None
        self._lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Family:
        """The family itself: weights and servers are shared by all copies of an LM."""
        return self

    def add(self, folder: str | Path, *, words: Collection[Words] = ()) -> str:
        """Take in the LoRA in a folder; returns its model name, as an LM bears it.

        With the `words` that it was trained on, others are warned of, once (`OtherWordsWarning`): a teacher with
        prompts of its own leaves a student that is asked what it has not learnt.
        """
        lora = obtain_lora(folder, base=self.checkpoint)
        if self.serves:
            model = f"vllm/{served_name(self._alias, lora)}"
        else:
            model = f"local/{self.checkpoint.identity}+{lora.identity}"
        self._loras[model] = lora.folder
        if words:
            self._words[model] = frozenset(words)
        return model

    def model_string(self, model: str) -> str:
        """What `srec.connect` takes for the weights behind a model name."""
        lora = self._lora_of(model)
        return self.base if lora is None else f"{self.base}#{lora}"

    def complete(self, request: Request) -> Response:
        """Answer one request by the model that it names."""
        self._listen(request)
        answered: Response = self._engine(request.model).complete(request)
        return answered

    def launch(self, model: str, options: Mapping[str, Any] | None = None) -> None:
        """Load the weights or start the server of a model; one that is there is left as it is.

        `options` are further ones of `srec.start_server`.
        """
        lora = self._lora_of(model)
        if options and not self.serves:
            raise InputError(f"{model} runs in this process and takes no options of a server; leave launch_kwargs out")
        with self._lock:
            if model in self._running:
                return
            with ExitStack() as held:
                engine = self._served(lora, options or {}, held) if self.serves else self._loaded(lora, held)
                if f"{model.partition('/')[0]}/{engine.identity}" != model:
                    raise ModelError(f"what was {model} is now {engine.identity}: its files have changed; train anew")
                self._running[model] = (engine, held.pop_all())

    def kill(self, model: str) -> None:
        """Drop the weights or stop the server of a model, if they are there."""
        with self._lock:
            _, held = self._running.pop(model, (None, ExitStack()))
            held.close()

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the models that are loaded or served."""
        return tuple(self._running)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokens that text from outside must not contain, where they are known."""
        if self._special_tokens is None:
            self._special_tokens = tuple(self._any().special_tokens)
        return self._special_tokens

    def answer_token_ids(self, answers: Sequence[str]) -> tuple[int, ...]:
        """Token ids by which `answers` begin: the same for the base and its LoRAs."""
        return tuple(self._any().answer_token_ids(answers))

    @property
    def _alias(self) -> str:
        return f"{self.checkpoint.name}-lora"

    def _listen(self, request: Request) -> None:
        """Warn of the first prompt whose words a LoRA was not trained on."""
        known = self._words.get(request.model)
        if known is None or (words := _words_of(request)) in known:
            return
        self._words.pop(request.model, None)
        begin = words[0].partition("\n")[0]
        warnings.warn(
            f"{request.model} is asked in words that it was not trained on, as in {begin!r}: its teacher had other "
            "prompts, or the prompts have changed since; finetune with a teacher that has the student's prompts, or "
            "with none",
            OtherWordsWarning,
            stacklevel=1,
        )

    def _lora_of(self, model: str) -> Path | None:
        if model not in self._loras:
            raise ModelError(f"{model} is none of {', '.join(self._loras)}; connect to it on its own")
        return self._loras[model]

    def _engine(self, model: str) -> Any:
        with self._lock:
            if model not in self._running and self.serves:
                self._lora_of(model)
                raise ModelError(f"{model} is not being served; call launch() of its LM, and kill() when it is done")
            self.launch(model)
            return self._running[model][0]

    def _any(self) -> Any:
        """An engine that is there, else that of the base."""
        with self._lock:
            return self._engine(next(iter(self._running), self.model))

    def _loaded(self, lora: Path | None, held: ExitStack) -> Any:
        wanted = ModelString(kind="local", model=self._name, lora="" if lora is None else str(lora))
        engine = local_engine(wanted, device=self._device)
        held.callback(engine.close)
        return engine

    def _served(self, lora: Path | None, options: Mapping[str, Any], held: ExitStack) -> Any:
        loras = {} if lora is None else {self._alias: lora}
        server = held.enter_context(start_server(loras, base=self.base, **{**self._serve, **options}))
        engine = server.lm().engine
        held.callback(engine.close)
        return engine


def _words_of(request: Request) -> Words:
    system = request.system if isinstance(request.system, str) else _text(request.system or ())
    return (system, *(_text(message.parts) for message in request.messages if message.role == "assistant"))


def _text(parts: Sequence[Any]) -> str:
    return "".join(getattr(part, "text", "") for part in parts)
