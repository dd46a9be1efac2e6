"""The toy shop: the same for a seed, true to its truth, and a world where content and recency matter."""

from __future__ import annotations

import re
import subprocess
import sys
from hashlib import sha256
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

from srec.data.cases import cases
from srec.data.folder import load
from srec.data.render import COLOURS, PATTERNS, SIDE, Look, draw
from srec.data.silhouettes import CATEGORIES
from srec.data.toyshop import ToyShop, toyshop
from srec.data.truth import DAY, Taste
from srec.errors import CandidateError, InputError
from srec.types import Case, History, Item

DIGEST = """
from hashlib import sha256
from srec.data.toyshop import toyshop
shop = toyshop(items=12, users=5, seed=3)
items = [(i.item_id, i.title, dict(i.attributes), i.image.digest) for i in shop.data.items.values()]
print(sha256(repr((items, list(shop.data.interactions.rows()), sorted(shop.truth.gifts))).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def shop() -> ToyShop:
    return toyshop()


def test_two_processes_make_the_same_bytes():
    runs = [
        subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.strip()) == sha256().digest_size * 2


def test_another_seed_makes_another_world():
    first, second = toyshop(items=20, users=3, seed=1), toyshop(items=20, users=3, seed=2)
    assert first.truth.toys != second.truth.toys
    assert list(first.data.interactions.rows()) != list(second.data.interactions.rows())


def test_a_larger_shop_starts_with_the_same_items():
    small, large = toyshop(items=10, users=3, seed=4), toyshop(items=25, users=3, seed=4)
    assert [large.data.items[item_id] for item_id in small.data.items] == list(small.data.items.values())


def test_more_users_leave_those_before_them_as_they_are():
    few, many = toyshop(items=40, users=3, seed=4), toyshop(items=40, users=9, seed=4)
    assert all(many.data.history(user_id) == few.data.history(user_id) for user_id in few.data.users)
    assert few.truth.shoppers.items() <= many.truth.shoppers.items()


def test_the_text_tells_category_material_price_and_brand_but_not_the_look(shop):
    for item_id, toy in shop.truth.toys.items():
        item = shop.data.items[item_id]
        text = " ".join([item.title, *item.attributes.values()]).lower()
        assert toy.look.category in item.title
        assert all(fact.lower() in text for fact in (toy.material, toy.price, toy.brand))
        words = set(re.findall(r"\w+", text))
        assert not words.intersection(PATTERNS)
        assert words.intersection(COLOURS) == ({toy.named_colour} if toy.named_colour else set())


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
def test_text_and_picture_contradict_each_other_in_the_stated_share(share):
    toys = toyshop(items=2000, users=2, contradictions=share).truth.toys.values()
    assert sum(toy.contradicts for toy in toys) / 2000 == pytest.approx(share, abs=0.02)
    assert sum(bool(toy.named_colour) and not toy.contradicts for toy in toys) / 2000 == pytest.approx(0.1, abs=0.02)


def test_histories_have_gaps_of_days_and_few_ties(shop):
    log = shop.data.interactions
    gaps = np.concatenate([np.diff(log.at[log.rows_of(user_id)]) for user_id in shop.data.users])
    assert 2 * DAY < np.median(gaps) < 14 * DAY
    assert 0 < log.tied().mean() < 0.08


def test_nobody_buys_a_toy_twice(shop):
    rows = list(shop.data.interactions.rows())
    assert len({(user_id, item_id) for user_id, item_id, _, _ in rows}) == len(rows)


def test_ratings_are_one_to_five_and_lower_for_gifts(shop):
    rows = list(shop.data.interactions.rows())
    assert {rating for _, _, _, rating in rows} == {1.0, 2.0, 3.0, 4.0, 5.0}
    gifts = [rating for user_id, item_id, _, rating in rows if (user_id, item_id) in shop.truth.gifts]
    assert np.mean(gifts) < np.mean([rating for *_, rating in rows]) - 0.5
    assert 0.03 < len(gifts) / len(rows) < 0.1


def test_each_way_of_moving_changes_the_taste_as_its_name_says():
    phases = (("red", "plain"), ("blue", "dotted"))
    season = Taste(motion="season", phases=phases, phase_days=10, since=0)
    assert season.at(9 * DAY) == {"red": 1.0, "plain": 1.0}
    assert season.at(11 * DAY) == {"blue": 1.0, "dotted": 1.0}
    assert season.at(21 * DAY) == season.at(9 * DAY)
    drift = Taste(motion="drift", phases=(("red", "plain"), ("blue", "plain")), phase_days=10, since=0)
    assert drift.at(3 * DAY) == pytest.approx({"red": 0.7, "plain": 1.0, "blue": 0.3})


def test_all_three_ways_of_moving_occur(shop):
    assert {shopper.taste.motion for shopper in shop.truth.shoppers.values()} == {"drift", "change", "season"}


@pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")
def test_probabilities_of_candidates_add_up_and_prefer_what_is_liked(shop):
    case = cases(shop.data, candidates="uniform:20", users=1)[0]
    chances = shop.truth.probability(case)
    assert chances.shape == (21,)
    assert chances.sum() == pytest.approx(1.0)
    assert (chances > 0).all()
    utility = shop.truth.utility(shop.truth.liking(case.user_id, case.at))
    rows = [list(shop.truth.toys).index(item.item_id) for item in case.candidates]
    assert np.argmax(chances) == np.argmax(utility[rows])


def test_the_world_draws_by_the_probability_that_it_states(shop):
    """Over all choices, the mean probability given to what was taken is that of the stated probabilities themselves."""
    taken, expected = [], []
    rows = {item_id: row for row, item_id in enumerate(shop.truth.toys)}
    for user_id in shop.data.users:
        log = shop.data.interactions
        owned = np.zeros(len(rows), bool)
        for item, at in zip(log.item[log.rows_of(user_id)], log.at[log.rows_of(user_id)], strict=True):
            item_id = log.item_ids[item]
            if (user_id, item_id) not in shop.truth.gifts:
                chances = shop.truth.choice(user_id, int(at), owned=owned)
                taken.append(chances[rows[item_id]])
                expected.append((chances**2).sum())
            owned[rows[item_id]] = True
    assert np.mean(taken) == pytest.approx(np.mean(expected), rel=0.05)


def auc(scores: np.ndarray, target: int) -> float:
    others = np.delete(scores, target)
    return float((scores[target] > others).mean() + 0.5 * (scores[target] == others).mean())


@pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")
def test_ranking_by_the_truth_is_far_above_popularity_which_is_above_chance(shop):
    """And what the truth loses without the picture, without the profile, or with the taste of the first day."""
    log, toys = shop.data.interactions, list(shop.truth.toys)
    figures: dict[str, list[float]] = {}
    evaluated = cases(shop.data, candidates="full")
    popularity = np.bincount(evaluated.folds[0].train.item, minlength=len(log.item_ids))
    for case in evaluated:
        rows = [toys.index(item.item_id) for item in case.candidates]
        target = [item.item_id for item in case.candidates].index(case.target_ids[0])
        shopper = shop.truth.shoppers[case.user_id]
        first = int(log.at[log.rows_of(case.user_id)][0])
        scores = {
            "truth": shop.truth.probability(case),
            "no picture": shop.truth.utility(shopper.lasting)[rows],
            "no profile": shop.truth.utility(shopper.taste.at(case.at))[rows],
            "first taste": shop.truth.utility(shop.truth.liking(case.user_id, first))[rows],
            "popularity": popularity[rows],
        }
        for name, values in scores.items():
            figures.setdefault(name, []).append(auc(np.asarray(values, float), target))
    mean = {name: float(np.mean(values)) for name, values in figures.items()}
    assert mean["truth"] > 0.85
    assert mean["truth"] > mean["popularity"] + 0.2
    assert mean["popularity"] > 0.5
    assert mean["truth"] > mean["no profile"]
    assert mean["truth"] > mean["no picture"] + 0.1
    assert mean["truth"] > mean["first taste"] + 0.1


def test_a_case_of_another_world_is_refused(shop):
    stranger = Case(
        user_id="user00000",
        at=10,
        history=History(user_id="user00000"),
        candidates=(Item(item_id="x"),),
        target_ids=("x",),
    )
    with pytest.raises(CandidateError, match="'x' is not of this toy shop"):
        shop.truth.probability(stranger)


@pytest.mark.parametrize("wrong", [{"items": 1}, {"users": 0}, {"seed": -1}, {"contradictions": 0.95}])
def test_sizes_that_make_no_shop_are_refused(wrong):
    with pytest.raises(InputError, match="a toy shop needs"):
        toyshop(**wrong)


def test_a_written_shop_is_read_back_the_same(tmp_path):
    small = toyshop(items=15, users=4, seed=9)
    small.write(tmp_path / "shop")
    again = load(tmp_path / "shop")
    assert list(again.items.values()) == list(small.data.items.values())
    assert list(again.interactions.rows()) == list(small.data.interactions.rows())
    assert not again.take_in().problems


def test_a_picture_is_drawn_when_its_item_is_asked_for():
    fresh = toyshop(items=30, users=5)
    assert fresh.data.report.images_taken_in == 0
    assert fresh.data.items["toy00007"].image is not None
    assert fresh.data.report.images_taken_in == 1


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_middle_of_a_picture_shows_the_colour_of_the_toy(category):
    for seed, (colour, rgb) in enumerate(COLOURS.items()):
        picture = np.asarray(draw(Look(category=category, colour=colour, pattern="plain"), np.random.default_rng(seed)))
        near = np.abs(picture.astype(int) - np.array(rgb)).max(axis=2) < 70
        assert near.mean() > 0.04, f"{colour} {category}"


def test_every_pattern_looks_different_on_the_same_toy():
    looks = [Look(category="drum", colour="teal", pattern=pattern) for pattern in PATTERNS]
    pictures = [draw(look, np.random.default_rng(5)).tobytes() for look in looks]
    assert len(set(pictures)) == len(PATTERNS)


def test_a_picture_is_a_normalized_jpeg(shop):
    image = shop.data.items["toy00000"].image
    assert (image.width, image.height) == (SIDE, SIDE)
    assert Pillow.open(BytesIO(image.data)).format == "JPEG"
