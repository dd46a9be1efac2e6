"""Texts as vectors by an encoder that is named, each text encoded once.

A vector is kept under the digest of the text and of all that decides the encoder's numbers: in the store that
`srec.keep` has open, else in this process.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srec.errors import MissingPackage
from srec.lm.sentence import MINILM, Recipe, obtain_encoder
from srec.lm.threads import wait_calmly
from srec.progress import bar
from srec.store import KEEPING

if TYPE_CHECKING:
    from srec.lm.encoder import TextEncoder

Vectors = NDArray[np.float32]

NUMBERS = np.dtype("<f4")  # as which a vector is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The encoder of texts that `name` means, found and loaded when it is first asked for what is not kept."""

    name: str = MINILM

    def __call__(self, texts: list[str]) -> Vectors:
        """Vectors [texts, dimensions], of any length; equal texts have equal ones.

        Raises:
            MissingPackage: the package of a packaged encoder, or the extra `local`, is not installed.
            ModelError: there is no such encoder, or it cannot be used.
        """
        recipe, store = obtain_encoder(self.name), KEEPING.get()
        memory = _memory()
        get, put = (memory.get, memory.__setitem__) if store is None else (store.get, store.put)
        keys = {text: recipe.key(text) for text in texts}
        kept = {text: get(key) for text, key in keys.items()}
        missing = [text for text, value in kept.items() if value is None]
        started, done, cached = time.monotonic(), 0, len(kept) - len(missing)
        with bar("embed", total=len(kept)) as tick:
            for places, vectors in _encoder(recipe).batches(missing) if missing else ():
                for place, vector in zip(places, vectors, strict=True):
                    kept[missing[place]] = value = _text_of(vector)
                    put(keys[missing[place]], value)
                done += len(places)
                tick(finished=cached + done, cached=cached, rate=done / max(time.monotonic() - started, 1e-9))
        return np.array([_vector_of(kept[text]) for text in texts])


@lru_cache(maxsize=1)
def _memory() -> dict[str, str]:
    """What is kept where no store is open."""
    return {}


@lru_cache(maxsize=1)
def _encoder(recipe: Recipe) -> TextEncoder:
    """The encoder with its weights loaded; the last one stays."""
    wait_calmly()
    try:
        from srec.lm.encoder import TextEncoder  # noqa: PLC0415 (torch is loaded when it is needed)
    except ImportError as error:
        raise MissingPackage(error.name or "torch", extra="local") from error
    return TextEncoder(recipe)


def _text_of(vector: Vectors) -> str:
    return b64encode(vector.astype(NUMBERS).tobytes()).decode("ascii")


def _vector_of(text: Any) -> Vectors:
    return np.frombuffer(b64decode(text), dtype=NUMBERS)
