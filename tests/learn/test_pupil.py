"""What DSPy's optimizers of weights see of a program: a score, its calls in a fixed order, and each as it was asked."""

import random

import dspy
import pytest

import srec
from srec.errors import InputError, StageError
from srec.learn.distill import distill
from srec.learn.provider import rows_of
from srec.learn.pupil import Asked
from srec.learn.rows import read_rows
from srec.testing import oracle, scripted


def traced(student, case):
    with dspy.context(trace=[]):
        made = student(case=case)
        return made, list(dspy.settings.trace)


def data_of(trace, adapter=None):
    adapter = adapter or srec.StageAdapter()
    return [adapter.format_finetune_data(p.signature, p.demos, inputs, outputs) for p, inputs, outputs in trace]


def told(row):
    return (row.stage, row.messages, row.images, row.item_id, row.label, row.user_id, row.at, row.teacher)


@pytest.mark.parametrize("reasoning", ["user", "candidate", "none"])
def test_the_rows_are_those_of_distill(training, program, shop, tmp_path, reasoning):
    """Of every stage, pictures included: the text that was asked, not that of DSPy's own adapters."""
    stages = program(reasoning=reasoning, view="both")
    student = srec.for_dspy(stages, lm=oracle(shop), metric="auc")
    data = [one for case in (training[0], training[1]) for one in data_of(traced(student, case)[1])]
    rows, pictures = rows_of(data)
    distill(stages, [training[0], training[1]], lm=oracle(shop), out=tmp_path, keep=None)
    other = list(read_rows(tmp_path / "rows.jsonl"))
    assert sorted(map(repr, map(told, rows))) == sorted(map(repr, map(told, other)))
    assert {name: (tmp_path / name).exists() for name in pictures} == dict.fromkeys(pictures, True)
    expected = {"fusion.answer_question", "preference.summarize", "profiling.describe", "scoring.judge"}
    assert {row.stage for row in rows if row.images} >= {"fusion.answer_question", "scoring.judge"}
    assert {row.stage for row in rows} == expected | ({"scoring.reason"} if reasoning != "none" else set())


def test_the_order_of_the_calls_and_of_the_rows_is_always_the_same(training, program, shop):
    student = srec.for_dspy(program(), lm=oracle(shop))
    traces = [data_of(traced(student, training[0])[1]) for _ in range(2)]
    assert traces[0] == traces[1]
    mixed = random.Random(1).sample(traces[0], len(traces[0]))
    assert rows_of(mixed) == rows_of(traces[0])
    assert rows_of([*mixed, *traces[0]]) == rows_of(mixed)


def test_a_store_that_is_open_hides_no_call(training, program, shop, tmp_path):
    student = srec.for_dspy(program(), lm=oracle(shop))
    with srec.keep(tmp_path):
        srec.for_dspy(program(), lm=oracle(shop)).program(training[0])
        assert len(traced(student, training[0])[1]) == len(traced(student, training[0])[1]) > 10


def test_the_score_is_the_metric_of_the_case_and_the_given_program_stays(training, program, shop):
    given = program()
    student = srec.for_dspy(given, lm=oracle(shop), metric="auc")
    made, _ = traced(student, training[0])
    assert made.score == srec.learn.objective.auc(made.recommendation.scores, training[0].target_ids)
    assert made.error == ""
    assert [predictor.lm for predictor in given.predictors()] == [None] * len(given.predictors())


def test_a_case_that_fails_has_a_score_of_zero_and_says_why(training, program, counting):
    student = srec.for_dspy(program(), lm=counting(fails=lambda number, request: "Summarize" in str(request.system)))
    made, trace = traced(student, training[0])
    assert made.score == 0.0
    assert made.recommendation is None
    assert "the teacher is out" in made.error
    assert {inputs.about.stage for _, inputs, _ in trace} == {"fusion.answer_question"}


