"""Programs on disk: what is saved, what is refused, what people read."""

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path

import dspy
import pytest
from colours import case, picture, program, pupil

import srec
from srec import artifact
from srec.artifact import card_of, load_program, predictors_of, prompts_of, save_program, signature_digest, with_prompts
from srec.errors import InputError, ProgramError
from srec.evaluation.stages.fused import toy_fusion
from srec.lm.adapters import picture as shown
from srec.recommender import MLLMSRec
from srec.stages.preference import TemporalPreference
from srec.stages.scoring import CoTScoring
from srec.types import Item

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def car():
    return Item(item_id="7", title="Red car", image=picture(200))


@pytest.fixture
def tuned(car):
    """A program as an optimizer leaves it."""
    made = MLLMSRec(fusion=toy_fusion(), preference=TemporalPreference(window=6, step=3), recent=12)
    judge, seen = made.scoring.judge, made.fusion.verify
    judge.signature = judge.signature.with_instructions("Judge by colour.\n\nBe brief.")
    judge.demos = [
        dspy.Example(
            augmented=True, profile="A parent.", preference="Red.", reasoning="", target_item="Red car", answer="Yes.",
            probability=0.9, logprobs={"content": []},
        )
    ]  # fmt: skip
    seen.demos = [dspy.Example(picture=shown(car.image), question="Is the colour of the item red?", answer="Yes.")]
    made.preference.summarize.demos = [
        dspy.Example(previous_summary="", events=["first: car", "at once: boat"], summary="Buys.", stable=["a", "b"], rising=[], fading=[])
    ]  # fmt: skip
    return made


@pytest.fixture
def folder(tuned, car, tmp_path):
    return save_program(tuned, tmp_path / "tuned", card={"seed": 1, "dev": {"auc": 0.5}}, items=[car])


def test_a_program_comes_back_as_it_was_saved(tuned, car, folder):
    loaded = load_program(folder, items={car.item_id: car})
    assert [dict(demo).keys() for demo in loaded.scoring.judge.demos] == [
        {"augmented", "profile", "preference", "reasoning", "target_item", "answer"}
    ]
    assert loaded.scoring.judge.signature.instructions == "Judge by colour.\n\nBe brief."
    assert loaded.fusion.verify.demos[0].picture == tuned.fusion.verify.demos[0].picture
    assert loaded.preference.summarize.demos[0].events == ["first: car", "at once: boat"]
    assert loaded.fusion.options() == tuned.fusion.options()
    assert (loaded.preference.window, loaded.preference.step, loaded.recent) == (6, 3, 12)
    assert signature_digest(loaded) == signature_digest(tuned)
    assert all(predictor.lm is None for predictor in predictors_of(loaded).values())


