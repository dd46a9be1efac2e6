import re
import warnings
from dataclasses import replace

import pytest

import srec
from srec.errors import AnswerError, InputError, LeakageError, StageError
from srec.explanation import Evidence, explain
from srec.lm.usage import count_usage
from srec.recommender import MLLMSRec, Recommendation
from srec.stages.fusion import ItemFusion, Question
from srec.stages.kept import keep
from srec.stages.preference import TemporalPreference
from srec.stages.scoring import CoTScoring
from srec.testing import check_ranker, scripted
from srec.types import Event, Fact, History, Item, ItemDescription, PreferenceSummary, Score, UserProfile

KIND = Question("kind", "What kind of item is it?")
BRANDS = ("Fernhill", "Okapi", "Brightwell", "Tiny Atlas", "Marlowe", "Pebble Lane", "Lumo", "Hobbs")


def by_brand(prompt):
    """A probability that depends on the candidate alone."""
    target = prompt.split("### Target item")[1]
    return next((0.9 - 0.1 * n for n, brand in enumerate(BRANDS) if brand in target), 0.05)


ANSWERS = {
    "AnswerVisualQuestion": {"answer": "a teal toy"},
    "FuseItem": {"description": "A wooden toy for children.", "contradictions": []},
    "SummarizePreference": {"summary": "Likes wood.", "stable": ["wooden toy"], "rising": ["art"], "fading": ["child"]},
    "ProfileUser": {"profile": "A parent.", "traits": ["for children", "red"]},
    "ReasonAboutUser": {"reasoning": "Wood fits."},
    "JudgeItem": by_brand,
}


@pytest.fixture(scope="module")
def shop():
    return srec.toyshop(items=40, users=6, seed=0)


