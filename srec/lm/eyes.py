"""What an image-text model sees: each picture prepared once, looked at in batches, and remembered."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from dspy.lm15 import InvalidRequestError
from PIL import Image as PillowImage

ASIDE = "connect by 'vllm:<url>#<model>'"
TURNS = 64

Encode = Callable[[str], list[int]]


@dataclass(slots=True, eq=False)
class Sight:
    """One picture, ready for prompts.

    `words` stand for it in a prompt and have `places` image tokens; `mark`, a negative number, tells it from other
    pictures. `features` [places, hidden] are there once it has been looked at, and `pixels` until then.
    """

    mark: int
    words: str
    places: int
    pixels: dict[str, torch.Tensor]
    features: torch.Tensor | None = None


class Eyes:
    """The picture side of a model: `sight` prepares, from any thread; `look` computes, from the engine's one worker.

    Sights are kept by digest as long as they have at most `most_positions` places in all.
    """

    def __init__(
        self, model: Any, processor: Any, *, encode: Encode, placeholder: str, most_positions: int = 65_536
    ) -> None:
        self._model = model
        self._processor = processor
        self._encode = encode
        self._placeholder = placeholder
        self._image_token: int = model.config.image_token_id
        self._most_positions = most_positions
        self._kept: OrderedDict[str, Sight] = OrderedDict()
        self._positions = 0
        self._lock = threading.Lock()  # of what is kept
        self._turns = [threading.Lock() for _ in range(TURNS)]  # so that a picture is prepared by one thread

    def sight(self, data: bytes) -> Sight:
        """The encoded picture `data`, prepared unless it is remembered.

        Raises:
            InvalidRequestError: it cannot be read, or its words cannot be told for this model.
        """
        digest = sha256(data).hexdigest()
        with self._turns[int(digest[:8], 16) % TURNS]:
            with self._lock:
                known = self._kept.get(digest)
                if known is not None:
                    self._kept.move_to_end(digest)
                    return known
            made = self._prepared(_opened(data), mark=-1 - int(digest[:15], 16))
            with self._lock:
                self._keep(digest, made)
        return made

    def expanded(self, rendered: str, sights: Sequence[Sight]) -> str:
        """A rendered chat with each picture's words in its place."""
        if not self._placeholder:
            raise InvalidRequestError("the model's chat template has no place for a picture; send text only")
        first, *others = rendered.split(self._placeholder)
        if len(others) != len(sights):
            raise InvalidRequestError(f"the prompt has {len(others)} places for {len(sights)} pictures")
        return first + "".join(sight.words + text for sight, text in zip(sights, others, strict=True))

    def batches(self, sights: Sequence[Sight], *, most_rows: int) -> Iterator[list[Sight]]:
        """Those not looked at yet, each once, in batches of one shape and at most `most_rows` pictures."""
        shapes: dict[tuple[Any, ...], list[Sight]] = {}
        for sight in dict.fromkeys(sights):
            if sight.features is None:
                shape = tuple((name, *tensor.shape) for name, tensor in sight.pixels.items())
                shapes.setdefault(shape, []).append(sight)
        for alike in shapes.values():
            for start in range(0, len(alike), most_rows):
                yield alike[start : start + most_rows]

    def look(self, batch: Sequence[Sight]) -> None:
        """Compute the features of a batch in one forward pass."""
        pixels = {
            name: torch.cat([sight.pixels[name] for sight in batch]).to(self._model.device) for name in batch[0].pixels
        }
        pixels["pixel_values"] = pixels["pixel_values"].to(self._model.dtype)
        features = self._model.get_image_features(**pixels)
        features = getattr(features, "pooler_output", features)
        features = torch.cat(tuple(features)) if isinstance(features, (list, tuple)) else features
        features = features.reshape(-1, features.shape[-1])  # several crops of one picture follow each other
        places = [sight.places for sight in batch]
        if len(features) != sum(places):
            raise InvalidRequestError(
                f"the prompt has {sum(places)} places for {len(features)} image features; serve the model with vLLM "
                f"and {ASIDE}"
            )
        for sight, own in zip(batch, features.split(places), strict=True):
            sight.features, sight.pixels = own.clone(), {}

    def _prepared(self, picture: PillowImage.Image, *, mark: int) -> Sight:
        inputs = self._processor(
            text=self._placeholder, images=[picture], add_special_tokens=False, return_tensors="pt"
        )
        ids = inputs["input_ids"][0].tolist()
        words = self._processor.tokenizer.decode(ids)
        if self._encode(words) != ids:
            raise InvalidRequestError(
                f"the places of a picture cannot be told in words; serve the model with vLLM and {ASIDE}"
            )
        names = self._processor.image_processor.model_input_names
        pixels = {name: inputs[name] for name in names if name in inputs}
        return Sight(mark=mark, words=words, places=ids.count(self._image_token), pixels=pixels)

    def _keep(self, digest: str, sight: Sight) -> None:
        self._kept[digest] = sight
        self._positions += sight.places
        while len(self._kept) > 1 and self._positions > self._most_positions:
            _, forgotten = self._kept.popitem(last=False)
            self._positions -= forgotten.places


def placeholder(render: Callable[[list[dict[str, Any]]], str]) -> str:
    """What a chat template writes for a picture: "<image>" for most models, "" where it takes none."""
    text = {"type": "text", "text": "\N{SECTION SIGN}"}
    before, after = render([{"role": "user", "content": [text]}]).split(text["text"])
    shown = render([{"role": "user", "content": [text, {"type": "image"}]}])
    return shown.removeprefix(before).removesuffix(after).replace(text["text"], "", 1)  # some put pictures first


def _opened(data: bytes) -> PillowImage.Image:
    try:
        return PillowImage.open(io.BytesIO(data)).convert("RGB")
    except (OSError, PillowImage.DecompressionBombError) as error:
        raise InvalidRequestError(
            f"an image of the request cannot be read ({error}); take it in by srec.data first"
        ) from error