def test_a_stage_with_a_bug_is_no_failure_of_a_case(training, program, shop):
    stages = program()
    stages.profiling = lambda _: "a parent"
    with pytest.raises(StageError, match="the profiling stage returned str"):
        srec.for_dspy(stages, lm=oracle(shop))(case=training[0])


def test_a_metric_without_a_number_counts_as_zero_and_one_outside_its_range_is_refused(training, program, shop):
    assert srec.for_dspy(program(), lm=oracle(shop), metric=lambda *_: float("nan"))(case=training[0]).score == 0.0
    with pytest.raises(InputError, match=r"the metric gave 2\.0 for case"):
        srec.for_dspy(program(), lm=oracle(shop), metric=lambda *_: 2.0)(case=training[0])


def test_wrong_verdicts_can_be_left_out(training, program):
    script = {
        "AnswerVisualQuestion": {"answer": "red"},
        "AnswerTextQuestion": {"answer": "red"},
        "SummarizePreference": {"summary": "s", "stable": [], "rising": [], "fading": []},
        "ProfileUser": {"profile": "p", "traits": []},
        "DeduceNext": 0.9,
    }
    lm = scripted(script)
    case = training[0]
    kept = [
        {inputs.about.item_id for _, inputs, _ in trace if inputs.about.stage == "scoring.judge"}
        for only_right in (True, False)
        for _, trace in [traced(srec.for_dspy(program(reasoning="none"), lm=lm, only_right=only_right), case)]
    ]
    assert kept == [set(case.target_ids), {item.item_id for item in case.candidates}]


def test_a_stage_of_ones_own_is_written_in_the_form_it_was_asked_in(training, program, shop):
    class Words(dspy.Module):
        def __init__(self):
            super().__init__()
            self.say = dspy.Predict("title -> words")

        def __call__(self, item):
            with dspy.context(adapter=dspy.ChatAdapter()):
                said = self.say(title=item.title, lm=words)
            return srec.ItemDescription(item_id=item.item_id, text=said.words)

    words = dspy.utils.DummyLM([{"words": "A toy."}] * 100)
    student = srec.for_dspy(srec.MLLMSRec(fusion=Words()), lm=oracle(shop))
    student.program.fusion.say.lm = words
    _, trace = traced(student, training[0])
    (entry, *_) = [entry for entry in trace if entry[1].about.stage == "fusion.say"]
    (data,) = data_of([entry])
    assert data["messages"][-1]["content"].startswith("[[ ## words ## ]]\nA toy.")
    assert (
        data["messages"]
        == dspy.ChatAdapter().format_finetune_data(entry[0].signature, [], dict(entry[1]), dict(entry[2]))["messages"]
    )


def test_demos_are_written_unless_the_optimizer_leaves_them_out(training, program, shop):
    student = srec.for_dspy(program(), lm=oracle(shop))
    _, trace = traced(student, training[0])
    predictor, inputs, outputs = next(entry for entry in trace if entry[1].about.stage == "profiling.describe")
    demo = dspy.Example(summaries=["Likes cars."], profile="A driver.", traits=["cars"])
    adapter = srec.StageAdapter()
    with_demo = adapter.format_finetune_data(predictor.signature, [demo], inputs, outputs)["messages"]
    without = adapter.format_finetune_data(predictor.signature, [], inputs, outputs)["messages"]
    assert [message["role"] for message in with_demo] == ["system", "user", "assistant", "user", "assistant"]
    assert with_demo[2]["content"] == '{"profile":"A driver.","traits":["cars"]}'
    assert [with_demo[0], *with_demo[3:]] == without


def test_calls_of_another_program_are_refused(shop):
    asked = Asked({"title": "Duck"}, adapter=dspy.ChatAdapter(), signature=dspy.Signature("title -> words"))
    for inputs in ({"title": "Duck"}, asked):
        with pytest.raises(InputError, match=r"give DSPy srec\.for_dspy"):
            srec.StageAdapter().format_finetune_data(dspy.Signature("title -> words"), [], inputs, {"words": "x"})
