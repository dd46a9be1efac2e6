import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dspy
import pytest

from srec.errors import InputError, ModelError, StoreError
from srec.lm.adapters import BlindModelWarning
from srec.lm.usage import count_usage
from srec.recommender import MLLMSRec
from srec.stages.fusion import ItemFusion, Question
from srec.stages.kept import keep
from srec.stages.preference import TemporalPreference
from srec.stages.profile import UserProfiling
from srec.stages.scoring import CoTScoring
from srec.store import Store
from srec.testing import scripted
from srec.types import Image, Item, ItemDescription, PreferenceSummary, Score, UserProfile

ROOT = Path(__file__).parents[2]
ANSWERS = {
    "AnswerVisualQuestion": {"answer": "a toy"},
    "FuseItem": {"description": "A film.", "contradictions": ["one"]},
    "SummarizePreference": {"summary": "S.", "stable": ["a"], "rising": [], "fading": []},
    "ProfileUser": {"profile": "P.", "traits": ["t"]},
    "ReasonAboutUser": {"reasoning": "R."},
    "ReasonAboutItem": {"reasoning": "R."},
    "JudgeItem": 0.75,
    "JudgeReasonedItem": 0.75,
    "DeduceNext": 0.75,
}


def key(item, fusion=None, **options):
    return (fusion or ItemFusion(lm=scripted(ANSWERS), **options)).forward.key(item)


# What is the same, and what is not


def test_the_same_stage_and_input_have_the_same_key(toy_story):
    assert key(toy_story) == key(replace(toy_story, attributes=dict(toy_story.attributes)))


def test_another_text_or_picture_has_another_key(toy_story, poster):
    altered = Image(data=poster.data + b"\0", width=poster.width, height=poster.height)
    items = [
        toy_story,
        replace(toy_story, title="Toy Story."),
        replace(toy_story, attributes={**toy_story.attributes, "year": "1996"}),
        replace(toy_story, attributes=dict(reversed(toy_story.attributes.items()))),
        replace(toy_story, image=altered),
        replace(toy_story, image=None),
        replace(toy_story, item_id="2"),
    ]
    assert len({key(item) for item in items}) == len(items)


def test_other_options_have_another_key(toy_story):
    options = [
        {},
        {"questions": [Question("kind", "What is it?")]},
        {"questions": [Question("kind", "What is it?", choices=["film", "book"])]},
        {"questions": [Question("kind", "What is it?", choices=["book", "film"])]},
        {"questions": [Question("kind", "What is it?", choices={"film": ["movie"], "book": []})]},
        {"questions": [Question("kind", "What is it?", choices=["film", "book"], of="both")]},
        {"questions": [Question("kind", "What is it?", choices=["film", "book"], of="both", beside=["box"])]},
        {"write": "composed"},
        {"doubt": 0.4},
        {"attributes": ["year"]},
        {"attributes": []},
        {"max_tokens": 100},
    ]
    assert len({key(toy_story, **one) for one in options}) == len(options)


def test_other_instructions_have_another_key(toy_story):
    fusion = ItemFusion(lm=scripted(ANSWERS))
    fusion.fuse.signature = fusion.fuse.signature.with_instructions("Describe it in one word.")
    assert key(toy_story, fusion) != key(toy_story)


def test_another_field_description_has_another_key(toy_story):
    fusion = ItemFusion(lm=scripted(ANSWERS))
    fusion.fuse.signature = fusion.fuse.signature.with_updated_fields("description", desc="one word")
    assert key(toy_story, fusion) != key(toy_story)


def test_other_demos_have_another_key(toy_story, poster):
    keys = {key(toy_story)}
    for picture in (None, dspy.Image(poster.data_uri)):
        fusion = ItemFusion(lm=scripted(ANSWERS))
        fusion.answer_question.demos = [dspy.Example(picture=picture, question="What?", answer="a car")]
        keys.add(key(toy_story, fusion))
    assert len(keys) == 3


