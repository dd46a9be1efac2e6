"""Optimization with DSPy's own optimizers and scripted LMs."""

import tomllib
from dataclasses import replace

import dspy
import pytest
from colours import ANSWERS, HEED, asked, cases, judged, program, pupil, writer

import srec
from srec.artifact import predictors_of, prompts_of
from srec.errors import InputError, LeakageError, StageError
from srec.learn.optimize import optimize, user_hash
from srec.learn.optimizers import bootstrap, gepa, instructions
from srec.stages.fusion import ItemFusion, Question
from srec.stages.kept import keep
from srec.stages.scoring import CoTScoring
from srec.testing import scripted

TRAIN, DEV = cases(0, 1, 2, 3), cases(4, 5, 6)


def improved(**options):
    options = {"lm": pupil(), "reflection_lm": writer(), "calls": 130, "metric": "auc", "seed": 1} | options
    return optimize(options.pop("program", program()), TRAIN, DEV, **options)


def instructions_of(result, name="scoring.judge"):
    return prompts_of(result.program)[name].instructions


# The three ready ways, and any optimizer of DSPy's


@pytest.mark.parametrize("way", [gepa(minibatch=2), instructions(breadth=2, depth=1)], ids=lambda way: way.name)
@pytest.mark.parametrize("stages", ["joint", "scoring"])
def test_instructions_that_help_are_found_and_kept(way, stages):
    given = program()
    before = prompts_of(given)
    result = improved(program=given, optimizer=way, stages=stages)
    assert HEED in instructions_of(result)
    assert result.kept
    assert result.before["auc"].value < 0.7
    assert result.after["auc"].value == 1.0
    assert result.difference.value == pytest.approx(result.after["auc"].value - result.before["auc"].value)
    assert result.difference.low > 0
    assert result.difference.n == len(DEV)
    assert "scoring.judge" in result.changed
    assert prompts_of(given) == before, "the program that was given stays as it is"


def test_demos_come_from_cases_that_went_well_and_show_right_verdicts_only():
    lm = pupil(ANSWERS | {"JudgeItem": lambda prompt: 0.5 + judged(f"{HEED}{prompt}") / 2})  # yes to everything
    result = improved(lm=lm, optimizer=bootstrap(demos=2), stages="scoring")
    demos = prompts_of(result.program)["scoring.judge"].demos
    targets = [item.title for case in TRAIN for item in case.candidates if item.item_id in case.target_ids]
    assert len(demos) == 2
    assert all(demo.answer == "Yes." and any(title in demo.target_item for title in targets) for demo in demos)


def test_at_most_two_demos_of_a_prompt_show_a_picture(tmp_path):
    train, dev = cases(0, 1, 2, 3, pictures=True), cases(4, 5, pictures=True)
    given = program(scoring=CoTScoring(view="image"))
    given.fusion = ItemFusion(questions=[Question("kind", "What is it?")], write="composed")
    optimizer = bootstrap(demos=4, at_least=0.0)
    out = tmp_path / "pictures"
    result = optimize(given, train, dev, optimizer=optimizer, lm=pupil(), calls=2000, stages="fusion", out=out)
    demos = prompts_of(result.program)["fusion.answer_question"].demos
    assert sum(isinstance(value, dspy.Image) for demo in demos for value in dict(demo).values()) == 2
    assert ";base64," not in (out / "program.json").read_text()
    items = {one.item_id: one for case in train for one in (*(e.item for e in case.history.events), *case.candidates)}
    again = prompts_of(srec.load_program(out, items=items))["fusion.answer_question"].demos
    assert [demo.picture for demo in again] == [demo.picture for demo in demos]


def test_an_optimizer_object_of_dspy_keeps_its_own_metric_and_its_lm_pays_too():
    lm, mine = pupil(), writer()
    seen = []

    def metric(gold, pred, trace=None, pred_name=None, pred_trace=None):
        seen.append(pred.score)
        return dspy.Prediction(score=pred.score, feedback="Heed the colours.")

    theirs = dspy.GEPA(metric=metric, reflection_lm=mine, max_metric_calls=30, reflection_minibatch_size=2)
    result = improved(optimizer=theirs, lm=lm, reflection_lm=None, stages="scoring")
    assert seen
    assert result.calls == asked(lm, mine)
    assert asked(mine)
    assert theirs.reflection_lm is mine
    assert HEED in instructions_of(result)