def test_saving_what_was_loaded_writes_the_same_bytes(car, folder, tmp_path):
    again = save_program(
        load_program(folder, items={"7": car}), tmp_path / "again" / "tuned", card={"seed": 1, "dev": {"auc": 0.5}}, items=[car]
    )  # fmt: skip
    for name in ("program.json", "card.toml", "prompts.md"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_the_prompts_of_a_loaded_program_are_byte_identical(tmp_path):
    lm, lm_again = pupil(), pupil()
    given = program()
    given.scoring.judge.signature = given.scoring.judge.signature.with_instructions(
        given.scoring.judge.signature.instructions + "\nHeed the colour."
    )
    save_program(given, tmp_path / "p", card={})
    with dspy.context(lm=lm):
        expected = given(case(1)).scores
    with dspy.context(lm=lm_again):
        assert load_program(tmp_path / "p")(case(1)).scores == expected
    assert sorted(lm.engine.prompts) == sorted(lm_again.engine.prompts)


def test_nothing_that_runs_looks_or_calls_is_in_the_files(tuned, car, tmp_path):
    tuned.set_lm(dspy.LM("openai/x", api_key="sk-secret", api_base="http://10.0.0.1/v1", engine="lm15"))
    folder = save_program(tuned, tmp_path / "p", card={}, items=[car])
    written = "".join(path.read_text() for path in folder.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["card.toml", "program.json", "prompts.md"]
    assert not any(word in written for word in ("sk-secret", "10.0.0.1", "base64", "openai", "pickle", "logprobs"))


def test_the_card_has_versions_and_the_signature(tuned, folder):
    card = card_of(folder)
    assert card["seed"] == 1
    assert card["dev"] == {"auc": 0.5}
    assert (
        card["signature"] == signature_digest(tuned) == json.loads((folder / "program.json").read_text())["signature"]
    )
    assert card["versions"]["srec"] == srec.__version__
    assert card["versions"]["dspy"] == "3.4.1"


def test_prompts_can_be_read(folder):
    """Rewritten by: SREC_GOLDEN=write pytest tests/test_artifact.py."""
    written, golden = (folder / "prompts.md").read_text("utf-8"), GOLDEN / "prompts.md"
    if os.environ.get("SREC_GOLDEN") == "write":
        golden.write_text(written, "utf-8")
    assert written == golden.read_text("utf-8"), "prompts.md differs; if it is meant to: SREC_GOLDEN=write pytest"


# Where programs are found


def test_the_program_of_small_models_ships_as_it_is_taught(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "evals" / "learning"))
    toys = importlib.import_module("toys")
    shipped, taught = load_program("toyshop-small"), toys.program("user")
    assert prompts_of(shipped) == prompts_of(taught)
    assert shipped.recent == taught.recent
    for stage in ("fusion", "preference", "scoring"):
        assert getattr(shipped, stage).options() == getattr(taught, stage).options()


def test_a_shipped_program_is_found_by_its_name(tuned, car, tmp_path, monkeypatch):
    save_program(tuned, tmp_path / "shipped" / "toys", card={}, items=[car])
    monkeypatch.setattr(artifact, "_homes", lambda: [tmp_path / "none", tmp_path / "shipped"])
    monkeypatch.chdir(tmp_path)
    assert prompts_of(load_program("toys", items={"7": car})) == prompts_of(load_program(tmp_path / "shipped" / "toys", items={"7": car}))  # fmt: skip
    with pytest.raises(ProgramError, match=r"there is no program 'toy': .* srec ships toys"):
        load_program("toy")


def test_programs_lie_in_the_package_or_beside_it():
    package = Path(srec.__file__).parent
    assert artifact._homes() == [package / "programs", package.parent / "programs"]


@pytest.mark.parametrize("name", ["../etc", "", ".", "no/such"])
def test_a_name_is_no_way_out(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramError, match="there is no program"):
        load_program(name)


# What is refused


def test_other_signatures_are_refused(folder):
    with pytest.raises(ProgramError, match=r"scoring\.judge had the fields profile, .* and has history, picture, item"):
        load_program(folder, into=MLLMSRec(scoring=CoTScoring(reasoning="none")))
    with pytest.raises(ProgramError, match=r"'scoring\.reason' is a predictor that this program has not"):
        load_program(folder, into=MLLMSRec(scoring=lambda *_: []))


def test_another_description_of_a_field_is_another_signature(folder):
    other = MLLMSRec()
    reason = other.scoring.reason
    reason.signature = reason.signature.with_updated_fields("reasoning", desc="one word")
    with pytest.raises(ProgramError, match=r"scoring\.reason had reasoning as .*three steps.* and has .*one word"):
        load_program(folder, into=other)


def test_the_program_loaded_into_stays_as_it_is(car, folder):
    given = MLLMSRec()
    before = prompts_of(given)
    loaded = load_program(folder, into=given, items={"7": car})
    assert prompts_of(given) == before != prompts_of(loaded)


def test_a_picture_needs_the_catalogue_that_it_is_from(car, folder):
    with pytest.raises(ProgramError, match="the picture of item '7'; pass items="):
        load_program(folder)
    for items, words in (
        ({}, "is not in the catalogue"),
        ({"7": replace(car, image=None)}, "has no picture in"),
        ({"7": replace(car, image=picture(90))}, "has another picture in"),
    ):
        with pytest.raises(ProgramError, match=words):
            load_program(folder, items=items)


def test_a_picture_of_no_item_is_not_saved(tuned, tmp_path):
    with pytest.raises(ProgramError, match=r"fusion\.verify shows a picture of none of the items given"):
        save_program(tuned, tmp_path / "p", card={})
    tuned.fusion.verify.demos[0].picture = tuned.fusion.verify.demos[0].picture.url
    with pytest.raises(ProgramError, match="holds a picture as text"):
        save_program(tuned, tmp_path / "p", card={})


def test_a_demo_without_an_answer_is_not_saved(tuned, car, tmp_path):
    tuned.scoring.judge.demos = [dspy.Example(case=1)]
    with pytest.raises(ProgramError, match=r"scoring\.judge has no 'answer'.*max_labeled_demos=0"):
        save_program(tuned, tmp_path / "p", card={}, items=[car])


def test_a_card_that_toml_cannot_hold_is_refused_before_anything_is_written(tuned, car, folder, tmp_path):
    with pytest.raises(InputError, match=r"a card cannot hold 'data\.users' \(.*'set'.*leave it out"):
        save_program(tuned, tmp_path / "p", card={"data": {"users": {"ann"}}}, items=[car])
    assert not (tmp_path / "p").exists()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="'users'"):
        save_program(MLLMSRec(), folder, card={"users": {"ann"}})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("edit", [lambda demo: demo.pop("rising"), lambda demo: demo.update(rising=None)])
