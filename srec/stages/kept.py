"""Results of stages, kept: the same stage on the same input with the same weights is asked once.

with srec.keep("runs/today"), dspy.context(lm=lm):
    fuse(item=item)   # asks the LM
    fuse(item=item)   # does not, now or in any later run
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError
from pydantic import TypeAdapter

from srec.digest import digest
from srec.errors import AnswerError, InputError, ModelError, StoreError
from srec.lm.connect import identity, sees
from srec.lm.usage import record
from srec.stages.calls import is_noting, note, noting
from srec.store import KEEPING, Store, opened

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

FAILURES = (InputError, ModelError, AnswerError, LMError, AdapterParseError)
"""What is a failure of one result; anything else, such as a store that cannot be written or a bug, is raised."""

PROMPT_FORMAT = 2
"""Raised when `srec.lm.render` writes the same values differently, so that older results are not taken for new ones."""

NOTES = "notes:"  # before the key of a result: what was noted while it was made


def is_keeping() -> bool:
    """Whether a store is open here."""
    return KEEPING.get() is not None


@contextmanager
def keep(store: Store | str | Path) -> Iterator[Store]:
    """Keep the results of every stage called inside the block, and take from the store what it has."""
    with opened(store) as kept_in:
        token = KEEPING.set(kept_in)
        try:
            yield kept_in
        finally:
            KEEPING.reset(token)


@contextmanager
def unkept() -> Iterator[None]:
    """Ask anew inside the block, whatever store is open around it."""
    token = KEEPING.set(None)
    try:
        yield
    finally:
        KEEPING.reset(token)


def lm_of(predictor: dspy.Predict) -> Any:
    """The LM that a predictor will ask: its own, else that of the context.

    Raises:
        ModelError: there is none.
        InputError: it is none, but the name of a model.
    """
    lm = predictor.lm or dspy.settings.lm
    if lm is None:
        raise ModelError(
            "no LM to ask; write `with dspy.context(lm=srec.connect(...)):` around the call, or pass lm= to the stage"
        )
    check_lm(lm)
    return lm


def check_lm(lm: Any) -> None:
    """Raise InputError for what is no LM, such as the name of one."""
    if isinstance(lm, str):
        raise InputError(f"lm={lm!r} names an LM and is none; pass lm=srec.connect({lm!r})")
    if not isinstance(lm, dspy.BaseLM):
        raise InputError(f"lm={lm!r} is no LM; pass what srec.connect(...) returns")


def predict(predictor: dspy.Predict, adapter: dspy.Adapter, **inputs: Any) -> Any:
    """Ask a predictor through one of srec's adapters, whatever adapter the context has."""
    lm_of(predictor)
    with dspy.context(adapter=adapter):
        return predictor(**inputs)


def state_of(stage: Any) -> dict[str, Any]:
    """What decides a stage's prompts: its options, and of each predictor instructions, fields, demos and LM."""
    return {
        "format": PROMPT_FORMAT,
        "stage": f"{type(stage).__module__}.{type(stage).__qualname__}",
        "options": stage.options(),
        "predictors": {name: predictor_state(predictor) for name, predictor in stage.named_predictors()},
    }


def predictor_state(predictor: dspy.Predict) -> dict[str, Any]:
    """What decides the answers of one predictor."""
    signature = predictor.signature
    fields = {name: [str(field.annotation), _extra(field)] for name, field in signature.fields.items()}
    demos = [TypeAdapter(dict[str, Any]).dump_python(dict(demo), mode="json") for demo in predictor.demos]
    config = {key: value for key, value in sorted(predictor.config.items()) if value is not None}
    return {
        "instructions": signature.instructions,
        "fields": fields,
        "demos": demos,
        "config": config,
        "lm": identity(lm_of(predictor)),
        "sees": sees(lm_of(predictor)),
    }


def _extra(field: Any) -> list[str]:
    extra = field.json_schema_extra or {}
    return [str(extra.get(key, "")) for key in ("__dspy_field_type", "prefix", "desc")]


class Kept(Generic[S, P, T]):
    """A stage's method whose results are kept; `stage.method.key(...)` is the key of one result."""

    def __init__(self, method: Callable[Concatenate[S, P], T], returns: Any) -> None:
        functools.update_wrapper(cast("Any", self), method)
        self._method = method
        self._adapter: TypeAdapter[T] = TypeAdapter(returns)
        self._signature = inspect.signature(method)

    @overload
    def __get__(self, stage: None, owner: Any = None) -> Kept[S, P, T]: ...
    @overload
    def __get__(self, stage: S, owner: Any = None) -> BoundKept[P, T]: ...
    def __get__(self, stage: S | None, owner: Any = None) -> Kept[S, P, T] | BoundKept[P, T]:
        """The method of one stage."""
        return self if stage is None else BoundKept(stage, self._method, self._adapter, self._signature)


class BoundKept(Generic[P, T]):
    """A kept method of one stage."""

    def __init__(
        self, stage: Any, method: Callable[..., T], adapter: TypeAdapter[T], signature: inspect.Signature
    ) -> None:
        self._stage, self._method, self._adapter, self._signature = stage, method, adapter, signature

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result, from the open store if it is there."""
        store = KEEPING.get()
        if store is None:
            return self._method(self._stage, *args, **kwargs)
        key = self.key(*args, **kwargs)

        def make() -> str:
            if not is_noting():
                return self.encode(self._method(self._stage, *args, **kwargs))
            with noting() as notes:
                text = self.encode(self._method(self._stage, *args, **kwargs))
            store.put(NOTES + key, json.dumps(notes))  # before the result: one that is there has its notes
            return text

        text, cached = store.compute(key, make)
        if cached:
            record(cache_hits=1)
            _note_again(store, key)
        return self.decode(text)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The digest of stage state, model weights and input, pictures included."""
        bound = self._signature.bind(self._stage, *args, **kwargs)
        inputs = dict(list(bound.arguments.items())[1:])
        return digest(state_of(self._stage), self._method.__name__, inputs)

    def encode(self, result: T) -> str:
        """A result as the store keeps it."""
        return self._adapter.dump_json(result).decode()

    def decode(self, text: str) -> T:
        """A result as it was before `encode`."""
        return self._adapter.validate_json(text)


def _note_again(store: Store, key: str) -> None:
    """Note what was noted when the result was made, so that who takes notes misses nothing that a store has."""
    if not is_noting():
        return
    if (notes := store.get(NOTES + key)) is None:
        raise StoreError(
            f"store {store.folder} has a result that was made before anybody took notes of its calls; "
            "use a folder of its own for this"
        )
    note(*json.loads(notes))


def kept(*, returns: Any) -> Callable[[Callable[Concatenate[S, P], T]], Kept[S, P, T]]:
    """Mark a stage's method as one whose results, of the type `returns`, are kept while a store is open."""
    return lambda method: Kept(method, returns)