def test_an_optimizer_without_a_metric_gets_ours():
    def compiled(metric):
        assert metric(dspy.Example(), dspy.Prediction(score=0.25)) == 0.25
        return dspy.BootstrapFewShot(metric=metric, max_labeled_demos=0, max_bootstrapped_demos=1)

    assert improved(optimizer=compiled, stages="profiling").changed == ("profiling.describe",)
    plain = dspy.BootstrapFewShot(max_labeled_demos=0, max_bootstrapped_demos=1)
    assert improved(optimizer=plain, stages="profiling").changed == ("profiling.describe",)
    assert plain.metric is None


def test_labelled_demos_are_refused():
    with pytest.raises(InputError, match="max_labeled_demos=0"):
        improved(optimizer=dspy.BootstrapFewShot())


# What may change


def test_stages_are_optimized_one_after_the_other_and_the_others_stay():
    result = improved(optimizer=gepa(minibatch=2), stages=["preference", "scoring"])
    assert {name.partition(".")[0] for name in result.changed} <= {"preference", "scoring"}
    assert "preference: " in result.ended
    assert "scoring: " in result.ended


def test_a_stage_that_stays_is_not_asked_again():
    lm = pupil()
    improved(lm=lm, optimizer=gepa(minibatch=2), stages="scoring")
    first_lines = [prompt.splitlines()[0] for prompt in lm.engine.prompts]
    profiles = [line for line in first_lines if line.startswith("Describe the lasting taste")]
    assert len(profiles) <= 3, "one for each colour that is liked"


def test_prompts_that_were_never_asked_are_left_alone():
    result = improved(optimizer=instructions(breadth=2, depth=1))
    assert not any(name.startswith("fusion") for name in result.changed)


def test_a_store_that_is_open_hides_nothing_from_the_optimizer(tmp_path):
    with keep(tmp_path):
        result = improved(optimizer=bootstrap(demos=1), stages="profiling")
    assert result.changed == ("profiling.describe",)


def test_stages_compiled_by_dspy_are_optimized_all_the_same():
    given = program()
    given.scoring._compiled = True
    result = improved(program=given, optimizer=gepa(minibatch=2), stages="scoring")
    assert HEED in instructions_of(result)
    assert {name for name, _ in result.program.named_predictors()} == set(predictors_of(given))


def test_the_lms_of_the_program_stay_its_own():
    lm, own = pupil(), pupil()
    result = improved(program=program(lm=own), lm=lm, optimizer=bootstrap(demos=1))
    assert not own.engine.prompts
    assert result.program.scoring.judge.lm.engine is own.engine
    assert improved(program=program(lm=own), lm=None, reflection_lm=None, optimizer=bootstrap(demos=1)).calls
    assert own.engine.prompts


# What decides


def test_what_is_worse_on_dev_is_not_kept_and_can_be_read(tmp_path):
    answers = ANSWERS | {"JudgeItem": lambda prompt: 0.5 if "Never mind." in prompt else ANSWERS["JudgeItem"](prompt)}

    def worse(metric):
        class Spoiler:
            def compile(self, student, *, trainset):
                judge = student.program.scoring.judge
                judge.signature = judge.signature.with_instructions(judge.signature.instructions + "\nNever mind.")
                return student

        return Spoiler()

    train, dev = cases(0, 3), cases(6, 9)  # who like red, which does better than chance without any heed
    answers["JudgeItem"] = lambda prompt: (
        0.5 if "Never mind." in prompt else 0.9 if "red" in prompt.rpartition("### Target item")[2] else 0.1
    )
    given = program()
    result = optimize(
        given, train, dev, optimizer=worse, lm=pupil(answers), calls=500, metric="auc", out=tmp_path / "p"
    )
    assert not result.kept
    assert result.difference.value == -0.5
    assert prompts_of(result.program) == prompts_of(given) == prompts_of(srec.load_program(tmp_path / "p"))
    assert "Never mind." in (tmp_path / "p" / "rejected.md").read_text()
    assert "not kept: worse" in str(result)
    card = tomllib.loads((tmp_path / "p" / "card.toml").read_text())
    assert card["kept"] is False
    assert card["difference"]["value"] == -0.5


def test_the_optimizer_never_sees_a_development_case():
    seen = set()

    def watching(metric):
        class Nothing:
            def compile(self, student, *, trainset, valset):
                seen.update(example.case.user_id for example in (*trainset, *valset))
                return student

        return Nothing()

    result = improved(optimizer=watching)
    assert seen == {case.user_id for case in TRAIN}
    assert result.changed == ()
    assert "nothing changed" in str(result)


