"""Hears what a program asks its LM, word for word, and keeps each call under a name.

DSPy tells its callbacks of every predictor that is called, so stages of one's own are heard as well. The names of the
calls go to `srec.stages.calls.note`: results that a store has bring those with them that they were made of.
"""

from __future__ import annotations

import json
import threading
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
from srec.learn.rows import Message, without_pixels, write_picture
from srec.lm.adapters import ScoreAdapter
from srec.stages.calls import current_work, is_noting, note
from srec.stages.kept import keep
from srec.store import Store
from srec.text import clean

CALL, PICTURE, LOST = "call:", "picture:", "lost:"
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
        messages, pictures = without_pixels(chat)
        for image, data in pictures:
            if self._store.get(PICTURE + image) is None:
                self._store.put(PICTURE + image, data)
        call = Call(
            stage=name,
            messages=messages,
            images=tuple(image for image, _ in pictures),
            item_id=current_work().item_id,
            verdict=isinstance(adapter, ScoreAdapter),
        )
        line = json.dumps(asdict(call), ensure_ascii=False, separators=(",", ":"))
        key = CALL + sha256(line.encode()).hexdigest()
        if self._store.get(key) is None:
            self._store.put(key, line)
        return key


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
        if not (folder / name).exists():
            write_picture(folder, name, store.get(PICTURE + name) or "")


def lost(notes: Iterable[str]) -> Counter[str]:
    """Calls that failed, by reason."""
    return Counter(name.removeprefix(LOST) for name in notes if name.startswith(LOST))


def first_line(error: BaseException) -> str:
    """Class and first line of an error."""
    said = next(iter(str(error).strip().splitlines()), "")
    return clean(f"{type(error).__name__}: {said}", max_chars=REASON_CHARS)
