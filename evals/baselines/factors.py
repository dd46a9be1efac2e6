"""Matrix factors of the library implicit, ALS and BPR.

    python evals/baselines/factors.py DATA --model als --candidates FILE --out runs/x/als.run

The script runs in the environment of `evals/baselines/README.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from rival import Answer, Config, Question, decayed, main
from scipy import sparse

from srec.data.interactions import Interactions
from srec.types import Item

LIBRARY = f"pm-implicit {version('pm-implicit')}"
DECAYS = (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
BLOCK = 5  # passes of BPR between two looks at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Als:
    """Alternating least squares (Hu, Koren & Volinsky 2008).

    A user's factors are solved for from the history, in which of two neighbours the earlier counts `decay` times the
    later; 1 is the plain method.
    """

    name: str = "als"
    version: str = LIBRARY
    patience: int = len(DECAYS)
    grid: tuple[Config, ...] = tuple(
        {"factors": factors, "regularization": regularization, "alpha": alpha}
        for factors, regularization, alpha in product((16, 32, 64, 128, 256), (0.1, 10.0, 100.0), (1.0, 10.0, 40.0))
    )

    def trials(
        self,
        train: Interactions,
        config: Config,
        *,
        items: Mapping[str, Item],  # noqa: ARG002  the protocol's
        seed: int,
    ) -> Iterator[tuple[Config, Answer]]:
        """One fit, asked with every decay."""
        settings = {name: value for name, value in config.items() if name != "decay"}
        model = AlternatingLeastSquares(**settings, random_state=seed, num_threads=1)
        model.fit(matrix(train), show_progress=False)

        def answering(decay: float) -> Answer:
            def answer(questions: list[Question]) -> np.ndarray:
                weights = sparse.csr_matrix(decayed(questions, len(train.item_ids), decay=decay))
                return model.recalculate_user(np.arange(len(questions)), weights) @ model.item_factors.T

            return answer

        for decay in DECAYS:
            yield {**settings, "decay": decay}, answering(decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bpr:
    """Bayesian personalized ranking (Rendle et al. 2009), after more and more passes."""

    name: str = "bpr"
    version: str = LIBRARY
    patience: int = 10
    grid: tuple[Config, ...] = tuple(
        {"factors": factors, "learning_rate": rate, "regularization": regularization}
        for factors, rate, regularization in product((32, 128, 256), (0.02, 0.05, 0.1), (0.003, 0.01, 0.03))
    )

    def trials(
        self,
        train: Interactions,
        config: Config,
        *,
        items: Mapping[str, Item],  # noqa: ARG002  the protocol's
        seed: int,
    ) -> Iterator[tuple[Config, Answer]]:
        """One model, looked at after every `BLOCK` passes."""
        settings = {name: value for name, value in config.items() if name != "passes"}
        model = BayesianPersonalizedRanking(**settings, iterations=BLOCK, num_threads=1, random_state=seed)
        had = matrix(train)
        for passes in range(BLOCK, 250 * BLOCK, BLOCK):
            model.random_state = seed + passes  # a fit that goes on would draw the same pairs again
            model.fit(had, show_progress=False)
            yield {**settings, "passes": passes}, lambda questions: answer(model, questions)


def answer(model: BayesianPersonalizedRanking, questions: list[Question]) -> np.ndarray:
    """Scores of all items for the users of the questions."""
    users: np.ndarray = model.user_factors[[question.user for question in questions]]
    return users @ model.item_factors.T


def matrix(train: Interactions) -> sparse.csr_matrix:
    """[users, items]: who had an item, however often."""
    shape = (len(train.user_ids), len(train.item_ids))
    had = sparse.csr_matrix((np.ones(len(train), dtype=np.float32), (train.user, train.item)), shape=shape)
    had.data[:] = 1.0
    return had


MODELS = {"als": Als, "bpr": Bpr}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, required=True)
    main(MODELS[parser.parse_known_args()[0].model](), parser)
