"""Hears what a program asks its LM, word for word, and keeps each call under a name.

DSPy tells its callbacks of every predictor that is called, so stages of one's own are heard as well. The names of the
calls go to `srec.stages.calls.note`: results that a store has bring those with them that they were made of.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from pydantic import TypeAdapter

from srec.errors import InputError, StoreError
from srec.learn.rows import IMAGES_FOLDER, Block, Message
from srec.lm.adapters import ScoreAdapter
from srec.stages.calls import current_work, is_noting, note
from srec.stages.kept import keep
from srec.store import Store
from srec.text import clean

CALL, PICTURE, LOST = "call:", "picture:", "lost:"
SUFFIX = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
REASON_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a predictor: the fields of a row that the call decides.

    `verdict` says that it was answered with `Yes.` or `No.`; `images` are as in `srec.learn.rows.Row`.
    """

    stage: str
    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()
    item_id: str = ""
    verdict: bool = False


_CALL: TypeAdapter[Call] = TypeAdapter(Call)


class Ear(BaseCallback):
    """Keeps in `store` the calls of the predictors that `names` names by their `id`, and notes under which name.

    A call is written as it was sent, before it was cleaned of the special tokens of the LM that was asked, and with its
    answer in the form that `srec.lm.adapters` trains on. `instructions` are those to write in the place of a
    predictor's own, by its name. A call that failed is noted with its reason.
    """

    def __init__(
        self, names: Mapping[int, str], store: Store, *, instructions: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.broken: Exception | None = None
        self._names, self._store, self._instructions = names, store, instructions or {}
        self._asked: dict[str, tuple[dspy.Predict, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Remember what is asked; of modules only predictors are of interest."""
        if isinstance(instance, dspy.Predict) and is_noting():
            with self._lock:
                self._asked[call_id] = (instance, dict(inputs["kwargs"]))

    def on_module_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:
        """Keep the call with its answer."""
        with self._lock:
            asked = self._asked.pop(call_id, None)
        if asked is None:
            return
        if exception is not None:
            note(LOST + first_line(exception))
            return
        try:
            note(self._kept(*asked, dict(outputs or {})))
        except InputError as error:
            note(LOST + first_line(error))
        except Exception as error:  # noqa: BLE001 (DSPy would log it and go on; `check` raises it)
            self.broken = error

    def check(self) -> None:
        """Raise what went wrong while hearing."""
        if self.broken is not None:
            raise self.broken

    def _kept(self, predictor: dspy.Predict, inputs: dict[str, Any], outputs: dict[str, Any]) -> str:
        signature = inputs.pop("signature", predictor.signature)
        demos = inputs.pop("demos", predictor.demos)
        name = self._names.get(id(predictor))
        if name is None:
            raise InputError(f"a predictor of {signature.__name__} is not part of the program; make it an attribute")
        if name in self._instructions:
            signature = signature.with_instructions(self._instructions[name])
        adapter = dspy.settings.adapter or dspy.ChatAdapter()
        fields = {field: inputs.get(field) for field in signature.input_fields}
        chat = adapter.format_finetune_data(signature, demos, fields, outputs)["messages"]
        images: list[str] = []
        messages = tuple(self._message(message, images) for message in chat)
        call = Call(
            stage=name,
            messages=messages,
            images=tuple(images),
            item_id=current_work().item_id,
            verdict=isinstance(adapter, ScoreAdapter),
        )
        line = json.dumps(asdict(call), ensure_ascii=False, separators=(",", ":"))
        key = CALL + sha256(line.encode()).hexdigest()
        if self._store.get(key) is None:
            self._store.put(key, line)
        return key

    def _message(self, message: Mapping[str, Any], images: list[str]) -> Message:
        """A message with the places of its pictures; the pictures go to the store, and their names to `images`."""
        content = message["content"]
        if isinstance(content, str):
            return {"role": message["role"], "content": content}
        blocks: list[Block] = []
        for block in content:
            if block["type"] == "text":
                blocks.append({"type": "text", "text": block["text"]})
            else:
                images.append(self._picture(block["image_url"]["url"]))
                blocks.append({"type": "image"})
        return {"role": message["role"], "content": blocks}

    def _picture(self, url: str) -> str:
        """The name of a picture, which is in the store from then on."""
        head, _, data = url.partition(";base64,")
        suffix = SUFFIX.get(head.removeprefix("data:"))
        if suffix is None or not data:
            raise InputError("a picture is given by its address or in another format; rows need its PNG, JPEG or WebP")
        name = f"{IMAGES_FOLDER}/{sha256(b64decode(data)).hexdigest()}.{suffix}"
        if self._store.get(PICTURE + name) is None:
            self._store.put(PICTURE + name, data)
        return name


@contextmanager
def hearing(ear: Ear, store: Store) -> Iterator[None]:
    """Inside the block `ear` hears, and results of stages are kept in `store`, whatever store is open outside."""
    callbacks = [*dspy.settings.get("callbacks", []), ear]
    with keep(store), dspy.context(callbacks=callbacks, disable_history=True, trace=None):
        yield


def call_of(store: Store, name: str) -> Call:
    """A call that was heard."""
    line = store.get(name)
    if line is None:
        raise StoreError(f"store {store.folder} has lost {name!r}; move the folder away and run again")
    return _CALL.validate_json(line)


def in_order(calls: Iterable[Call], *, stages: Sequence[str]) -> list[Call]:
    """Calls by stage, item and text: an order in which it plays no part what was answered first."""
    place = {stage: number for number, stage in enumerate(stages)}
    return sorted(calls, key=lambda call: (place[call.stage], call.item_id, json.dumps(call.messages), call.images))


def write_pictures(names: Iterable[str], store: Store, folder: Path) -> None:
    """Write pictures that were heard of into `folder`, each whole or not at all, unless they are there."""
    for name in names:
        path = folder / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.part")
        aside.write_bytes(b64decode(store.get(PICTURE + name) or ""))
        aside.replace(path)


def lost(notes: Iterable[str]) -> Counter[str]:
    """Calls that failed, by reason."""
    return Counter(name.removeprefix(LOST) for name in notes if name.startswith(LOST))


def first_line(error: BaseException) -> str:
    """Class and first line of an error."""
    said = next(iter(str(error).strip().splitlines()), "")
    return clean(f"{type(error).__name__}: {said}", max_chars=REASON_CHARS)