@pytest.fixture(scope="module")
def cases(shop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # leave-last-out warns of other users' future
        return srec.cases(shop.data, candidates="uniform:8", users=4, seed=0)


def program(**stages) -> MLLMSRec:
    stages.setdefault("fusion", ItemFusion(questions=[KIND]))
    return MLLMSRec(**stages, lm=scripted(ANSWERS))


def days(n: int) -> History:
    events = (Event(item=Item(item_id=f"{i:03}", title=f"film {i}"), at=1000 + i) for i in range(n))
    return History(user_id="7", events=tuple(events))


# The whole program


def test_a_case_becomes_a_ranking_with_all_that_it_was_made_from(cases):
    case = cases[0]
    made = program()(case)
    assert isinstance(made, Recommendation)
    assert [score.item_id for score in made.scores] == [item.item_id for item in case.candidates]
    assert set(made.descriptions) == {i.item_id for i in [*(e.item for e in case.history.events), *case.candidates]}
    assert made.summaries[-1].until == made.profile.until == case.history.until
    values = [score.value for score in made.ranking.scores]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 1


def test_the_program_keeps_the_contract_of_a_ranker(cases):
    ranked = program()
    for case in cases:
        check_ranker(lambda one: ranked(one).scores, case)


def test_a_user_costs_two_calls_an_item_one_a_window_two_and_one_a_candidate(cases):
    case = cases[0]
    with count_usage() as usage:
        made = program()(case)
    assert usage.lm_calls == 2 * len(made.descriptions) + len(made.summaries) + 2 + len(case.candidates)


def test_the_same_case_asked_again_from_the_store_makes_no_call(cases, tmp_path):
    ranked = program()
    with keep(tmp_path):
        first = ranked(cases[0])
        with count_usage() as usage:
            assert ranked(cases[0]) == first
    assert usage.lm_calls == 0
    assert usage.failures == 0


def test_candidates_of_another_case_do_not_change_a_score(cases):
    case = cases[0]
    fewer = program().recommend(case.history, case.candidates[:3], at=case.at)
    assert fewer.scores == program()(case).scores[:3]


# What must not happen


def test_an_empty_history_is_refused(cases):
    with pytest.raises(InputError, match="user 'new' has no event to start from; rank by popularity instead"):
        program().recommend(History(user_id="new"), cases[0].candidates)


@pytest.mark.parametrize("late", ["summary", "profile"])
def test_a_stage_that_uses_the_future_is_leakage(late, cases):
    case = cases[0]
    until = {"summary": case.history.until, "profile": case.history.until, late: case.at}
    leaking = program(
        preference=lambda history, _: [
            PreferenceSummary(user_id=history.user_id, text="S", until=until["summary"], events=1)
        ],
        profiling=lambda summaries: UserProfile(user_id=case.user_id, text="P", until=until["profile"]),
    )
    with pytest.raises(LeakageError, match=f"the {late} of user .* history.before\\({case.at}\\)"):
        leaking(case)


def test_a_history_that_reaches_the_time_is_leakage(cases):
    case = cases[0]
    with pytest.raises(LeakageError, match="summary"):
        program().recommend(case.history, case.candidates, at=case.history.until)


def test_a_preference_of_ones_own_that_gives_nothing_is_refused(cases):
    with pytest.raises(InputError, match="gave no summary"):
        program(preference=lambda *_: [])(cases[0])


def test_scores_of_ones_own_in_another_order_are_refused(cases):
    def backwards(profile, preference, candidates, descriptions):
        return [Score(item_id=item.item_id, value=0.0) for item in reversed(candidates)]

    with pytest.raises(InputError, match="give one for each, in their order"):
        program(scoring=backwards)(cases[0])


SUMMARY = PreferenceSummary(user_id="u", text="S", until=0, events=1)


@pytest.mark.parametrize(
    ("stage", "made", "returned"),
    [
        ("fusion", "a toy", "str; return an srec.ItemDescription"),
        ("fusion", None, "None; return an srec.ItemDescription"),
        ("preference", "likes wood", "str; return a list of srec.PreferenceSummary, oldest first"),
        ("preference", ["likes wood"], "list of str; return a list of srec.PreferenceSummary"),
        ("preference", SUMMARY, "PreferenceSummary; return a list of srec.PreferenceSummary"),
        ("profiling", "a parent", "str; return an srec.UserProfile"),
        ("profiling", None, "None; return an srec.UserProfile"),
        ("scoring", [0.5, 0.25], "list of float; return a list of srec.Score, one for each candidate in order"),
        ("scoring", [Score(item_id="1", value=0.5), None], "list of None; return a list of srec.Score"),
        ("scoring", {"1": 0.5}, "dict; return a list of srec.Score"),
        ("scoring", None, "None; return a list of srec.Score"),
    ],
)
def test_a_stage_of_ones_own_that_returns_something_else_is_named(stage, made, returned, cases):
    with pytest.raises(StageError, match=f"the {stage} stage returned {returned}"):
        program(**{stage: lambda *_: made})(cases[0])


def test_a_stage_of_ones_own_may_yield_what_it_makes(cases):
    def score(profile, preference, candidates, descriptions):
        yield from (Score(item_id=item.item_id, value=0.5) for item in candidates)

    assert len(program(scoring=score)(cases[0]).scores) == len(cases[0].candidates)


def test_an_item_whose_fusion_failed_is_counted_and_shown_by_its_headline(cases):
    case = cases[0]
    failing = case.candidates[0]
    fused = ANSWERS["FuseItem"]
    lm = scripted({**ANSWERS, "FuseItem": lambda p: AnswerError("cut off") if failing.title in p else fused})
    with count_usage() as usage:
        made = MLLMSRec(fusion=ItemFusion(questions=[KIND]), lm=lm)(case)
    assert usage.failures == 1
    assert failing.item_id not in made.descriptions
    assert made.scores[0].value is not None
    (prompt,) = [p for p in lm.engine.prompts if "### Target item" in p and failing.title in p]
    assert "A wooden toy" not in prompt.split("### Target item")[1]


def test_a_fusion_with_a_bug_raises(cases):
    with pytest.raises(ZeroDivisionError):
        program(fusion=lambda item: 1 / 0)(cases[0])


@pytest.mark.parametrize("recent", [0, -1])
def test_reading_no_event_is_refused(recent):
    with pytest.raises(InputError, match=f"recent={recent} leaves no event"):
        MLLMSRec(recent=recent)


# How much is read


@pytest.mark.parametrize(
    ("events", "start"), [(1, 0), (10, 0), (11, 0), (14, 0), (15, 5), (19, 5), (20, 10), (101, 90)]
)
def test_the_last_events_are_read_from_a_multiple_of_the_step(events, start):
    read = MLLMSRec(recent=10, preference=TemporalPreference(window=7, step=5)).read(days(events))
    assert read.events == days(events).events[start:]


def test_all_events_are_read_where_recent_is_none():
    assert MLLMSRec(recent=None).read(days(200)) == days(200)


def test_what_was_not_read_is_not_fused_and_not_shown():
    lm = scripted({**ANSWERS, "JudgeItem": 0.5})
    MLLMSRec(recent=10, lm=lm).recommend(days(23), [Item(item_id="x", title="film X")])
    named = {int(n) for prompt in lm.engine.prompts for n in re.findall(r"film (\d+)", prompt)}
    assert named == set(range(10, 23))


# Explanations


def shared(*facts: str) -> tuple[Fact, ...]:
    return tuple(Fact(aspect=f.split("=")[0], value=f.split("=")[1], source="text") for f in facts)


def recommendation(events, *, facts, candidate="c", **changes) -> Recommendation:
    items = [event.item for event in events] + [Item(item_id=candidate)]
    described = {
        item.item_id: ItemDescription(item_id=item.item_id, text="A party film.", facts=facts.get(item.item_id, ()))
        for item in items
    }
    until = events[-1].at
    made = Recommendation(
        history=History(user_id="7", events=tuple(events)),
        candidates=(items[-1],),
        scores=(Score(item_id=candidate, value=0.5, reason="because"),),
        descriptions=described,
        summaries=(
            PreferenceSummary(user_id="7", text="S", rising=("art",), stable=("Party",), until=until, events=1),
        ),
        profile=UserProfile(user_id="7", text="P", traits=("party film", "party"), until=until),
    )
    return replace(made, **changes)


def event(item_id: str, at: int, rating: float | None = None, **attributes: str) -> Event:
    return Event(item=Item(item_id=item_id, attributes=attributes), at=at, rating=rating)


def test_an_event_speaks_for_an_item_by_the_facts_that_they_share():
    teal = Fact(aspect="colour", value="Teal", source="image")
    facts = {"c": (teal, *shared("kind=car", "price=low")), "a": shared("colour=teal", "kind=boat")}
    (explanation,) = explain(recommendation([event("a", 1)], facts=facts))
    assert explanation.evidence == (Evidence(event=event("a", 1), shared=(teal,)),)
    assert explanation.score.reason == "because"
    assert explanation.item.item_id == "c"


def test_evidence_is_ordered_by_shared_facts_then_by_recency_and_three_at_most():
    both, one = shared("kind=car", "price=low"), shared("kind=car")
    events = [event("a", 1), event("b", 2), event("d", 3), event("e", 4), event("f", 5)]
    facts = {"c": both, "a": both, "b": one, "d": one, "e": shared("kind=boat"), "f": one}
    (explanation,) = explain(recommendation(events, facts=facts))
    assert [one.event.item.item_id for one in explanation.evidence] == ["a", "f", "d"]


def test_a_disliked_event_speaks_for_nothing():
    car = shared("kind=car")
    events = [event("a", 1, 1.0), event("b", 2, 5.0), event("d", 3)]
    (explanation,) = explain(recommendation(events, facts=dict.fromkeys("abcd", car)))
    assert [one.event.item.item_id for one in explanation.evidence] == ["d", "b"]


def test_an_item_does_not_speak_for_itself():
    events = [event("c", 1)]
    (explanation,) = explain(recommendation(events, facts={"c": shared("kind=car")}))
    assert explanation.evidence == ()


def test_no_shared_fact_is_no_evidence():
    facts = {"c": shared("kind=car"), "a": shared("kind=boat", "theme=car")}
    (explanation,) = explain(recommendation([event("a", 1)], facts=facts))
    assert explanation.evidence == ()


def test_items_without_a_description_share_facts_of_the_catalogue():
    made = recommendation([event("a", 1, genres="Crime|Drama")], facts={}, descriptions={})
    candidate = Item(item_id="c", attributes={"genres": "drama|War", "imdb_id": "1"})
    (explanation,) = explain(replace(made, candidates=(candidate,)))
    assert explanation.evidence[0].shared == (Fact(aspect="genres", value="drama", source="text"),)
    assert explanation.tastes == ()
    assert explanation.contradictions == ()


def test_tastes_are_those_that_the_description_names_as_whole_words():
    (explanation,) = explain(recommendation([event("a", 1)], facts={}))
    assert explanation.tastes == ("Party", "party film")


def test_explanations_come_best_first_and_as_many_as_asked_for(cases):
    made = program()(cases[0])
    explained = explain(made, top=3)
    assert [one.score for one in explained] == list(made.ranking.top(3))
    assert all(taste in {"wooden toy", "for children"} for one in explained for taste in one.tastes)
    assert any(one.evidence for one in explained)
    assert {fact.source for one in explained for e in one.evidence for fact in e.shared} <= {"image", "text", "both"}


def test_explaining_asks_no_lm(cases):
    made = program(scoring=CoTScoring())(cases[0])
    with count_usage() as usage:
        explain(made)
    assert usage.lm_calls == 0