def test_a_program_that_fails_on_a_case_counts_nothing_there_and_is_counted():
    answers = ANSWERS | {
        "ProfileUser": lambda prompt: ValueError("ill") if "red" in prompt else {"profile": "x", "traits": []}
    }
    result = improved(lm=pupil(answers), optimizer=instructions(breadth=2, depth=1), stages="scoring")
    red = sum(case.target_ids[0].startswith("red") for case in DEV)
    assert result.failed == red == 1
    assert result.before["auc"].value < 0.7


def test_a_stage_with_a_bug_ends_the_optimization():
    with pytest.raises(StageError, match="the profiling stage returned str"):
        improved(program=program(profiling=lambda _: "a parent"), optimizer=instructions(breadth=2, depth=1))


def test_a_writer_that_fails_ends_the_optimization_and_not_the_program():
    result = improved(reflection_lm=writer(None), optimizer=instructions(breadth=2, depth=1), stages="scoring")
    assert "stopped by" in result.ended
    assert result.changed == ()


# What is refused


def test_a_user_in_both_train_and_dev_is_refused():
    with pytest.raises(LeakageError, match="1 users are in train and dev, user 'user3' first"):
        optimize(program(), TRAIN, cases(3, 4), lm=pupil(), calls=10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "gepo"}, "optimizer 'gepo' is not known"),
        ({"metric": "ndcg"}, "metric 'ndcg' is not known"),
        ({"stages": "scorin"}, "each at most once: fusion, preference, profiling, scoring"),
        ({"stages": ["scoring", "scoring"]}, "each at most once"),
        ({"calls": 0}, "give the number of LM calls"),
        ({"calls": 5}, "do not suffice to measure the 3 development cases"),
        ({"calls": 25}, "leave none to optimize joint with"),
        ({"about": {"by": {"me"}}}, "a card cannot hold 'by'"),
        (
            {"optimizer": gepa(images=True), "reflection_lm": scripted({}, sees_images=False)},
            "is to see the pictures and cannot; give a reflection_lm that sees",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(options, words):
    with pytest.raises(InputError, match=words):
        improved(**options)


def test_a_case_of_targets_alone_is_refused():
    (odd,) = cases(0)
    odd = replace(odd, candidates=tuple(item for item in odd.candidates if item.item_id in odd.target_ids))
    with pytest.raises(InputError, match="no candidate but its targets"):
        optimize(program(), [odd], DEV, lm=pupil(), calls=10)


# The artifact


def test_the_artifact_says_what_was_done_and_loads_with_the_prompts(tmp_path):
    out = tmp_path / "colours"
    result = improved(optimizer=gepa(minibatch=2), stages="scoring", out=out, about={"dataset": "colours"})
    loaded = srec.load_program(out)
    assert prompts_of(loaded) == prompts_of(result.program)
    assert HEED in (out / "prompts.md").read_text()
    card = tomllib.loads((out / "card.toml").read_text())
    assert card["dataset"] == "colours"
    assert card["optimizer"] == {"name": "gepa", "images": False, "minibatch": 2}
    assert card["calls"] == result.calls <= card["budget"] == 130
    assert card["after"]["auc"]["n"] == 3
    assert card["split"]["dev"] == sorted(user_hash(case.user_id) for case in DEV)
    assert card["data"]["train_cases"] == 4
    assert (out / "calls" / ".gitignore").read_text() == "*\n"


# A real model


@pytest.mark.model
def test_a_real_model_is_optimized_within_a_budget_of_a_few_calls(smollm2, tmp_path):
    given = program(scoring=CoTScoring(max_tokens=24))
    given.preference.summarize.config["max_tokens"] = given.profiling.describe.config["max_tokens"] = 48
    result = optimize(
        given,
        cases(0, 1),
        cases(2),
        optimizer=gepa(minibatch=1),
        lm=smollm2.copy(max_tokens=64),
        calls=24,
        stages="scoring",
        metric="pairwise",
        out=tmp_path / "real",
    )
    assert 7 <= result.calls <= 24
    assert result.failed == 0
    assert 0.0 < result.before["pairwise"].value < 1.0
    assert prompts_of(srec.load_program(tmp_path / "real")) == prompts_of(result.program)
