import threading
import warnings

import dspy
import pytest
from dspy.lm15 import ServerError

import srec
from srec.data.part import part
from srec.evaluation.stages.fused import toy_fusion
from srec.testing import oracle


@pytest.fixture(scope="session")
def shop():
    return srec.toyshop(items=60, users=10, seed=3)


@pytest.fixture(scope="session")
def training(shop):
    """Cases of training users in a world without held-out items."""
    return cases_of(part(shop.data, users=shop.training_users, items=shop.training_items))


@pytest.fixture(scope="session")
def cases(shop):
    """Cases of all users and items."""
    return cases_of(shop.data)


@pytest.fixture
def program():
    return toy_program


def toy_program(**scoring):
    return srec.MLLMSRec(fusion=toy_fusion(), scoring=srec.CoTScoring(**scoring))


def cases_of(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # leave-last-out warns of other users' future
        return srec.cases(data, candidates="uniform:10", seed=0)


class Counting:
    """An engine in front of another: counts requests, keeps them, and fails where `fails(number, request)`."""

    supports_response_schema = True
    supported_params = frozenset({"max_tokens", "temperature", "logprobs", "top_logprobs", "response_format"})
    sees_images = True

    def __init__(self, engine, *, fails=lambda number, request: False):
        self.identity = engine.identity
        self.requests = []
        self._engine, self._fails, self._lock = engine, fails, threading.Lock()

    def __deepcopy__(self, memo):
        return self

    def complete(self, request):
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        if self._fails(number, request):
            raise ServerError("the teacher is out")
        return self._engine.complete(request)


@pytest.fixture
def counting(shop):
    """An LM that is the oracle, and whose engine counts."""

    def lm(**options):
        engine = Counting(oracle(shop).engine, **options)
        return dspy.LM(engine.identity, engine=engine, cache=False, max_tokens=256, temperature=0.0, num_retries=0)

    return lm
