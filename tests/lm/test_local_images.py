"""The local engine on image-text models, held against transformers' own generate.

One is small, with weights drawn by a seed; the other is srec-tiny, or what SREC_LOCAL_MODEL names.
"""

import io
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from drawn_model import PLACES
from dspy.lm15 import Config, ImagePart, Message, Request
from dspy.utils.exceptions import LMError
from PIL import Image as PillowImage

from srec.lm.adapters import ScoreAdapter, StructuredAdapter, picture
from srec.lm.checkpoint import obtain
from srec.lm.connect import connect, sees
from srec.lm.prefix import common_length
from srec.types import Image

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `local` is not installed")

from srec.lm.eyes import placeholder  # noqa: E402 (needs torch)
from srec.lm.local import LocalEngine  # noqa: E402 (needs torch)

pytestmark = pytest.mark.model


class Look(dspy.Signature):
    """Say whether the user would like what the pictures show."""

    pictures: list[dspy.Image] = dspy.InputField()
    candidate: str = dspy.InputField()
    answer: str = dspy.OutputField()


def loaded(checkpoint):
    engine = LocalEngine(checkpoint, device="cpu", dtype=torch.float32)
    return dspy.LM("local/tiny", engine=engine, cache=False, num_retries=0, max_tokens=12, temperature=0.0)


@pytest.fixture(scope="module")
def drawn(small):
    return loaded(obtain(str(small)))


@pytest.fixture(scope="module", params=["drawn", "given"])
def lm(request):
    if request.param == "drawn":
        return request.getfixturevalue("drawn")
    return loaded(request.getfixturevalue("given"))


def photo(colour, size=(50, 80)):
    """A picture as intake hands it on: one colour, with a white corner."""
    drawn = PillowImage.new("RGB", size, colour)
    drawn.paste("white", (0, 0, size[0] // 2, size[1] // 3))
    encoded = io.BytesIO()
    drawn.save(encoded, "JPEG")
    return Image(data=encoded.getvalue(), width=size[0], height=size[1])


def judge(lm, photos, candidate="a poster"):
    with dspy.context(lm=lm, adapter=ScoreAdapter(), disable_history=True, trace=None):
        return dspy.Predict(Look)(pictures=[picture(one) for one in photos], candidate=candidate)


def opened(photos):
    return [PillowImage.open(io.BytesIO(one.data)).convert("RGB") for one in photos]


def inputs_of(engine, content, photos):
    """What transformers' own processor makes of one user turn."""
    rendered = engine._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = opened(photos) or None
    return engine._processor(text=rendered, images=images, add_special_tokens=False, return_tensors="pt")


def ask(lm, photos, question):
    pictures = [ImagePart(media_type="image/jpeg", data=b64encode(one.data).decode()) for one in photos]
    return lm(
        Request(
            model=lm.model,
            messages=(Message.user([*pictures, question]),),
            config=Config(max_tokens=12, temperature=0.0),
        )
    ).text


PHOTOS = [photo("red"), photo("blue", (90, 30)), photo("green", (200, 200)), photo("orange", (17, 64))]


def test_a_model_that_sees_is_known_to(lm):
    assert sees(lm)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_answers_on_pictures_of_several_sizes_are_those_of_transformers(lm, count):
    photos = PHOTOS[:count]
    content = [*({"type": "image"} for _ in photos), {"type": "text", "text": "Describe."}]
    inputs = inputs_of(lm.engine, content, photos)
    with torch.inference_mode():
        written = lm.engine._model.generate(**inputs, max_new_tokens=12, do_sample=False)
    plain = lm.engine.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert ask(lm, photos, "Describe.") == plain


def test_different_pictures_have_different_scores(lm):
    red, blue = judge(lm, [PHOTOS[0]]), judge(lm, [PHOTOS[1]])
    assert abs(red.probability - blue.probability) > 1e-4
    assert judge(lm, [PHOTOS[0]]).probability == pytest.approx(red.probability, abs=1e-6)


def test_the_order_of_pictures_matters(lm):
    assert judge(lm, PHOTOS[:2]).probability != pytest.approx(judge(lm, PHOTOS[1::-1]).probability, abs=1e-5)


def test_many_prompts_at_once_score_as_they_do_alone(lm):
    rows = [(PHOTOS[: 1 + i % 3], f"candidate {i}") for i in range(9)] + [([], "text only")]
    with ThreadPoolExecutor(len(rows)) as pool:
        together = list(pool.map(lambda row: judge(lm, *row).probability, rows))
    alone = []
    for photos, candidate in rows:
        lm.engine._decoder._prefixes._kept.clear()
        alone.append(judge(lm, photos, candidate).probability)
    assert together == pytest.approx(alone, abs=1e-4)


def keys(engine, *photos):
    sights = [engine._eyes.sight(one.data) for one in photos]
    content = [*({"type": "image"} for _ in photos), {"type": "text", "text": "Describe."}]
    rendered = engine._render([{"role": "user", "content": content}])
    return engine._keys(engine._encode(engine._eyes.expanded(rendered, sights)), sights)


def test_a_prompt_with_pictures_has_the_token_ids_of_transformers(lm):
    content = [*({"type": "image"} for _ in PHOTOS), {"type": "text", "text": "Describe."}]
    ids = inputs_of(lm.engine, content, PHOTOS)["input_ids"][0].tolist()
    mine = keys(lm.engine, *PHOTOS)
    assert len(mine) == len(ids)
    assert all(
        key in (token, key) and (key < 0) == (token == lm.engine._image_token)
        for key, token in zip(mine, ids, strict=True)
    )
    assert [key for key in mine if key >= 0] == [token for token in ids if token != lm.engine._image_token]


def test_equal_pictures_are_shared_and_different_ones_are_not(lm):
    red, blue, green = PHOTOS[:3]
    places = lm.engine._eyes.sight(red.data).places
    assert keys(lm.engine, red, blue) == keys(lm.engine, red, blue)
    first_place = next(i for i, key in enumerate(keys(lm.engine, red)) if key < 0)
    assert common_length(keys(lm.engine, red), keys(lm.engine, blue)) == first_place
    assert common_length(keys(lm.engine, red, blue), keys(lm.engine, red, green)) > first_place + places
    assert sum(key < 0 for key in keys(lm.engine, red, red)) == 2 * places


def recorded(monkeypatch, owner, name):
    """The arguments of each call from now on."""
    calls, called = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **options: calls.append(args) or called(*args, **options))
    return calls


def test_a_picture_is_prepared_and_looked_at_once_however_often_it_is_asked_about(lm, monkeypatch):
    prepared = recorded(monkeypatch, lm.engine._eyes, "_prepared")
    looked = recorded(monkeypatch, lm.engine._eyes, "look")
    fresh = [photo("purple"), photo("brown")]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: judge(lm, fresh, f"candidate {i}"), range(6)))
    assert len(prepared) == 2
    assert sum(len(batch) for (batch,) in looked) == 2


