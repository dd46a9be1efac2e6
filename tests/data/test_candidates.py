from collections import Counter

import numpy as np
import pytest

from srec.data.candidates import (
    Pool,
    Rule,
    Spec,
    check_enough,
    drawn,
    even_weights,
    full,
    popularity_weights,
    retrieved,
    stable_hash,
)
from srec.data.interactions import Interactions
from srec.errors import CandidateError, InputError
from srec.types import History

ROWS = [("u", "b", 1, None), ("u", "d", 2, None), ("u", "a", 3, None)]


def pool(rows=ROWS, items="abcdefgh"):
    return Pool.of(Interactions.of(rows, item_ids=list(items)))


def spec(chosen, *, wall=2, target="a"):
    return Spec(user_id="u", at=3, start=0, wall=wall, until=3, stop=3, targets=(chosen.code[target],), tied=False)


def test_every_rule_is_read_and_spelled_back():
    for spelling in ("full", "uniform:20", "popularity:99", "retriever:50", "file:some/where:else.jsonl"):
        assert str(Rule.of(spelling)) == spelling
    assert Rule.of("uniform:20").n == 20


@pytest.mark.parametrize(
    "spelling",
    ["", "all", "Full", "full:", "full:3", "uniform", "uniform:", "uniform:0", "uniform:-1", "uniform:1.5", "uniform:020",
     "uniform:٣", "uniform:20 ", "popularity:1e3", "retriever", "file", "file:", "uniform:9999999999", ":20", "retriever::5", "retriever:item-knn:", "retriever:item-knn:x"],
)  # fmt: skip
def test_an_unknown_rule_is_refused_with_the_known_ones(spelling):
    with pytest.raises(
        InputError,
        match="not known; give 'full', 'uniform:20', 'popularity:99', 'rated', 'retriever:item-knn:200', 'retriever:50' or 'file",
    ):
        Rule.of(spelling)


def test_full_leaves_out_what_was_seen_before_and_keeps_the_rest_in_id_order():
    chosen = pool(items="hgfedcba")
    assert "".join(chosen.ids(full(chosen, spec(chosen)))) == "acefgh"


def test_ids_are_ordered_as_text():
    chosen = pool([("u", "10", 1, None)], items=["9", "10", "100", "é", "Z"])
    assert chosen.ids(chosen.by_id(np.arange(5))) == ("10", "100", "9", "Z", "é")


def test_a_draw_never_changes():
    chosen = pool()
    weights = even_weights(chosen.log)
    draws = ["".join(chosen.ids(drawn(chosen, spec(chosen), n=2, weights=weights, seed=seed))) for seed in range(6)]
    assert draws == ["acg", "ach", "aeg", "ace", "ace", "ach"]


def test_a_draw_does_not_depend_on_the_order_of_the_catalogue():
    one, other = pool(), pool(items="hcabgfed")
    for seed in range(20):
        draws = [p.ids(drawn(p, spec(p), n=2, weights=even_weights(p.log), seed=seed)) for p in (one, other)]
        assert draws[0] == draws[1]


def test_another_seed_user_or_second_draws_anew():
    keys = {stable_hash("negatives", seed, user, at) for seed in (0, 1) for user in ("u", "v") for at in (1, 2)}
    assert len(keys) == 8
    assert stable_hash("u", 1) != stable_hash("u1")


def test_negatives_are_drawn_as_often_as_their_weights_say():
    rows = [
        *ROWS,
        *[(f"v{n}", "c", 1, None) for n in range(6)],
        *[(f"w{n}", "e", 1, None) for n in range(3)],
        ("x", "f", 1, None),
    ]
    chosen = pool(rows)
    even, popular = Counter(), Counter()
    for seed in range(2000):
        for counts, weights in ((even, even_weights(chosen.log)), (popular, popularity_weights(chosen.log))):
            negative = set(chosen.ids(drawn(chosen, spec(chosen), n=1, weights=weights, seed=seed))) - {"a"}
            counts.update(negative)
    assert {item: round(count / 2000, 1) for item, count in sorted(even.items())} == dict.fromkeys("cefgh", 0.2)
    assert {item: round(count / 2000, 1) for item, count in sorted(popular.items())} == {"c": 0.6, "e": 0.3, "f": 0.1}


def test_all_that_is_left_can_be_drawn_and_not_one_more():
    chosen = pool()
    weights = even_weights(chosen.log)
    check_enough(chosen, [spec(chosen)], n=5, weights=weights)
    assert "".join(chosen.ids(drawn(chosen, spec(chosen), n=5, weights=weights, seed=0))) == "acefgh"
    with pytest.raises(CandidateError, match=r"case u@3: 6 negatives asked for, 5 are left; of 8 items 8 can be drawn"):
        check_enough(chosen, [spec(chosen)], n=6, weights=weights)


def test_an_item_without_an_event_in_train_is_never_drawn_by_popularity():
    chosen = pool([*ROWS, ("v", "c", 1, None)])
    with pytest.raises(CandidateError, match="2 negatives asked for, 1 are left; of 8 items 4 can be drawn"):
        check_enough(chosen, [spec(chosen)], n=2, weights=popularity_weights(chosen.log))


def test_what_a_retriever_finds_is_cut_to_n_unseen_items():
    chosen = pool()
    found = retrieved(
        chosen, spec(chosen), n=2, history=History(user_id="u"), retriever=lambda history, n: "bhdgfe"[:n]
    )
    assert chosen.ids(found) == ("g", "h")


def test_a_retriever_that_finds_nothing_leaves_no_candidates():
    chosen = pool()
    assert not len(retrieved(chosen, spec(chosen), n=2, history=History(user_id="u"), retriever=lambda history, n: ()))