def test_another_lm_or_other_options_of_it_have_another_key(toy_story):
    lms = [scripted(ANSWERS), scripted(ANSWERS), scripted(ANSWERS)]
    lms[1].model = "scripted/other"
    lms[2].kwargs["temperature"] = 0.5
    assert len({key(toy_story, ItemFusion(lm=lm)) for lm in lms}) == 3


def test_a_predictor_inside_another_module_counts_too(toy_story):
    keys = set()
    for instructions in ("Describe it.", "Describe it in one word."):
        fusion = ItemFusion(lm=scripted(ANSWERS))
        fusion.fuse = dspy.ChainOfThought(fusion.fuse.signature.with_instructions(instructions))
        fusion.set_lm(scripted(ANSWERS))
        keys.add(key(toy_story, fusion))
    assert len(keys) == 2


def test_stages_of_other_classes_have_other_keys(toy_story):
    class Other(ItemFusion):
        pass

    assert key(toy_story, Other(lm=scripted(ANSWERS))) != key(toy_story)


# What is kept


def test_the_second_asking_takes_the_result_from_the_store(toy_story, tmp_path):
    fusion = ItemFusion(lm=scripted(ANSWERS))
    with keep(tmp_path), count_usage() as first:
        made = fusion(item=toy_story)
    with keep(tmp_path), count_usage() as second:
        kept = fusion(item=toy_story)
    assert kept == made
    assert isinstance(kept, ItemDescription)
    assert (first.lm_calls, first.cache_hits) == (5, 0)
    assert (second.lm_calls, second.cache_hits) == (0, 1)


def test_outside_the_block_nothing_is_kept(toy_story, tmp_path):
    fusion = ItemFusion(lm=scripted(ANSWERS))
    with keep(tmp_path):
        fusion(item=toy_story)
    with count_usage() as usage:
        fusion(item=toy_story)
    assert usage.lm_calls == 5


def test_an_open_store_is_used_and_left_open(toy_story, tmp_path):
    with Store(tmp_path) as store:
        with keep(store) as same:
            ItemFusion(lm=scripted(ANSWERS))(item=toy_story)
        assert same is store
        assert len(store) == 1


@pytest.mark.parametrize("reasoning", ["user", "candidate", "none"])
def test_every_stage_gives_back_from_the_store_what_it_made(reasoning, tmp_path, history, toy_story, heat):
    program = MLLMSRec(scoring=CoTScoring(reasoning=reasoning, view="both"), lm=scripted(ANSWERS))
    with keep(tmp_path):
        made = program.recommend(history, [toy_story, heat])
        with count_usage() as usage:
            kept = program.recommend(history, [toy_story, heat])
    assert kept == made
    assert usage.lm_calls == 0
    assert usage.cache_hits


def test_a_failure_is_not_kept(toy_story, heat, profile, summary, tmp_path):
    answers = [ModelError("busy"), 0.5]
    lm = scripted({"DeduceNext": lambda _: answers.pop(0)})
    scoring = CoTScoring(reasoning="none", lm=lm)
    with keep(tmp_path):
        (failed,) = scoring(profile, summary, [heat])
        (scored,) = scoring(profile, summary, [heat])
    assert failed.value is None
    assert scored == Score(item_id="6", value=0.5, mass=1.0)


def test_a_store_that_cannot_be_written_is_raised_and_not_taken_for_a_failed_candidate(
    heat, profile, summary, tmp_path
):
    class Full(Store):
        def put(self, key, value):
            raise StoreError("the disk is full")

    scoring = CoTScoring(reasoning="none", lm=scripted(ANSWERS))
    with Full(tmp_path) as store, keep(store), pytest.raises(StoreError, match="full"):
        scoring(profile, summary, [heat])


