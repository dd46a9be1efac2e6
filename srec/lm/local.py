"""One transformers model in this process, behind DSPy's engine seam.

Calls from many threads meet in a queue. One worker takes all that wait, groups them by what their prompts share, and
decodes each group in padded batches (`srec.lm.prefix`). Batches differ from run to run, and so does the last bit of a
bfloat16 number; `max_rows=1` computes every prompt alone and gives the same bytes each time.
"""

from __future__ import annotations

import queue
import threading
from base64 import b64decode
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
import transformers
from dspy.lm15 import (
    ContextLengthError,
    ImagePart,
    InvalidRequestError,
    Message,
    Request,
    Response,
    TextPart,
    TokenLogprob,
    TopLogprob,
    UnsupportedFeatureError,
    Usage,
)
from safetensors import SafetensorError

from srec.errors import MissingPackage, ModelError, VerbalizerError
from srec.lm.checkpoint import Checkpoint, obtain
from srec.lm.eyes import Eyes, Sight, placeholder
from srec.lm.head import Head
from srec.lm.lora import LoraCheckpoint, is_tuned, obtain_lora
from srec.lm.prefix import Decoder, Keys, chunks, plan
from srec.lm.verbalizer import NO, YES, answer_token_ids

if TYPE_CHECKING:
    from srec.lm.guide import Grammar, Guide

