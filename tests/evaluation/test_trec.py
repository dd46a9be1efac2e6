"""Run files, ours and those of others."""

import numpy as np
import pytest

from srec.errors import CandidateError
from srec.evaluation.trec import check_run, read_run, write_run
from srec.types import Case, History, Item, Score


def case(user_id, *item_ids):
    candidates = tuple(Item(item_id=item_id) for item_id in item_ids)
    return Case(user_id=user_id, at=9, history=History(user_id=user_id), candidates=candidates, target_ids=item_ids[:1])


def read(tmp_path, text, **options):
    path = tmp_path / "a.run"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_run(path, **options)


def test_what_was_written_reads_back_as_the_same_numbers(tmp_path):
    scores = [
        Score(item_id="a b", value=0.1 + 0.2),
        Score(item_id="100%", value=1e-300),
        Score(item_id="é\u00a0", value=-3.0),
        Score(item_id="lost", value=None, error="the server is gone"),
    ]
    write_run(tmp_path / "deep" / "mine.run", [("u 1@9", scores)], name="my ranker")
    run = read_run(tmp_path / "deep" / "mine.run")
    back = run(case("u 1", "a b", "100%", "é\u00a0", "lost"))
    assert [score.value for score in back] == [0.1 + 0.2, 1e-300, -3.0, None]
    assert back[3].error == "item is not in the run file"
    assert run.name == "my ranker"


def test_lines_are_best_first_and_equal_scores_by_item_id(tmp_path):
    write_run(
        tmp_path / "x.run",
        [("u@9", [Score(item_id=i, value=v) for i, v in zip("cab", (1.0, 1.0, 2.0), strict=True)])],
        name="x",
    )
    assert (tmp_path / "x.run").read_text().splitlines() == [
        "u@9 Q0 b 1 2.0 x",
        "u@9 Q0 a 2 1.0 x",
        "u@9 Q0 c 3 1.0 x",
    ]


def test_an_older_run_stays_if_the_new_one_is_not_finished(tmp_path):
    path = tmp_path / "x.run"
    write_run(path, [("u@9", [Score(item_id="a", value=1.0)])], name="x")
    before = path.read_bytes()

    def broken():
        yield "u@9", [Score(item_id="a", value=2.0)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_run(path, broken(), name="x")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_another_systems_file_may_have_tabs_blank_lines_any_order_and_further_items(tmp_path):
    run = read(
        tmp_path, "u@9\tQ0\ta\t7\t1\tbm25\n\nv@9 Q0 a 1 5 bm25\n  u@9 Q0 elsewhere 1 9.5e0 bm25\nu@9 Q0 b 1 2 bm25\n"
    )
    assert [score.value for score in run(case("u", "a", "b"))] == [1.0, 2.0]
    assert run.name == "bm25"
    assert read_run(run.path, name="theirs").name == "theirs"


def test_a_case_that_the_file_leaves_out_is_not_scored(tmp_path):
    scores = read(tmp_path, "u@9 Q0 a 1 1.0 x\n")(case("v", "a", "b"))
    assert [(score.value, score.error) for score in scores] == [(None, "case is not in the run file")] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("u@9 Q0 a 1 1.0 x\nu@9 Q0 b 2 x\n", r"line 2: 5 words, not 'case_id Q0 item_id rank score name'"),
        ("u@9 Q0 a 1 high x\n", "line 1: score 'high' is no finite number"),
        ("u@9 Q0 a 1 nan x\n", "line 1: score 'nan' is no finite number"),
        ("u@9 Q0 a 1 2 x\nu@9 Q0 a 2 1 x\n", "case 'u@9' has item 'a' twice"),
        ("u@9 Q0 %ff 1 2 x\n", "line 1: '%ff' holds an escape"),
        (b"u@9 Q0 \xff 1 2 x\n", "is not UTF-8"),
    ],
)
def test_what_is_no_run_file_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(CandidateError, match=message):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CandidateError, match=r"cannot read run file .*nowhere\.run: No such file"):
        read_run(tmp_path / "nowhere.run")