def test_pictures_not_seen_are_counted_when_the_result_comes_from_the_store(toy_story, tmp_path):
    fusion = ItemFusion(lm=scripted(ANSWERS, sees_images=False))
    with keep(tmp_path):
        with pytest.warns(BlindModelWarning):
            fusion(item=toy_story)
        with count_usage() as usage, pytest.warns(BlindModelWarning):
            fusion(item=toy_story)
    assert (usage.unseen_images, usage.cache_hits, usage.lm_calls) == (1, 1, 0)


LATER = """
import sys
from srec.lm.usage import count_usage
from srec.stages.fusion import ItemFusion
from srec.stages.kept import keep
from srec.testing import scripted
from srec.types import Item

with keep(sys.argv[1]), count_usage() as usage:
    text = ItemFusion(lm=scripted({}))(item=Item(item_id="6", title="Heat", attributes={"year": "1995"})).text
print(text, usage.lm_calls, usage.cache_hits)
"""


def test_a_result_is_there_in_another_process(tmp_path):
    with keep(tmp_path):
        ItemFusion(lm=scripted(ANSWERS))(item=Item(item_id="6", title="Heat", attributes={"year": "1995"}))
    done = subprocess.run(
        [sys.executable, "-c", LATER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "Heat (1995). A film. 0 1\n"


# Programs as DSPy handles them


def test_callables_of_the_same_type_take_the_place_of_stages(history, toy_story, heat):
    program = MLLMSRec(
        fusion=lambda item: ItemDescription(item_id=item.item_id, text=f"own {item.title}"),
        preference=lambda history, descriptions: [
            PreferenceSummary(user_id="7", text=descriptions["1"].text, until=history.until, events=len(history))
        ],
        profiling=lambda summaries: UserProfile(user_id="7", text=summaries[-1].text, until=summaries[-1].until),
        scoring=lambda profile, preference, candidates, descriptions: [
            Score(item_id=item.item_id, value=float(len(descriptions[item.item_id].text))) for item in candidates
        ],
    )
    made = program.recommend(history, [heat, toy_story])
    assert made.profile.text == "own Toy Story"
    assert [score.item_id for score in made.ranking.scores] == ["1", "6"]


def test_without_an_lm_every_stage_says_what_to_write(toy_story, history, summary, profile):
    calls = [
        lambda: ItemFusion()(item=toy_story),
        lambda: TemporalPreference()(history),
        lambda: UserProfiling()([summary]),
        lambda: CoTScoring()(profile, summary, [toy_story]),
        lambda: CoTScoring(reasoning="none")(profile, summary, [toy_story]),
    ]
    for call in calls:
        with dspy.context(lm=None), pytest.raises(ModelError, match=r"dspy\.context\(lm=srec\.connect\(\.\.\.\)\)"):
            call()


def test_a_stage_does_not_take_a_name_for_an_lm(toy_story, history, summary, profile):
    calls = [
        lambda: ItemFusion(lm="local:")(item=toy_story),
        lambda: TemporalPreference(lm="local:")(history),
        lambda: UserProfiling(lm="local:")([summary]),
        lambda: CoTScoring(lm="local:")(profile, summary, [toy_story]),
        lambda: MLLMSRec(lm="local:").recommend(history, [toy_story]),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"names an LM and is none; pass lm=srec\.connect\('local:'\)"):
            call()


def test_the_adapter_of_the_context_changes_nothing(heat):
    lm = scripted(ANSWERS)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        ItemFusion()(item=heat)
    assert "[[ ##" not in lm.engine.prompts[0]


def test_a_saved_program_loads_and_asks_the_same(tmp_path, toy_story, history):
    program = MLLMSRec()
    program.fusion.fuse.signature = program.fusion.fuse.signature.with_instructions(
        program.fusion.fuse.signature.instructions + "\n\nBe brief."
    )
    program.scoring.judge.demos = [
        {"profile": "p", "preference": "q", "reasoning": "r", "target_item": "t", "answer": "No."}
    ]
    json.dumps(program.dump_state())
    program.save(tmp_path / "program.json")
    again = MLLMSRec()
    again.load(tmp_path / "program.json")
    lms = scripted(ANSWERS), scripted(ANSWERS)
    for one, lm in zip((program, again), lms, strict=True):
        one.workers = one.fusion.workers = one.scoring.workers = 1
        with dspy.context(lm=lm):
            one.recommend(history, [toy_story])
    assert lms[0].engine.prompts == lms[1].engine.prompts
    assert "Be brief." in "".join(lms[1].engine.prompts)


def test_a_picture_in_a_saved_demo_is_a_picture_again(tmp_path, toy_story, poster):
    fusion = ItemFusion(workers=1)
    fusion.answer_question.demos = [dspy.Example(picture=dspy.Image(poster.data_uri), question="What?", answer="a car")]
    fusion.save(tmp_path / "fusion.json")
    again = ItemFusion(workers=1)
    again.load(tmp_path / "fusion.json")
    lms = scripted(ANSWERS), scripted(ANSWERS)
    for one, lm in zip((fusion, again), lms, strict=True):
        with dspy.context(lm=lm):
            one(item=toy_story)
    assert lms[0].engine.requests == lms[1].engine.requests
    assert lms[1].engine.prompts[0].count("<picture>") == 2


def test_an_address_in_a_saved_demo_is_not_followed(toy_story):
    fusion = ItemFusion(lm=scripted(ANSWERS))
    marked = '<<CUSTOM-TYPE-START-IDENTIFIER>>[{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]<<CUSTOM-TYPE-END-IDENTIFIER>>'
    fusion.answer_question.demos = [{"picture": marked, "question": "What?", "answer": "a car"}]
    fusion(item=toy_story)
    assert "http://x" not in "".join(fusion.fuse.lm.engine.prompts)
    assert fusion.fuse.lm.engine.prompts[0].count("<picture>") == 1


def test_a_copied_program_answers_alike_and_changes_alone(history, toy_story):
    lm = scripted(ANSWERS)
    program = MLLMSRec(lm=lm)
    for copied in (copy.deepcopy(program), program.deepcopy(), program.reset_copy()):
        if copied.scoring.judge.lm is None:  # reset_copy forgets the LM too
            copied.set_lm(lm)
        assert copied.recommend(history, [toy_story]) == program.recommend(history, [toy_story])
        copied.scoring.judge.demos = [{"answer": "Yes."}]
    assert program.scoring.judge.demos == []


def test_bootstrapped_demos_of_every_predictor_appear_in_its_prompt(history, toy_story, heat):
    class Ranks(dspy.Module):
        def __init__(self):
            super().__init__()
            self.program = MLLMSRec()

        def forward(self, history, candidates):
            return dspy.Prediction(ranking=self.program.recommend(history, candidates).ranking)

    lm = scripted(ANSWERS)
    example = dspy.Example(history=history, candidates=[toy_story, heat]).with_inputs("history", "candidates")
    with dspy.context(lm=lm):
        compiled = dspy.BootstrapFewShot(
            metric=lambda example, prediction, trace=None: prediction.ranking is not None,
            max_bootstrapped_demos=1,
            max_labeled_demos=0,
        ).compile(Ranks(), trainset=[example])
        compiled.program.workers = compiled.program.fusion.workers = compiled.program.scoring.workers = 1
        lm.engine.prompts.clear()
        lm.engine.requests.clear()
        compiled(history=history, candidates=[toy_story])
    assert {name: len(predictor.demos) for name, predictor in compiled.named_predictors()} == {
        f"program.{name}": 1
        for name in (
            "fusion.answer_question",
            "fusion.fuse",
            "preference.summarize",
            "profiling.describe",
            "scoring.reason",
            "scoring.judge",
        )
    } | {"program.fusion.answer_from_text": 0, "program.fusion.verify": 0}
    roles = {tuple(message.role for message in request.messages) for request in lm.engine.requests}
    assert roles == {("user", "assistant", "user")}
    judged = lm.engine.requests[-1].messages
    assert judged[1].parts[0].text == "Yes."
    assert "### Target item" in judged[0].parts[0].text
