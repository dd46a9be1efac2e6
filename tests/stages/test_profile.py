from dataclasses import replace

import pytest

from srec.errors import InputError
from srec.stages.profile import UserProfiling
from srec.testing import scripted
from srec.types import UserProfile

ANSWERS = {"ProfileUser": {"profile": "A family viewer.", "traits": ["humour", "animation.", "humour", ""]}}


def test_summaries_become_a_profile_in_one_call(summary):
    lm = scripted(ANSWERS)
    later = replace(summary, text="Likes sequels.", until=summary.until + 5)
    assert UserProfiling(lm=lm)([summary, later]) == UserProfile(
        user_id="7", text="A family viewer.", traits=("humour", "animation"), until=summary.until + 5
    )
    (prompt,) = lm.engine.prompts
    assert prompt.index("- Likes animated family films.") < prompt.index("- Likes sequels.")


def test_the_summaries_of_two_users_are_refused(summary):
    with pytest.raises(InputError, match="summaries of one user, got those of 2"):
        UserProfiling(lm=scripted(ANSWERS))([summary, replace(summary, user_id="8")])


def test_no_summary_is_refused():
    with pytest.raises(InputError, match="got those of 0"):
        UserProfiling(lm=scripted(ANSWERS))([])