def test_a_demo_that_lost_its_answer_is_named(edit, folder, car):
    path = folder / "program.json"
    saved = json.loads(path.read_text("utf-8"))
    demos = saved["predictors"]["preference.summarize"]["demos"]
    demos.append(dict(demos[0]))
    edit(demos[1])
    path.write_text(json.dumps(saved), "utf-8")
    with pytest.raises(ProgramError, match=r"demo 2 of preference\.summarize has no 'rising'.*add it") as raised:
        load_program(folder, items={"7": car})
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:-40], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (lambda text: text.replace('"instructions"', '"instruction"', 1), r"is damaged \(predictors\..*instructions"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "has format 2, this srec reads 1"),
        (lambda text: text.replace("Target Item:", "Target:", 1), "fields are not those of its signature digest"),
        (lambda text: text.replace('"reasoning": "user"', '"reasoning": "often"'), "is damaged: reasoning='often'"),
        (lambda text: text.replace('"write": "composed"', '"write": 7'), r"is damaged \(stages"),
    ],
)
def test_a_damaged_file_is_named_with_its_damage(damage, words, folder, car):
    path = folder / "program.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(ProgramError, match=words) as raised:
        load_program(folder, items={"7": car})
    assert str(path) in str(raised.value)


def test_a_program_with_own_stages_loads_only_into_such_a_program(tmp_path):
    def rank(profile, preference, candidates, descriptions):
        return []

    save_program(MLLMSRec(scoring=rank), tmp_path / "p", card={})
    with pytest.raises(ProgramError, match="stages that are not srec's own; pass into="):
        load_program(tmp_path / "p")
    assert load_program(tmp_path / "p", into=MLLMSRec(scoring=rank)).scoring is rank


# What DSPy trips over


def test_a_stage_that_dspy_compiled_is_saved_and_loaded_too(tuned, car, tmp_path):
    tuned.scoring._compiled = True
    assert "scoring.judge" not in dict(tuned.named_predictors())
    folder = save_program(tuned, tmp_path / "p", card={}, items=[car])
    loaded = load_program(folder, into=tuned, items={"7": car})
    assert "scoring.judge" in dict(loaded.named_predictors())
    assert loaded.scoring.judge.signature.instructions.startswith("Judge by colour.")


def test_setting_equal_prompts_changes_no_key_of_kept_results():
    given = MLLMSRec(lm=pupil())
    item = Item(item_id="1", title="Red car")
    assert with_prompts(given, prompts_of(given)).fusion.key(item) == given.fusion.key(item)


@pytest.mark.parametrize("name", ["a" * 101, "a" * 5000, "a/" * 3000])
def test_a_name_that_no_file_can_have_is_no_program(name):
    with pytest.raises(ProgramError, match="there is no program"):
        srec.load_program(name)