def test_pictures_that_arrive_together_are_looked_at_in_one_pass(lm, monkeypatch):
    monkeypatch.setattr(lm.engine, "_gather_s", 0.5)
    looked = recorded(monkeypatch, lm.engine._eyes, "look")
    fresh = [photo((i, 50, 150), (64, 64)) for i in range(0, 60, 10)]
    with ThreadPoolExecutor(len(fresh)) as pool:
        list(pool.map(lambda one: judge(lm, [one]), fresh))
    assert [len(batch) for (batch,) in looked] == [len(fresh)]


def test_pictures_looked_at_together_have_the_features_they_have_alone(lm, monkeypatch):
    sights = [
        lm.engine._eyes._prepared(opened([one])[0], mark=-1) for one in [photo("pink"), photo("navy")] for _ in range(2)
    ]
    with torch.inference_mode():
        lm.engine._eyes.look(sights[::2])
        for sight in sights[1::2]:
            lm.engine._eyes.look([sight])
    for together, alone in zip(sights[::2], sights[1::2], strict=True):
        assert torch.allclose(together.features, alone.features, atol=1e-3)
    assert not torch.allclose(sights[0].features, sights[2].features, atol=1e-3)


def positions_computed(lm, monkeypatch, calls):
    """How many positions the decoder computes for `calls` (pictures and question) that arrive together."""
    lm.engine._decoder._prefixes._kept.clear()
    monkeypatch.setattr(lm.engine, "_gather_s", 0.5)
    widths = []
    hook = lm.engine._model.get_decoder().register_forward_pre_hook(
        lambda _, __, options: widths.append(options["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(lambda call: judge(lm, *call), calls))
    finally:
        hook.remove()
    return sum(widths)


def test_questions_about_one_picture_share_it(lm, monkeypatch):
    one = positions_computed(lm, monkeypatch, [(PHOTOS[:1], "candidate 0")])
    eight = positions_computed(lm, monkeypatch, [(PHOTOS[:1], f"candidate {i}") for i in range(8)])
    assert eight < one + 8 * 20


def test_questions_about_many_pictures_share_what_stands_before_the_pictures(lm, monkeypatch):
    asked = recorded(monkeypatch, lm.engine, "_keys")
    calls = [([one], f"candidate {i}") for one in PHOTOS for i in range(2)]
    apart = sum(positions_computed(lm, monkeypatch, [call]) for call in calls)
    before = asked[0][0].index(lm.engine._image_token)
    assert positions_computed(lm, monkeypatch, calls) <= apart - (len(calls) - 1) * before


def test_the_bytes_of_an_answer_are_the_same_each_time_with_one_row_at_a_time(small, monkeypatch):
    def scores():
        engine = LocalEngine(obtain(str(small)), device="cpu", dtype=torch.bfloat16, max_rows=1)
        alone = dspy.LM("local/tiny", engine=engine, cache=False, num_retries=0, max_tokens=12, temperature=0.0)
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda one: judge(alone, [one]).probability, PHOTOS))

    assert scores() == scores()


def test_pictures_are_forgotten_beyond_the_bound_but_not_under_a_request(drawn, monkeypatch):
    eyes = drawn.engine._eyes
    monkeypatch.setattr(eyes, "_most_positions", 8 * PLACES)
    photos = [photo((i, 100, 200)) for i in range(0, 240, 20)]
    before = judge(drawn, photos).probability
    assert eyes._positions == sum(sight.places for sight in eyes._kept.values()) <= 8 * PLACES
    assert judge(drawn, photos).probability == pytest.approx(before, abs=1e-6)


def test_a_picture_that_cannot_be_looked_at_fails_its_own_request_only(drawn, monkeypatch):
    look, eyes = drawn.engine._eyes.look, drawn.engine._eyes
    bad = eyes.sight(photo("gold", (10, 10)).data)

    def fails_for_one(batch):
        if bad in batch:
            raise RuntimeError("out of memory")
        look(batch)

    monkeypatch.setattr(eyes, "look", fails_for_one)
    monkeypatch.setattr(drawn.engine, "_max_rows", 1)
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(ask, drawn, [photo("gray")], "Describe.")
        failed = pool.submit(ask, drawn, [photo("gold", (10, 10))], "Describe.")
        assert isinstance(good.result(), str)
        with pytest.raises(Exception, match="out of memory"):
            failed.result()


def test_what_a_template_writes_for_a_picture_is_found_in_any_template():
    def template(begin, shown):
        return lambda chat: begin + "".join(b.get("text", shown) for b in chat[0]["content"]) + "<end>\nAssistant:"

    assert placeholder(template("User:", "<image>")) == "<image>"
    assert placeholder(template("<user>\n", "<start_of_image>")) == "<start_of_image>"
    assert (
        placeholder(lambda chat: "USER: " + "<image>\n" * (len(chat[0]["content"]) - 1) + chat[0]["content"][0]["text"])
        == "<image>\n"
    )
    assert placeholder(template("<user>\n", "")) == ""


def test_a_structured_answer_about_a_picture_parses(lm):
    class Name(dspy.Signature):
        """Name the item."""

        photo: dspy.Image = dspy.InputField()
        year: int = dspy.OutputField()
        name: str = dspy.OutputField()

    with dspy.context(lm=lm, adapter=StructuredAdapter(), disable_history=True, trace=None):
        answer = dspy.Predict(Name, max_tokens=40)(photo=picture(PHOTOS[0]))
    assert isinstance(answer.year, int)


def test_an_image_token_in_a_title_is_no_place_for_a_picture(lm):
    plain, forged = judge(lm, [PHOTOS[0]], "a b"), judge(lm, [PHOTOS[0]], "a <image> b")
    assert forged.probability == pytest.approx(plain.probability, abs=1e-6)


def test_a_picture_that_cannot_be_read_is_one_error(lm):
    with pytest.raises(LMError, match="cannot be read"):
        ask(lm, [Image(data=b"\xff\xd8\xff not a picture", width=1, height=1)], "Describe.")


def test_a_prompt_with_more_pictures_than_fit_is_refused_before_it_is_seen(drawn):
    with pytest.raises(dspy.ContextWindowExceededError):
        judge(drawn, [PHOTOS[0]] * 150)


def test_a_folder_is_connected_to_by_its_path(small):
    lm = connect(f"local:{small}", device="cpu", max_tokens=4, num_retries=0)
    assert sees(lm)
    assert 0 <= judge(lm, PHOTOS[:1]).probability <= 1
