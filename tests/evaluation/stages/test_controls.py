from srec.evaluation.stages.ceilings import ceilings
from srec.evaluation.stages.controls import worlds


def test_the_truth_of_a_world_is_that_of_what_is_shown(shop):
    made = worlds(shop, seed=0)
    looks = {item.image.digest: shop.truth.toys[item.item_id].look for item in shop.data.items.values()}
    for item in made["other_image"].items():
        assert made["other_image"].truth[item.item_id].look == looks[item.image.digest]
    assert all(not toy.says and not toy.contradictions for toy in made["no_text"].truth.values())
    assert all(item.title == "" and not item.attributes and item.image for item in made["no_text"].items())


def test_each_ceiling_without_something_is_below_the_whole_and_above_chance():
    found = ceilings(items=60, users=10, seed=0, count=300, progress=False)
    assert found["all"].n >= 300
    for name in ("no_image", "no_order", "no_profile"):
        assert 0.5 == found[name].chance < found[name].value < found["all"].value == found[name].ceiling
