import math

import pytest

from srec.data.shopper import DAY, Shopper, Taste
from srec.evaluation.stages.taste import preference, profile
from srec.evaluation.stages.witness import Made
from srec.types import PreferenceSummary, UserProfile

PHASES = {
    "a": (("red", "striped"), ("blue", "dotted")),
    "b": (("green", "checked"), ("pink", "plain")),
    "c": (("teal", "zigzag"), ("orange", "striped")),
}
TIMES = tuple(day * DAY for day in range(0, 20, 2))  # ten events; the taste changes on day 10, with the sixth


def shopper(user_id):
    taste = Taste(motion="change", phases=PHASES[user_id], phase_days=10.0, since=0)
    materials = {"a": ("wood", "budget"), "b": ("tin", "premium"), "c": ("felt", "mid-range")}[user_id]
    return Shopper(user_id=user_id, lasting=dict.fromkeys(materials, 1.0), taste=taste)


SHOPPERS = {user_id: shopper(user_id) for user_id in PHASES}


def made(user_id, *, summaries, traits=()):
    """A case whose summaries (number of events, what is rising, what is fading) are these."""
    return Made(
        user_id=user_id,
        times=TIMES,
        summaries=tuple(
            PreferenceSummary(
                user_id=user_id, text="", rising=(rising,), fading=(fading,), until=TIMES[events - 1], events=events
            )
            for events, rising, fading in summaries
        ),
        profile=UserProfile(user_id=user_id, text="", traits=traits, until=TIMES[-1]),
        scores=(),
        target_ids=("t",),
    )


def following(user_id, *, from_event=6):
    """Summaries after 4, 6, 8 and 10 events that name the new favourites from one of them on."""
    before, now = (" ".join(phase) for phase in PHASES[user_id])
    return made(
        user_id,
        summaries=[(n, now, before) if n >= from_event else (n, before, "") for n in (4, 6, 8, 10)],
    )


def test_who_follows_names_the_present_taste_and_notices_every_change():
    figures = preference([following(user_id) for user_id in PHASES], SHOPPERS)
    for aspect in ("colour", "pattern"):
        assert figures[f"current_{aspect}"].value == figures[f"{aspect}_change_noticed"].value == 1.0
        assert figures[f"{aspect}_change_events_later"].value == figures[f"{aspect}_change_events_later"].ceiling == 1.0
        assert figures[f"current_{aspect}"].n == 3
    assert figures["current_colour"].chance == 0.0


@pytest.mark.parametrize(("from_event", "events"), [(8, 3.0), (10, 5.0)])
def test_who_follows_late_needs_more_events(from_event, events):
    figure = preference([following(one, from_event=from_event) for one in PHASES], SHOPPERS)
    assert figure["colour_change_events_later"].value == events
    assert figure["colour_change_events_later"].ceiling == 1.0


def test_who_names_the_old_taste_is_wrong_and_notices_nothing():
    figures = preference([following(user_id, from_event=99) for user_id in PHASES], SHOPPERS)
    assert figures["current_colour"].value == figures["colour_change_noticed"].value == 0.0
    assert math.isnan(figures["colour_change_events_later"].value)


def test_who_names_everything_is_always_right_and_no_better_than_chance():
    everything = " ".join(word for phases in PHASES.values() for phase in phases for word in phase)
    cases = [made(user_id, summaries=[(5, everything, ""), (10, everything, "")]) for user_id in PHASES]
    figures = preference(cases, SHOPPERS)
    assert figures["current_colour"].value == figures["current_colour"].chance == 1.0
    assert figures["colour_change_noticed"].n == 0, "what was named before cannot be noticed"


def test_a_taste_listed_as_fading_is_not_named_as_present():
    cases = [made(user_id, summaries=[(10, "toys", PHASES[user_id][1][0])]) for user_id in PHASES]
    assert preference(cases, SHOPPERS)["current_colour"].value == 0.0


def test_a_profile_names_what_lasts_and_leaves_out_what_passes():
    lasting = {"a": ("oak", "low-cost"), "b": ("tin", "luxury"), "c": ("felted", "mid-priced")}
    good = profile([made(u, summaries=[(10, "", "")], traits=lasting[u]) for u in PHASES], SHOPPERS)
    assert [figure.value for figure in good.values()] == [1.0] * 4
    assert (good["lasting_material"].chance, good["lasting_price"].chance) == (0.0, 0.0)
    bad = profile([made(u, summaries=[(10, "", "")], traits=PHASES[u][0]) for u in PHASES], SHOPPERS)
    assert bad["lasting_material"].value == 0.0
    assert bad["passing_colour_left_out"].value == 0.5, "one of two phases is named"
    assert bad["passing_colour_left_out"].n == 3
