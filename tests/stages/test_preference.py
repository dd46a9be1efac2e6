import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srec.errors import InputError
from srec.lm.usage import count_usage
from srec.stages.kept import keep
from srec.stages.preference import TemporalPreference
from srec.store import Store
from srec.testing import scripted
from srec.types import Event, History, Item, PreferenceSummary, windows

START, DAY = 1_700_000_000, 86_400


def following():
    """An LM whose summary of a window names the events in it."""

    def summarize(prompt):
        films = re.findall(r"film (\d+)", prompt.split("### Events")[1])
        return {
            "summary": f"From {films[0]} to {films[-1]}.",
            "stable": ["films", "films."],
            "rising": [],
            "fading": [" "],
        }

    return scripted({"SummarizePreference": summarize})


def days(n: int) -> History:
    events = (Event(item=Item(item_id=f"{i:03}", title=f"film {i}"), at=START + i * DAY) for i in range(n))
    return History(user_id="7", events=tuple(events))


def test_each_window_gets_a_summary_that_says_how_far_it_reaches():
    summaries = TemporalPreference(window=4, step=2, lm=following())(days(7))
    assert summaries == [
        PreferenceSummary(user_id="7", text="From 0 to 3.", stable=("films",), until=START + 3 * DAY, events=4),
        PreferenceSummary(user_id="7", text="From 2 to 5.", stable=("films",), until=START + 5 * DAY, events=6),
        PreferenceSummary(user_id="7", text="From 4 to 6.", stable=("films",), until=START + 6 * DAY, events=7),
    ]


def test_the_summary_before_enters_the_next_prompt():
    lm = following()
    TemporalPreference(window=4, step=2, lm=lm)(days(7))
    first, second, third = lm.engine.prompts
    assert "### Previous summary" not in first
    assert "### Previous summary\nFrom 0 to 3. Stable: films.\n" in second
    assert "### Previous summary\nFrom 2 to 5. Stable: films.\n" in third


def test_the_prompt_tells_the_time_between_events_and_the_ratings(history, descriptions):
    lm = scripted({"SummarizePreference": {"summary": "s", "stable": [], "rising": [], "fading": []}})
    TemporalPreference(lm=lm)(history, descriptions)
    assert lm.engine.prompts[0].split("### Events\n")[1].splitlines() == [
        "- first, rated 2: Heat (1995; Action, Crime, Thriller)",
        f"- 3 days later, rated 5: {descriptions['1'].text}",
        "- 1 month later: Toy Story 2",
    ]


def test_an_empty_history_has_no_summary_and_no_call():
    lm = following()
    assert TemporalPreference(lm=lm)(History(user_id="7")) == []
    assert lm.engine.prompts == []


@pytest.mark.parametrize(("window", "step"), [(3, 4), (3, 0), (0, 0)])
def test_a_step_that_would_skip_events_is_refused(window, step):
    with pytest.raises(InputError, match=f"window={window} and step={step}"):
        TemporalPreference(window=window, step=step)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), window=st.integers(1, 12), data=st.data())
def test_one_new_event_costs_at_most_one_call_with_results_kept(n, window, data, tmp_path_factory):
    step = data.draw(st.integers(1, window))
    preference = TemporalPreference(window=window, step=step, lm=following())
    with Store(tmp_path_factory.mktemp("store")) as store, keep(store):
        before = preference(days(n))
        with count_usage() as usage:
            after = preference(days(n + 1))
    assert usage.lm_calls <= 1
    assert usage.lm_calls + usage.cache_hits == len(after)
    assert after[: len(before) - 1] == before[:-1]
    assert after[-1].events == n + 1


def test_update_costs_one_call_without_a_store_and_says_the_same():
    preference = TemporalPreference(window=4, step=2, lm=following())
    all_summaries = preference(days(8))
    last = list(windows(days(8), size=4, step=2))[-1]
    with count_usage() as usage:
        assert preference.update(all_summaries[-2], last) == all_summaries[-1]
    assert usage.lm_calls == 1


def test_another_description_of_an_item_is_another_prompt(history, descriptions):
    lm = scripted({"SummarizePreference": {"summary": "s", "stable": [], "rising": [], "fading": []}})
    preference = TemporalPreference(lm=lm)
    preference(history, descriptions)
    preference(history, {"1": replace(descriptions["1"], text="Something else.")})
    assert "Something else." in lm.engine.prompts[1]


def test_two_users_with_equal_events_share_a_kept_summary_but_not_a_name(tmp_path):
    preference = TemporalPreference(lm=following())
    with keep(tmp_path), count_usage() as usage:
        (one,) = preference(days(3))
        (other,) = preference(History(user_id="8", events=days(3).events))
    assert (one.user_id, other.user_id) == ("7", "8")
    assert (usage.lm_calls, usage.cache_hits) == (1, 1)
