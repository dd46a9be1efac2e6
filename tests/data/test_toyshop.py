"""The toy shop: the same for a seed, true to its truth, and a world where content and recency matter."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image as Pillow

from srec.data.cases import CaseSet, LeakWarning, cases
from srec.data.folder import load
from srec.data.recipe import BOX_COLOURS
from srec.data.render import COLOURS, PATTERNS, SIDE, STICKERS, Look, draw
from srec.data.shopper import DAY, Taste
from srec.data.shopwords import ADJECTIVES, MAX_SENTENCES, NAMES, PURPOSES, SENTENCES, TITLES, slots
from srec.data.silhouettes import CATEGORIES
from srec.data.toy import CLAIMABLE, CLAIMS, FORMS, VALUES, Toy, believed
from srec.data.toyshop import ToyShop, toyshop
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


# --- texts


def said(text: str, aspect: str) -> set[str]:
    """The values of an aspect that a text names in any of their forms; a form inside a longer one does not count."""
    forms = {form.lower(): value for value, own in FORMS[aspect].items() for form in own}
    longest_first = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return {forms[found] for found in re.findall(rf"(?<!\w)({longest_first})(?!\w)", text.lower())}


def texts_of(shop: ToyShop) -> Iterator[tuple[Toy, str, str]]:
    """Each toy with its title, and with title and attributes in one line."""
    for n, toy in enumerate(shop.truth.toys.values()):
        title, attributes = shop.recipe.text(n)
        yield toy, title, " / ".join([title, *attributes.values()])


@pytest.fixture(scope="module", params=["seen", "held-out", "all"])
def worded(request) -> ToyShop:
    return toyshop(items=500, users=2, contradictions=0.3, wordings=request.param)


def test_a_text_tells_category_material_price_and_brand_in_one_of_their_forms(worded):
    for toy, title, text in texts_of(worded):
        assert said(title, "category") == {toy.look.category} == said(text, "category")
        for aspect in ("material", "price", "brand"):
            assert said(text, aspect) == {getattr(toy, aspect)}, text


def test_a_text_names_no_colour_and_no_pattern_but_those_it_claims_and_that_of_a_box(worded):
    for toy, _, text in texts_of(worded):
        assert said(text, "colour") == {word for word in (toy.says.get("colour"), toy.box) if word}, text
        assert said(text, "pattern") == ({toy.says["pattern"]} if "pattern" in toy.says else set()), text


def test_a_description_has_one_to_four_sentences_and_every_form_of_every_value_occurs():
    shop = toyshop(items=2000, users=2, wordings="all")
    texts = [text.lower() for _, _, text in texts_of(shop)]
    for aspect, values in FORMS.items():
        for form in (form for forms in values.values() for form in forms):
            assert any(form.lower() in text for text in texts), f"{aspect}: {form}"
    counts = {len(re.findall(r"[.?](?= |$)", shop.recipe.text(n)[1]["description"])) for n in range(2000)}
    assert counts == set(range(1, MAX_SENTENCES + 1))


def test_what_is_written_around_the_slots_names_no_fact():
    templates = [line for kind in (TITLES, *SENTENCES.values()) for line in kind.of("all")]
    around = [re.sub(r"\{\w+\}", "…", line) for line in templates]
    for words in (*around, *NAMES, *ADJECTIVES, *PURPOSES):
        assert not any(said(words, aspect) for aspect in FORMS), words
        assert not any(
            re.search(rf"(?<!\w){re.escape(sticker)}(?!\w)", words, re.IGNORECASE) for sticker in STICKERS
        ), words


def test_no_form_says_two_values():
    for values in FORMS.values():
        forms = [form.lower() for own in values.values() for form in own]
        assert len(set(forms)) == len(forms)
        assert all(own[0] == value for value, own in values.items())
    assert [*FORMS["colour"]] == [*COLOURS]
    assert [*FORMS["pattern"]] == [*PATTERNS]
    assert {*FORMS["category"]} == {*CATEGORIES}


def test_held_out_wordings_share_no_template_with_the_others():
    for kind in (TITLES, *SENTENCES.values()):
        assert not set(kind.seen) & set(kind.held_out)
        assert kind.held_out
        assert kind.of("all") == kind.seen + kind.held_out


def test_wordings_change_the_text_only():
    seen, held_out = (toyshop(items=30, users=4, seed=5, wordings=wordings) for wordings in ("seen", "held-out"))
    assert seen.truth == held_out.truth
    assert list(seen.data.interactions.rows()) == list(held_out.data.interactions.rows())
    for item_id in seen.data.items:
        assert seen.data.items[item_id].image == held_out.data.items[item_id].image
        assert seen.data.items[item_id].title != held_out.data.items[item_id].title


def test_titles_are_so_varied_that_hardly_two_are_alike(shop):
    titles = [title for _, title, _ in texts_of(shop)]
    assert len(set(titles)) > 0.98 * len(titles)
    assert all(slots(title) for title in TITLES.of("all"))


# --- what texts claim


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_claims_right_and_wrong_occur_in_their_stated_shares(share):
    toys = toyshop(items=3000, users=2, contradictions=share).truth.toys.values()
    assert sum(toy.contradicts for toy in toys) / 3000 == pytest.approx(share, abs=0.025)
    for aspect in CLAIMABLE:
        wrong = sum(aspect in toy.contradictions for toy in toys)
        right = sum(aspect in toy.says and aspect not in toy.contradictions for toy in toys)
        assert wrong / 3000 == pytest.approx(share / 2, abs=0.02)
        assert right / 3000 == pytest.approx(CLAIMS[aspect], abs=0.02)
    assert sum(bool(toy.box) for toy in toys) / 3000 == pytest.approx(BOX_COLOURS, abs=0.015)
    assert not any(toy.box and toy.says for toy in toys)


def test_noise_is_what_does_not_belong_to_the_product():
    look = Look(category="car", colour="blue", pattern="plain", sticker="RED WEEK", frame="pink")
    toy = {"item_id": "t", "material": "tin", "price": "budget", "brand": "Lumo"}
    assert Toy(look=look, box="teal", **toy).noise == ("RED WEEK", "red", "pink", "teal")
    assert Toy(look=look, says={"colour": "red"}, **toy).noise == ("RED WEEK", "pink")
    assert Toy(look=Look(category="car", colour="pink", pattern="plain", frame="pink"), **toy).noise == ()


def test_what_a_claim_makes_believe_is_how_often_it_is_true():
    toys = toyshop(items=20_000, users=2, contradictions=0.3).truth.toys.values()
    for claimed in (("colour",), ("pattern",), ("colour", "pattern")):
        some = [toy for toy in toys if tuple(toy.says) == claimed]
        told = [believed(toy.says, contradictions=0.3) for toy in some]
        right = [
            table[VALUES["colour"].index(toy.look.colour), VALUES["pattern"].index(toy.look.pattern)]
            for toy, table in zip(some, told, strict=True)
        ]
        expected = [(table**2).sum() for table in told]
        assert np.mean(right) == pytest.approx(np.mean(expected), abs=4 * np.std(right) / len(right) ** 0.5)
    assert believed({}, contradictions=0.3) == pytest.approx(np.full((8, 5), 1 / 40))


# --- what is held out


def test_held_out_users_are_a_fifth_and_stay_when_the_shop_grows():
    small, large = toyshop(items=20, users=50, seed=3), toyshop(items=30, users=200, seed=3)
    assert len(small.held_out_users) == 10
    assert len(large.held_out_users) == 40
    assert large.held_out_users[:10] == small.held_out_users
    assert small.held_out_users != toyshop(items=20, users=50, seed=4).held_out_users


def test_held_out_items_are_those_of_held_out_looks():
    truth = toyshop(items=2000, users=2).truth
    held_out = {truth.toys[item_id].look for item_id in truth.held_out_items}
    others = {toy.look for item_id, toy in truth.toys.items() if item_id not in set(truth.held_out_items)}
    facts = [{(look.category, look.colour, look.pattern) for look in looks} for looks in (held_out, others)]
    assert not facts[0] & facts[1]
    assert len(truth.held_out_items) / 2000 == pytest.approx(1 / 8, abs=0.03)


# --- shoppers


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


def test_a_favourite_changes_at_the_stated_seconds_and_only_there(shop):
    for shopper in list(shop.truth.shoppers.values())[:60]:
        taste, start = shopper.taste, shopper.taste.since + 5 * DAY
        end = start + 500 * DAY
        changes = taste.changes(start, end)
        assert list(changes) == sorted(changes)
        for at in changes:
            assert start < at <= end
            assert taste.favourite(at + 1) != taste.favourite(at - 1)
        days = [taste.favourite(at) for at in range(start, end + 1, DAY)]
        assert sum(one != other for one, other in pairwise(days)) == len(changes)


def test_the_favourite_is_what_is_liked_most(shop):
    for user_id in shop.data.users[:40]:
        for at in range(1_650_000_000, 1_680_000_000, 3_000_000):
            liking, favourite = shop.truth.liking(user_id, at), shop.truth.taste_at(user_id, at)
            for aspect, value in favourite.items():
                assert liking[value] == max(liking.get(other, 0.0) for other in VALUES[aspect])


def test_preferred_are_two_materials_and_a_price_best_first(shop):
    for user_id, shopper in shop.truth.shoppers.items():
        preferred = shop.truth.preferred(user_id)
        assert [shopper.lasting[value] for value in preferred["material"]] == [1.0, 0.6]
        assert [shopper.lasting[value] for value in preferred["price"]] == [1.0]


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


# --- ceilings


@pytest.fixture(scope="module")
def many_cases() -> tuple[ToyShop, CaseSet]:
    shop = toyshop(items=120, users=500, seed=1)
    with pytest.warns(LeakWarning):
        return shop, cases(shop.data, candidates="uniform:20")


def aucs(shop: ToyShop, chosen: CaseSet, without: str | None) -> np.ndarray:
    def auc(case: Case) -> float:
        scores = shop.truth.probability(case, without)
        (target,) = (n for n, item in enumerate(case.candidates) if item.item_id == case.target_ids[0])
        others = np.delete(scores, target)
        return float((scores[target] > others).mean() + 0.5 * (scores[target] == others).mean())

    return np.array([auc(case) for case in chosen])


def test_each_information_removed_lowers_the_ceiling(many_cases):
    whole = aucs(*many_cases, None)
    assert whole.mean() > 0.88
    for without in ("image", "order", "profile"):
        lost = whole - aucs(*many_cases, without)
        assert lost.mean() > 3 * lost.std() / len(lost) ** 0.5, without


def test_the_truth_ranks_far_above_popularity_which_is_above_chance(many_cases):
    _, chosen = many_cases
    train = chosen.folds[0].train
    popularity = dict(zip(train.item_ids, np.bincount(train.item, minlength=len(train.item_ids)), strict=True))
    ranks = []
    for case in chosen:
        scores = np.array([popularity[item.item_id] for item in case.candidates], float)
        target = np.array([item.item_id == case.target_ids[0] for item in case.candidates])
        ranks.append((scores[target] > scores[~target]).mean() + 0.5 * (scores[target] == scores[~target]).mean())
    assert 0.5 < np.mean(ranks) < aucs(*many_cases, None).mean() - 0.2


@pytest.mark.parametrize("without", ["image", "order", "profile"])
def test_probabilities_with_something_removed_are_probabilities(many_cases, without):
    shop, chosen = many_cases
    for number in range(5):
        chances = shop.truth.probability(chosen[number], without)
        assert chances.shape == (21,)
        assert chances.sum() == pytest.approx(1.0)
        assert (chances > 0).all()


def test_without_the_image_toys_of_one_text_are_alike_and_a_claimed_favourite_is_preferred(many_cases):
    shop, chosen = many_cases
    case = chosen[0]
    toys = [shop.truth.toys[item.item_id] for item in case.candidates]
    twins = [replace(toys[0], look=replace(toys[0].look, colour=colour), says={}) for colour in ("red", "blue")]
    favourite = shop.truth.taste_at(case.user_id, case.at)
    claimed = replace(toys[0], says=favourite)
    world = {item.item_id: toy for item, toy in zip(case.candidates, [*twins, claimed], strict=False)}
    truth = replace(shop.truth, toys={**shop.truth.toys, **world})
    one, other, named = truth.probability(case, "image")[:3]
    assert one == pytest.approx(other)
    assert named > 2 * one


def test_without_the_order_nothing_is_lost_where_there_is_no_history(many_cases):
    shop, chosen = many_cases
    fresh = replace(chosen[0], history=History(user_id=chosen[0].user_id))
    assert shop.truth.probability(fresh, "order") == pytest.approx(shop.truth.probability(fresh))


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


def test_a_shop_of_any_size_shows_itself_in_a_line(shop):
    assert repr(shop.data) in repr(shop)
    assert len(repr(shop)) < 200


def test_wordings_that_are_not_known_are_refused():
    with pytest.raises(InputError, match="wordings of a toy shop are seen, held-out, all; got 'unseen'"):
        toyshop(items=2, users=2, wordings="unseen")


def test_a_written_shop_is_read_back_the_same(tmp_path):
    small = toyshop(items=15, users=4, seed=9)
    small.write(tmp_path / "shop")
    again = load(tmp_path / "shop")
    assert list(again.items.values()) == list(small.data.items.values())
    assert list(again.interactions.rows()) == list(small.data.interactions.rows())
    assert not again.take_in().problems


def files_of(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    for workers in (1, 2):
        toyshop(items=120, users=3, seed=2).write(tmp_path / str(workers), workers=workers)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


def test_writing_holds_no_pictures(tmp_path):
    """What is held while a shop of four times the toys is written is not one picture more per toy."""
    peaks = []
    for items in (40, 160):
        shop = toyshop(items=items, users=2)
        tracemalloc.start()
        shop.write(tmp_path / str(items), workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 120 * 1000  # a picture has 4,000 bytes or more
    assert shop.data.report.images_taken_in == 0


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