def of_users(tmp_path, *item_ids, users=20):
    rows = (f"u{user}@9 Q0 {item_id} 1 {place} x" for user in range(users) for place, item_id in enumerate(item_ids))
    return read(tmp_path, "\n".join(rows))


def asked(*item_ids, target, users=20):
    return [(f"u{user}@9", item_ids, (target,)) for user in range(users)]


def test_a_file_that_scores_every_target_and_not_the_other_candidates_gives_the_targets_away(tmp_path):
    drawn_else = of_users(tmp_path, "t", "a", "b", "c")
    with pytest.raises(CandidateError, match=r"a\.run scores every target .* other candidates"):
        check_run(drawn_else, asked("t", "c", "d", "e", target="t"))


def test_a_target_whose_score_failed_hides_no_file_of_other_candidates(tmp_path):
    holes = of_users(tmp_path, "t", "a", "b", "c", "d")
    missed = [("u0@9", ("x", "a", "b", "y", "z"), ("x",))]
    with pytest.raises(CandidateError, match="scores nearly every target"):
        check_run(holes, missed + asked("t", "e", "f", "g", "h", target="t")[1:] * 2)
    check_run(holes, 3 * missed + asked("t", "e", "f", "g", "h", target="t"))


def drawn(tmp_path, *, better, cut, users=60, items=40):
    """A run of drawn scores, the target's by so much better: lists cut at their best, or of other candidates."""
    rng, lines, cases = np.random.default_rng(0), [], []
    for user in range(users):
        scores = dict(zip(["t", *(f"i{place}" for place in range(items - 1))], rng.normal(size=items), strict=True))
        scores["t"] += better
        kept = sorted(scores, key=scores.__getitem__)[-items // 2 :] if cut else list(scores)[: items // 2]
        lines += [f"u{user}@9 Q0 {item_id} 1 {scores[item_id]} x" for item_id in kept if cut or user or item_id != "t"]
        cases.append((f"u{user}@9", list(scores), ("t",)))
    return read(tmp_path, "\n".join(lines)), cases


@pytest.mark.parametrize("better", [0.0, 0.5, 1.0])
def test_a_failed_score_hides_no_file_of_other_candidates_whatever_the_ranker(tmp_path, better):
    run, cases = drawn(tmp_path, better=better, cut=False)
    with pytest.raises(CandidateError, match="scores nearly every target"):
        check_run(run, cases)


@pytest.mark.parametrize("better", [0.0, 0.5, 1.0, 1.5])
def test_a_list_that_is_cut_at_its_best_is_taken_whatever_the_ranker(tmp_path, better):
    check_run(*drawn(tmp_path, better=better, cut=True))


@pytest.mark.parametrize(
    ("items", "target", "why"),
    [
        (("t", "a", "b", "c"), "t", "all are scored"),
        (("a", "b", "z"), "t", "the target is missed, as a list that is cut at its best does"),
    ],
)
def test_a_file_of_these_candidates_or_of_the_best_of_all_is_taken(tmp_path, items, target, why):
    check_run(of_users(tmp_path, *items), asked("t", "a", "b", "c", target=target))


def test_a_good_list_that_lacks_its_last_candidate_is_taken(tmp_path):
    others = [f"i{place}" for place in range(20)]
    cut = of_users(tmp_path, "t", *others[:-1], users=300)  # no target missed, where 14 would be at random
    check_run(cut, asked("t", *others, target="t", users=300))


def test_a_tag_of_escapes_and_line_breaks_is_cleaned(tmp_path):
    line = "u0@9 Q0 t 1 0.5 {}\n"
    assert read(tmp_path, line.format("a%0A%1b]0;x%07b")).name == "a ]0;x b"
    assert read(tmp_path, line.format("%0A")).name == "a"  # the file's


def test_few_cases_and_those_of_others_say_nothing(tmp_path):
    drawn_else = of_users(tmp_path, "t", "a", users=3)
    check_run(drawn_else, asked("t", "c", "d", target="t"))
    check_run(drawn_else, asked(target="t"))
    check_run(of_users(tmp_path, "t", "a", "b", "c"), [("other@9", ("t", "c", "d", "e"), ("t",))] * 20)