DEFAULT_MAX_TOKENS = 512
PASS_COST = 10  # positions: reading all weights once, beside what it takes to compute them
LABEL_IDS = "logprob_token_ids"  # the extension by which vLLM, too, is asked for certain tokens' log-probabilities


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat as the model reads it, up to where the assistant begins to write; `sights` are its pictures in order."""

    rendered: str
    ids: list[int]
    keys: Keys
    sights: tuple[Sight, ...]


@dataclass(slots=True)
class Job:
    """One request under way."""

    ids: list[int]
    keys: Keys
    sights: tuple[Sight, ...]  # of each image in order
    config: Any
    future: Future[Response]
    guide: Guide | None = None
    written: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    generator: torch.Generator | None = None

    @property
    def max_tokens(self) -> int:
        """How many tokens may be written."""
        return self.config.max_tokens or DEFAULT_MAX_TOKENS


class LocalEngine:
    """Answers DSPy's requests with a model in this process.

    Shapes and limits: at most `max_rows` prompts and `max_positions` padded positions in one forward pass; requests
    that arrive within `gather_s` seconds of each other are computed together.

    A `lora` is added to float32 weights, which saves time and loses no more than float32 rounds away. Beside others it
    stays, computed in their number format as by vLLM: of what is added to bfloat16 weights, a part is rounded away.
    """

    supports_response_schema = True
    supported_params = frozenset(
        {
            "max_tokens",
            "temperature",
            "top_p",
            "stop",
            "seed",
            "frequency_penalty",
            "logprobs",
            "top_logprobs",
            "response_format",
        }
    )
    scores_labels = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        lora: LoraCheckpoint | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        max_rows: int = 32,
        max_positions: int = 65_536,
        gather_s: float = 0.01,
    ) -> None:
        transformers.utils.logging.disable_progress_bar()
        self.identity = f"{checkpoint.identity}+{lora.identity}" if lora is not None else checkpoint.identity
        self._checkpoint = checkpoint
        self._lora = lora
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._dtype = dtype or (torch.bfloat16 if _fast_bfloat16(self._device) else torch.float32)
        self._max_rows, self._max_positions, self._gather_s = max_rows, max_positions, gather_s
        self._load()
        self._grammar: Grammar | None = None
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()  # of queue, worker and grammar

    def _load(self) -> None:
        try:
            config = transformers.AutoConfig.from_pretrained(self._checkpoint.folder)
        except (OSError, ValueError) as error:
            raise ModelError(f"{self._checkpoint.folder} cannot be loaded: {error}") from error
        self.sees_images = hasattr(config, "vision_config")
        if "mrope_section" in str(config.to_dict()):
            raise ModelError(
                f"{self._checkpoint.name}: its image positions (M-RoPE) are not supported in process; "
                "serve it with vLLM and connect by 'vllm:<url>#<model>'"
            )
        kind = transformers.AutoModelForImageTextToText if self.sees_images else transformers.AutoModelForCausalLM
        try:
            model = kind.from_pretrained(self._checkpoint.folder, dtype=self._dtype).to(self._device).eval()
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(self._checkpoint.folder)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{self._checkpoint.folder} cannot be loaded: {error}") from error
        if self.tokenizer.chat_template is None:
            raise ModelError(f"{self._checkpoint.folder} has no chat template; use an instruction-tuned model")
        self._processor = _processor(self._checkpoint, model.config) if self.sees_images else None
        if self._lora is not None:
            around = self._lora.put_on(model)
            model = around.merge_and_unload() if self._dtype == torch.float32 else model
        self._model = model
        self._embed = model.get_input_embeddings()
        self.head = Head(model.get_output_embeddings(), config.get_text_config(), fine=self._answers_if_distinct())
        self._decoder = Decoder(model.get_decoder(), self.head)
        self._image_token = getattr(config, "image_token_id", None)
        stops = model.generation_config.eos_token_id
        self._stops = {self.tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])} - {None}
        text_config = config.get_text_config()
        self.context = text_config.max_position_embeddings
        self._eyes = self._opened_eyes() if self.sees_images else None
        self._vocabulary = model.get_output_embeddings().out_features

    def _opened_eyes(self) -> Eyes:
        return Eyes(
            self._model,
            self._processor,
            encode=self._encode,
            placeholder=placeholder(self._render),
            most_positions=self._max_positions,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> LocalEngine:
        """The engine itself: optimizers copy programs with their LM, and weights must not be copied with them."""
        return self

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokens that text from outside must not contain."""
        return tuple(sorted(str(token) for token in self.tokenizer.added_tokens_decoder.values()))

    @property
    def is_tuned(self) -> bool:
        """Whether it has a LoRA, beside its weights or merged into them."""
        return self._lora is not None or is_tuned(self._checkpoint.folder)

    @property
    def model(self) -> Any:
        """The transformers model itself, for training; whoever changes it calls `forget`."""
        return self._model

    @property
    def eyes(self) -> Eyes | None:
        """What the model sees with, None if it cannot."""
        return self._eyes

    @property
    def is_plain(self) -> bool:
        """Whether the decoder's attention is a plain causal softmax, so that any mask over its positions is kept."""
        return self._decoder.is_plain

    def forget(self) -> None:
        """Drop what was computed of earlier prompts: the weights have changed."""
        self._decoder.forget()

    def end_of_turn(self) -> int:
        """The token by which an answer ends: what the chat template writes after it, if the model stops there."""
        chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "\N{SECTION SIGN}"}]
        after = self._render(chat, opened=False).rpartition("\N{SECTION SIGN}")[2]
        ids = self._encode(after)
        return ids[0] if ids and ids[0] in self._stops else int(self.tokenizer.eos_token_id)

    def answer_token_ids(self, answers: Sequence[str]) -> tuple[int, ...]:
        """Token ids by which `answers` begin (`srec.lm.verbalizer`)."""
        return answer_token_ids(lambda: self._render([{"role": "user", "content": "?"}]), self._encode, answers)

    def _answers_if_distinct(self) -> tuple[int, ...]:
        """Token ids of Yes and No; none for a model that cannot judge but may do all else."""
        try:
            return self.answer_token_ids((YES, NO))
        except VerbalizerError:
            return ()

    def dump_state(self) -> dict[str, Any]:
        """What identifies the engine in a saved program."""
        where = {"name": self._checkpoint.name, "folder": str(self._checkpoint.folder)}
        return where if self._lora is None else {**where, "lora": str(self._lora.folder)}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> LocalEngine:
        """The engine of a saved program."""
        base = obtain(state["folder"])
        return cls(base, lora=obtain_lora(state["lora"], base=base) if "lora" in state else None)

    # From a request to a job, in the caller's thread.

    def complete(self, request: Request) -> Response:
        """Answer one request; called from any number of threads.

        Raises:
            ContextLengthError: prompt and answer do not fit the model's context.
            UnsupportedFeatureError: the request has an image and the model cannot see, or another part it cannot take.
            InvalidRequestError: an image cannot be read.
        """
        job = self._job(request)
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name=f"srec {self.identity}", daemon=True)
                self._worker.start()
            self._queue.put(job)
        return job.future.result()

    def close(self) -> None:
        """Stop the worker after the requests that wait; a later request starts another."""
        with self._lock:
            if self._worker is not None:
                self._queue.put(None)
                self._worker.join()
                self._worker = None

    def _job(self, request: Request) -> Job:
        prompt = self.read(*self._chat(request))
        ids, sights = prompt.ids, prompt.sights
        config = request.config
        most = config.max_tokens or DEFAULT_MAX_TOKENS
        if len(ids) + most > self.context:
            raise ContextLengthError(
                f"prompt of {len(ids)} tokens and answer of {most} exceed the context of {self.context}; "
                "shorten descriptions, or use a smaller window"
            )
        job = Job(ids, prompt.keys, sights, config, Future())
        if config.response_format is not None:
            job.guide = self._grammar_once().guide(config.response_format, max_tokens=job.max_tokens)
        if config.temperature:
            seed = config.seed if config.seed is not None else int(sha256(repr(job.keys).encode()).hexdigest()[:15], 16)
            job.generator = torch.Generator().manual_seed(seed)
        return job

    def read(self, chat: list[dict[str, Any]], images: Sequence[bytes]) -> Prompt:
        """A chat in transformers' form and its encoded pictures, as asking and training both read them."""
        rendered = self._render(chat)
        sights: tuple[Sight, ...] = ()
        if images:
            assert self._eyes is not None
            sights = tuple(self._eyes.sight(data) for data in images)
            rendered = self._eyes.expanded(rendered, sights)
        ids = self._encode(rendered)
        return Prompt(rendered, ids, self._keys(ids, sights), sights)

    def encode(self, rendered: str) -> list[int]:
        """Token ids of a rendered chat or of a piece of one."""
        return self._encode(rendered)

    def _chat(self, request: Request) -> tuple[list[dict[str, Any]], list[bytes]]:
        """The request as a chat in transformers' form, and its images in order."""
        images: list[bytes] = []
        chat: list[dict[str, Any]] = []
        if request.system is not None:
            chat.append({"role": "system", "content": self._content(_parts(request.system), images)})
        chat.extend(
            {"role": message.role, "content": self._content(message.parts, images)} for message in request.messages
        )
        if images and not self.sees_images:
            raise UnsupportedFeatureError(f"{self.identity} cannot see images; send text only", feature="image")
        return chat, images

    def _content(self, parts: Sequence[Any], images: list[bytes]) -> list[dict[str, str]]:
        content: list[dict[str, str]] = []
        for part in parts:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
            elif isinstance(part, ImagePart) and part.data is not None:
                images.append(b64decode(part.data))
                content.append({"type": "image"})
            else:
                raise UnsupportedFeatureError(
                    f"{self.identity} takes text and embedded images only, not {type(part).__name__}"
                )
        return content

    def _render(self, chat: list[dict[str, Any]], *, opened: bool = True) -> str:
        template = self._processor or self.tokenizer
        shape = _blocks if self._processor is not None else _joined
        chat = [{**turn, "content": shape(turn["content"])} for turn in chat]
        return str(template.apply_chat_template(chat, tokenize=False, add_generation_prompt=opened))

    def _encode(self, rendered: str) -> list[int]:
        return list(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def _keys(self, ids: list[int], sights: Sequence[Sight]) -> Keys:
        """Token ids, and in the places of an image its mark, so that only equal images count as shared."""
        places = [i for i, token in enumerate(ids) if token == self._image_token] if sights else []
        marks = [sight.mark for sight in sights for _ in range(sight.places)]
        if len(places) != len(marks):
            raise InvalidRequestError(f"the prompt has {len(places)} image tokens and {len(marks)} are of its pictures")
        keys = list(ids)
        for place, mark in zip(places, marks, strict=True):
            keys[place] = mark
        return tuple(keys)

    def _grammar_once(self) -> Grammar:
        with self._lock:
            if self._grammar is None:
                try:
                    from srec.lm.guide import Grammar  # noqa: PLC0415 (llguidance is read when an answer first has a schema)
                except ImportError as error:
                    raise MissingPackage(error.name or "llguidance", extra="local") from error
                self._grammar = Grammar(self.tokenizer, vocabulary=self._vocabulary)
            return self._grammar

    # From jobs to answers, in the worker's thread.

    def _work(self) -> None:
        while True:
            jobs, stop = self._gather()
            try:
                with torch.inference_mode():
                    self._answer(jobs)
            except Exception as error:  # noqa: BLE001 (whatever breaks here belongs to the callers that wait)
                _fail(jobs, error)
            if stop:
                return

    def _gather(self) -> tuple[list[Job], bool]:
        """All jobs that wait, once no new one has come for `gather_s` seconds."""
        first = self._queue.get()
        if first is None:
            return [], True
        jobs = [first]
        while len(jobs) < 16 * self._max_rows:
            try:
                job = self._queue.get(timeout=self._gather_s)
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _answer(self, jobs: list[Job]) -> None:
        jobs = self._seen(jobs)
        for alike in ([job for job in jobs if job.max_tokens <= 1], [job for job in jobs if job.max_tokens > 1]):
            if alike:
                self._answer_alike(alike)

    def _answer_alike(self, jobs: list[Job]) -> None:
        """Jobs of one token each, or of several: a group of those takes as many passes as its longest answer."""
        keys = [job.keys for job in jobs]
        passes = (1 + max(job.max_tokens for job in jobs)) // 2  # answers end before their bound
        for group in plan(keys, group_cost=PASS_COST * passes):
            shared_embeddings = self._embeddings(jobs[group.members[0]])[: group.shared]
            lengths = [len(job.ids) - group.shared + (job.max_tokens if job.max_tokens > 1 else 0) for job in jobs]
            for members in chunks(group, lengths, most_rows=self._max_rows, most_positions=self._max_positions):
                cache = self._decoder.prefix(keys[members[0]][: group.shared], shared_embeddings)
                rows = [jobs[i] for i in members]
                own = [self._embeddings(job)[group.shared :] for job in rows]
                try:
                    self._decode(rows, self._decoder.start(cache, group.shared, own))
                except (RuntimeError, MemoryError) as error:  # no memory for this batch says nothing of the next one
                    _fail(rows, error)

    def _seen(self, jobs: list[Job]) -> list[Job]:
        """The jobs, all their pictures looked at; without those, failed now, whose pictures cannot be."""
        if self._eyes is None:
            return jobs
        for batch in self._eyes.batches([sight for job in jobs for sight in job.sights], most_rows=self._max_rows):
            try:
                self._eyes.look(batch)
            except (RuntimeError, MemoryError, InvalidRequestError) as error:
                _fail([job for job in jobs if not set(batch).isdisjoint(job.sights)], error)
        return [job for job in jobs if not job.future.done()]

    def _embeddings(self, job: Job) -> torch.Tensor:
        """Input embeddings [positions, hidden] with image features in their places."""
        ids = torch.tensor(job.ids, device=self._device)
        embeddings = self._embed(ids)
        if job.sights:
            features = [sight.features for sight in job.sights if sight.features is not None]
            embeddings = embeddings.clone()
            embeddings[ids == self._image_token] = torch.cat(features).to(embeddings.dtype)
        return embeddings

    def _decode(self, rows: list[Job], batch: Any) -> None:
        while rows:
            chosen = self._choose(rows, batch.logits)
            going = []
            for i, (job, token) in enumerate(zip(rows, chosen, strict=True)):
                reason = self._advance(job, token)
                if reason:
                    job.future.set_result(self._response(job, reason))
                else:
                    going.append(i)
            if not going:
                return
            if len(going) < len(rows):
                rows = [rows[i] for i in going]
                chosen = [chosen[i] for i in going]
                batch.keep(going)
            self._decoder.step(batch, self._embed(torch.tensor(chosen, device=self._device)))

    def _choose(self, rows: list[Job], logits: torch.Tensor) -> list[int]:
        """The next token of each row; log-probabilities are taken before any guide restricts them."""
        logits = logits.cpu()
        if any(job.config.logprobs is not None for job in rows):
            logprobs = logits.log_softmax(-1)
        for i, job in enumerate(rows):
            if job.config.frequency_penalty and job.written:
                written, times = torch.tensor(job.written).unique(return_counts=True)
                logits[i][written] -= job.config.frequency_penalty * times
            if job.guide is not None:
                logits[i].masked_fill_(~job.guide.allowed(), -torch.inf)
        chosen: list[int] = logits.argmax(-1).tolist()
        for i, job in enumerate(rows):
            if job.generator is not None:
                chosen[i] = _sample(logits[i], job.config, job.generator)
            if job.config.logprobs is not None:
                job.logprobs.append(self._token_logprob(job, logprobs[i], chosen[i]))
        return chosen

    def _token_logprob(self, job: Job, logprobs: torch.Tensor, token: int) -> TokenLogprob:
        wanted = (job.config.extensions or {}).get(LABEL_IDS)
        ids = torch.tensor(wanted) if wanted else logprobs.topk(max(1, job.config.logprobs)).indices
        ids = ids[logprobs[ids].argsort(descending=True)]
        top = tuple(TopLogprob(self.tokenizer.decode([i]), float(logprobs[i]), token_id=int(i)) for i in ids.tolist())
        return TokenLogprob(self.tokenizer.decode([token]), float(logprobs[token]), token_id=token, top=top)

    def _advance(self, job: Job, token: int) -> str:
        """Take a token in; why the answer ends with it, or an empty string."""
        if token in self._stops and (job.guide is None or job.guide.ended or job.guide.may_end):
            return "stop"
        job.written.append(token)
        if job.guide is not None:
            job.guide.wrote(token)
            if job.guide.ended:
                return "length" if job.guide.landed else "stop"
        if job.config.stop and any(stop in self.tokenizer.decode(job.written) for stop in job.config.stop):
            return "stop"
        return "length" if len(job.written) >= job.max_tokens else ""

    def _response(self, job: Job, reason: str) -> Response:
        text = self.tokenizer.decode(job.written, skip_special_tokens=True)
        for stop in job.config.stop:
            text = text.split(stop)[0]
        return Response(
            id=None,
            model=self.identity,
            message=Message.assistant([TextPart(text)]),
            finish_reason=reason,
            usage=Usage(input_tokens=len(job.ids), output_tokens=max(1, len(job.written))),
            logprobs=tuple(job.logprobs) if job.config.logprobs is not None else None,
        )


def _fail(jobs: Sequence[Job], error: Exception) -> None:
    """Hand an error to the callers that still wait for one of `jobs`."""
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is done by the hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001 (no public name yet)


def _processor(checkpoint: Checkpoint, config: Any) -> Any:
    """The processor of an image-text model, with image code that needs no torchvision."""
    try:
        return transformers.AutoProcessor.from_pretrained(checkpoint.folder, backend="pil")
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{checkpoint.folder}: no processor for its {config.model_type} images: {error}") from error


def _parts(system: str | Sequence[Any]) -> Sequence[Any]:
    return [TextPart(system)] if isinstance(system, str) else system


def _blocks(content: str | list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _joined(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def _sample(logits: torch.Tensor, config: Any, generator: torch.Generator) -> int:
    """A token drawn at the request's temperature from its smallest set of tokens with mass `top_p`."""
    probabilities = (logits / config.temperature).softmax(-1)
    if config.top_p is not None and config.top_p < 1:
        ordered, index = probabilities.sort(descending=True)
        outside = ordered.cumsum(-1) - ordered >= config.top_p
        probabilities = torch.zeros_like(probabilities).scatter(0, index, ordered.masked_fill(outside, 0.0))
    return int(torch.multinomial(probabilities, 1, generator=generator))
