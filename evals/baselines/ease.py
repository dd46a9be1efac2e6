"""EASE of the library RecTools: a linear autoencoder over items (Steck, *Embarrassingly Shallow Autoencoders*, 2019).

    python evals/baselines/ease.py DATA --candidates FILE --out runs/x/ease.run

The script runs in the environment of `evals/baselines/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import EASEModel
from rival import Answer, Config, Floats, Question, decayed, main

from srec.data.interactions import Interactions
from srec.types import Item

DECAYS = (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ease:
    """Of two neighbours in the history the earlier counts `decay` times the later; 1 is the plain method."""

    name: str = "ease"
    version: str = f"RecTools {version('RecTools')}"
    patience: int = len(DECAYS)
    grid: tuple[Config, ...] = tuple({"regularization": value} for value in (15.0, 50.0, 150.0, 500.0, 1500.0, 5000.0))

    def trials(
        self,
        train: Interactions,
        config: Config,
        *,
        items: Mapping[str, Item],  # noqa: ARG002  the protocol's
        seed: int,  # noqa: ARG002  likewise
    ) -> Iterator[tuple[Config, Answer]]:
        """One fit, asked with every decay."""
        model = EASEModel(regularization=config["regularization"])
        dataset = Dataset.construct(events(train))
        model.fit(dataset)
        known = np.asarray(dataset.item_id_map.external_ids, dtype=np.int64)
        weights = np.zeros((len(train.item_ids), len(train.item_ids)), dtype=np.float32)
        weights[np.ix_(known, known)] = model.weight
        for decay in DECAYS:
            yield {"regularization": config["regularization"], "decay": decay}, linear(weights, decay=decay)


def linear(weights: Floats, *, decay: float) -> Answer:
    """The decayed history times `weights` [items, items]."""

    def answer(questions: Sequence[Question]) -> Floats:
        return decayed(questions, len(weights), decay=decay) @ weights

    return answer


def events(train: Interactions) -> pd.DataFrame:
    """Who had what, each once."""
    pairs = pd.DataFrame({Columns.User: train.user, Columns.Item: train.item}).drop_duplicates()
    return pairs.assign(**{Columns.Weight: 1.0, Columns.Datetime: pd.Timestamp(0)})


if __name__ == "__main__":
    main(Ease())
