"""Sequence models of the library RecTools: SASRec with three losses, and a GRU in the place of its attention.

    python evals/baselines/sequences.py DATA --model sasrec-ce --candidates FILE --out runs/x/sasrec-ce.run

RecTools trains on the last events of a user. Here a long history is cut into windows, each a user of its own, so that
every training event is predicted once from those before it in its window.
"""

from __future__ import annotations

import argparse
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.net_blocks import TransformerLayersBase
from rival import Answer, Config, Floats, Ints, Question, main

from srec.data.interactions import Interactions
from srec.types import Item

LIBRARY = f"RecTools {version('RecTools')}"
BLOCK = 4  # epochs between two looks at a model
SIZES = {"n_factors": 64, "n_blocks": 2, "batch_size": 32}
LONGEST = 50  # events of a window
ROWS = 64  # questions answered at a time


class Recurrent(TransformerLayersBase):
    """GRU layers (GRU4Rec, Hidasi et al. 2016) where a SASRec has attention."""

    def __init__(self, n_blocks: int, n_factors: int, n_heads: int, dropout_rate: float, **_: Any) -> None:  # noqa: ARG002  the library's
        super().__init__()
        self.dropout = torch.nn.Dropout(dropout_rate)
        between = dropout_rate if n_blocks > 1 else 0.0
        self.gru = torch.nn.GRU(n_factors, n_factors, num_layers=n_blocks, dropout=between, batch_first=True)

    def forward(self, seqs: torch.Tensor, timeline_mask: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """[batch, length, factors] to the same shape; what pads a row on its left is nought."""
        states, _state = self.gru(seqs * timeline_mask)
        return self.dropout(states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """A sequence model, looked at after every `BLOCK` epochs; `fixed` are settings that are no matter of search."""

    name: str
    fixed: Mapping[str, Any]
    grid: Sequence[Config]
    version: str = LIBRARY
    patience: int = 3
    most: int = 120  # epochs

    def trials(
        self,
        train: Interactions,
        config: Config,
        *,
        items: Mapping[str, Item],  # noqa: ARG002  the protocol's
        seed: int,
    ) -> Iterator[tuple[Config, Answer]]:
        """More and more epochs of one training."""
        quiet()
        seed_everything(seed, verbose=False)
        settings = {name: value for name, value in config.items() if name != "epochs"}
        length = reach(train)
        model = SASRecModel(
            **{**SIZES, **self.fixed, **settings},
            session_max_len=length,
            deterministic=True,
            recommend_torch_device="cpu",
            epochs=BLOCK,
        )
        windows = Dataset.construct(windowed(train, length=length))
        for epochs in range(BLOCK, self.most + 1, BLOCK):
            model.fit_partial(windows, min_epochs=BLOCK, max_epochs=BLOCK)
            yield (
                {**settings, "epochs": epochs},
                lambda questions: answer(model, questions, count=len(train.item_ids), length=length),
            )


def reach(train: Interactions) -> int:
    """Events of a window: as many as nine of ten histories have, `LONGEST` at most."""
    lengths = np.unique(train.user, return_counts=True)[1]
    return min(LONGEST, math.ceil(np.quantile(lengths, 0.9)))


def windowed(train: Interactions, *, length: int) -> pd.DataFrame:
    """Events of windows of `length` + 1, counted from the end of each history; neighbours share one event."""
    users, items = [], []
    edges = np.flatnonzero(np.diff(train.user)) + 1
    for history in np.split(train.item, edges):
        for stop in range(len(history), 1, -length):
            window = history[max(0, stop - length - 1) : stop]
            users.append(np.full(len(window), len(users)))
            items.append(window)
    place = np.arange(sum(map(len, items)))  # the order of the log stands for the time: equal seconds stay in order
    return pd.DataFrame(
        {
            Columns.User: np.concatenate(users),
            Columns.Item: np.concatenate(items),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp(0) + pd.to_timedelta(place, unit="s"),
        }
    )


def answer(model: SASRecModel, questions: Sequence[Question], *, count: int, length: int) -> Floats:
    """Scores of all items after each history; an item that was never trained on stands below all others."""
    known = np.asarray(model.data_preparator.get_known_item_ids(), dtype=np.int64)
    places = np.zeros(count, dtype=np.int64)  # 0 is the library's padding
    places[known] = model.data_preparator.get_known_items_sorted_internal_ids()
    rows = np.stack([padded(places[question.history], length=length) for question in questions])
    network = model.torch_model.eval()
    with torch.inference_mode():
        vectors = network.item_model.get_all_embeddings()
        parts = [
            network.similarity_module(network.encode_sessions({"x": part}, vectors)[:, -1], vectors).numpy()
            for part in torch.from_numpy(rows).split(ROWS)
        ]
    logits = np.concatenate(parts)
    scores = np.repeat(logits[:, places[known]].min(axis=1, keepdims=True) - 1.0, count, axis=1)
    scores[:, known] = logits[:, places[known]]
    return scores


def padded(history: Ints, *, length: int) -> Ints:
    """The last `length` known items, noughts before them."""
    row, last = np.zeros(length, dtype=np.int64), history[history > 0][-length:]
    row[length - len(last) :] = last
    return row


def quiet() -> None:
    """Lightning tells of devices and workers at every fit."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


DROPOUTS, RATES = (0.2, 0.5), (1e-3,)
GRID = tuple({"dropout_rate": dropout, "lr": rate} for dropout, rate in product(DROPOUTS, RATES))
SLOW = {"patience": 10, "most": 240}  # of sampled negatives: they get worse for some epochs before they get better
GBCE = {"loss": "gBCE", "n_negatives": 64, "gbce_t": 0.75}
GRU = {"transformer_layers_type": Recurrent, "use_pos_emb": False, "use_causal_attn": False, "loss": "softmax"}
MODELS = {
    "sasrec-ce": Sequences(name="sasrec-ce", fixed={"loss": "softmax"}, grid=GRID),
    "sasrec-bce": Sequences(name="sasrec-bce", fixed={"loss": "BCE", "n_negatives": 1}, grid=GRID, **SLOW),
    "sasrec-gbce": Sequences(name="sasrec-gbce", fixed=GBCE, grid=GRID, **SLOW),
    "gru4rec": Sequences(name="gru4rec", fixed={**GRU, "n_blocks": 1}, grid=GRID),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, required=True)
    main(MODELS[parser.parse_known_args()[0].model], parser)
