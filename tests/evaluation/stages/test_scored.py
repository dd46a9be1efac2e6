import math

import numpy as np

from srec.evaluation.stages.scored import calibration
from srec.evaluation.stages.witness import Made
from srec.types import PreferenceSummary, Score, UserProfile


def made(user, values, target):
    return Made(
        user_id=f"u{user:03}",
        times=(1,),
        summaries=(PreferenceSummary(user_id=f"u{user:03}", text="", until=1, events=1),),
        profile=UserProfile(user_id=f"u{user:03}", text="", until=1),
        scores=tuple(Score(item_id=str(place), value=value) for place, value in enumerate(values)),
        target_ids=(str(target),),
    )


def test_scores_that_mean_what_they_say_have_a_small_error_and_boasting_a_large_one():
    rng = np.random.default_rng(0)
    honest, boasting = [], []
    for user in range(400):
        chances = rng.dirichlet(np.full(5, 0.5))
        target = int(rng.choice(5, p=chances))
        honest.append(made(user, chances.tolist(), target))
        boasting.append(made(user, (0.5 + chances / 2).tolist(), target))
    good, bad = calibration(honest, seed=0), calibration(boasting, seed=0)
    assert good.value < 0.03 < good.chance
    assert 0.35 < bad.low < bad.value < bad.high < 0.45
    assert (good.n, good.ceiling) == (400, 0.0)


def test_the_share_of_targets_said_of_all_is_calibrated_and_tells_nothing():
    flat = calibration([made(user, [0.2] * 5, user % 5) for user in range(50)], seed=0)
    assert flat.chance == 0.0 or math.isclose(flat.chance, 0.0, abs_tol=1e-12)


def test_what_was_not_scored_is_left_out():
    nothing = calibration([made(0, [None, None], 0)], seed=0)
    assert nothing.n == 0
    assert math.isnan(nothing.value)
