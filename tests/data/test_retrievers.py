"""Retrievers, by hand on a small log and beside the rankers that they share their vectors with."""

import warnings
from pathlib import Path

import dspy
import numpy as np
import pytest

from srec.data.candidates import Rule
from srec.data.cases import cases
from srec.data.embedding import Encoder
from srec.data.folder import Dataset, load
from srec.data.interactions import Interactions
from srec.data.retrievers import RETRIEVERS, ContentKnn, Fusion, ItemKnn, TextEmbedding, fused, retriever_named
from srec.data.unseen import unseen
from srec.errors import CandidateError, InputError
from srec.evaluation import rankers
from srec.evaluation.run import evaluate
from srec.types import Case, Event, History, Item

MOVIELENS = Path(__file__).parents[3] / "shared" / "data" / "movielens-posters"
ITEMS = {
    item.item_id: item
    for item in (
        Item(item_id="b", title="Blue silk scarf"),
        Item(item_id="a", title="Red silk scarf"),
        Item(item_id="c", title="Steel hammer"),
        Item(item_id="d", title="Steel saw"),
        Item(item_id="e"),
    )
}
ROWS = [("u", "a", 10), ("u", "b", 20), ("u", "c", 30), ("v", "a", 10), ("v", "c", 20), ("w", "a", 10), ("w", "d", 20)]
TRAIN = Interactions.of([(user, item, at, None) for user, item, at in ROWS], item_ids=tuple(ITEMS))


def history(ids):
    return History(user_id="me", events=tuple(Event(item=ITEMS[item], at=at) for at, item in enumerate(ids)))


def found(retriever, ids, n=5):
    return retriever.fit(TRAIN, items=ITEMS)(history(ids), n)


def test_item_knn_finds_what_the_same_users_had():
    assert found(ItemKnn(), "b") == ["b", "c", "a"]  # cosine 1, 1/sqrt(2), 1/sqrt(3); d and e with no user of b
    assert found(ItemKnn(), "b", 2) == ["b", "c"]


def test_content_knn_finds_what_reads_alike():
    assert found(ContentKnn(), "a") == ["a", "b"]
    assert found(ContentKnn(), "e") == []


@pytest.mark.parametrize("name", ["item-knn", "content-knn"])
def test_a_retriever_orders_the_catalogue_as_the_ranker_of_its_name_does(name):
    asked = Case(
        user_id="me",
        at=99,
        history=history("bd"),
        candidates=tuple(ITEMS[i] for i in "abcde"),
        target_ids=("a",),
    )
    scores = rankers.BASELINES[name].fit(TRAIN, items=ITEMS, seed=0)(asked)
    best_first = sorted((s for s in scores if s.value > 0), key=lambda s: (-s.value, s.item_id))
    assert found(RETRIEVERS[name], "bd") == [score.item_id for score in best_first]


def letters(texts):
    return [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


@pytest.mark.parametrize("encode", [letters, dspy.Embedder(letters, caching=False)], ids=["function", "dspy"])
def test_text_embeddings_of_any_encoder_retrieve(encode):
    ids = found(TextEmbedding(encode=encode), "c")
    assert ids[0] == "c"
    vectors = np.array(letters([item.title for item in ITEMS.values()]), dtype=float)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    values = dict(zip(ITEMS, unit @ unit[list(ITEMS).index("c")], strict=True))
    assert ids == sorted((i for i in ITEMS if values[i] > 0), key=lambda i: -values[i])


@pytest.mark.parametrize("wrong", [[[1.0]], [1.0] * 4, [[float("nan")]] * 4])
def test_an_encoder_that_does_not_fit_is_refused(wrong):
    with pytest.raises(InputError, match="give one row of finite numbers for each text"):
        found(TextEmbedding(encode=lambda _: wrong), "a")


def test_reciprocal_rank_fusion_by_hand():
    # b: 1/62 + 1/61, a: 1/61, d: 1/62, c: 1/63
    assert fused([["a", "b", "c"], ["b", "d"]]) == ["b", "a", "d", "c"]
    assert fused([["x"], ["a"]]) == ["a", "x"]
    both = Fusion(retrievers=(ItemKnn(), ContentKnn()))
    assert found(both, "b") == fused([["b", "c", "a"], ["b", "a"]])
    assert found(both, "b", 1) == ["b"]
    assert retriever_named("item-knn+content-knn") == both


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="retriever 'knn' is not known; give item-knn, content-knn, text-embeddings, "):
        retriever_named("item-knn+knn")
    for odd in ("text-embeddings@", "item-knn@/here", "item-knn+"):
        with pytest.raises(InputError, match="is not known"):
            retriever_named(odd)


def test_an_encoder_is_named_behind_the_retriever_s_name():
    named = retriever_named("item-knn+text-embeddings@owner/name")
    assert named.retrievers == (ItemKnn(), TextEmbedding(encode=Encoder(name="owner/name")))
    assert retriever_named("text-embeddings") == TextEmbedding(encode=Encoder(name="all-minilm-l6-v2"))
    assert str(Rule.of("retriever:text-embeddings@/here/it is:5")) == "retriever:text-embeddings@/here/it is:5"


def test_what_has_no_text_is_neither_encoded_nor_found():
    asked_for = []

    def encode(texts):
        asked_for.extend(texts)
        return np.ones((len(texts), 3))

    retriever = TextEmbedding(encode=encode)
    assert found(retriever, "a") == ["a", "b", "c", "d"]
    assert asked_for == [item.title for item in ITEMS.values() if item.title]
    assert found(retriever, "e") == []
    silent = {item_id: Item(item_id=item_id) for item_id in ITEMS}
    assert TextEmbedding(encode=encode).fit(TRAIN, items=silent)(history("a"), 5) == []
    assert len(asked_for) == 8


def data():
    rng = np.random.default_rng(0)
    items = [Item(item_id=f"i{n:02}", title=f"thing {n % 5}") for n in range(40)]
    rows = [
        (f"u{user:02}", f"i{item:02}", 1000 * step + user, None)
        for user in range(20)
        for step, item in enumerate(rng.choice(40, size=8, replace=False))
    ]
    return Dataset.of("world", items, rows)


def asked(source=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cases(source or data(), **options)


def test_candidates_are_the_first_unseen_items_of_the_named_retriever():
    case_set = asked(candidates="retriever:item-knn:7")
    assert case_set.candidates == "retriever:item-knn:7"
    retrieve = ItemKnn().fit(case_set.folds[0].train, items=case_set.items)
    for case in case_set:
        seen = {event.item.item_id for event in case.history.events}
        unseen_ids = [item_id for item_id in retrieve(case.history, 40) if item_id not in seen]
        assert {item.item_id for item in case.candidates} == set(unseen_ids[:7])


def test_a_retriever_is_fitted_on_what_each_fold_lets_it_see():
    seen = []

    class Spy:
        def fit(self, train, *, items):
            seen.append(int(train.at.max()))
            return ItemKnn().fit(train, items=items)

    asked(protocol="global-time", cutoffs=[3000, 5000], candidates="retriever:5", retriever=Spy())
    assert len(seen) == 2
    assert all(at < cutoff for at, cutoff in zip(seen, (3000, 5000), strict=True))


def test_retrieved_candidates_come_back_from_their_file(tmp_path):
    first = asked(candidates="retriever:item-knn:7")
    first.write(tmp_path / "candidates.jsonl")
    again = asked(candidates=f"file:{tmp_path / 'candidates.jsonl'}")
    assert list(again) == list(first)
    assert again.candidates == "retriever:item-knn:7"


def test_a_named_retriever_beside_one_handed_in_is_refused():
    with pytest.raises(InputError, match="a retriever was passed beside candidates 'retriever:item-knn:5'"):
        asked(candidates="retriever:item-knn:5", retriever=ItemKnn())


def test_what_a_user_can_be_recommended_now_is_retrieved_too():
    source = data()
    chosen = unseen(source, "u03", candidates="retriever:item-knn:5")
    seen = {event.item.item_id for event in source.history("u03").events}
    assert len(chosen) == 5
    assert not seen & {item.item_id for item in chosen}
    with pytest.raises((InputError, CandidateError), match="retriever '' is not known"):
        unseen(source, "u03", candidates="retriever:5")


def test_end_to_end_metrics_are_those_on_the_found_times_the_recall():
    report = evaluate(asked(candidates="retriever:item-knn:10"), "item-knn")
    rows = report.rankers["item-knn"].cases
    hits = [row for row in rows if not np.isnan(row.ranks[0])]
    assert report.retrieved.value == pytest.approx(len(hits) / len(rows))
    on_found = np.mean([row.metrics["ndcg@10"] for row in hits])
    assert report.rankers["item-knn"].metrics["ndcg@10"].value == pytest.approx(on_found * report.retrieved.value)


@pytest.mark.model
def test_minilm_finds_what_means_alike_and_items_without_a_text_are_passed_over(minilm):
    titles = ["A kitten asleep", "A drill for concrete", "Young cat, resting", "", "Hammer and nails"]
    items = {name: Item(item_id=name, title=title) for name, title in zip("abcde", titles, strict=True)}
    train = Interactions.of([("u", name, 1, None) for name in items], item_ids=tuple(items))
    retrieve = retriever_named("text-embeddings").fit(train, items=items)
    for start, others in (("a", ["c"]), ("b", ["e"])):
        ids = retrieve(History(user_id="me", events=(Event(item=items[start], at=1),)), 5)
        assert ids[: 1 + len(others)] == [start, *others]
        assert "d" not in ids


def test_on_real_data_retrieval_finds_more_than_chance_and_fusion_no_less_than_its_worse_part():
    if not MOVIELENS.is_dir():
        pytest.skip(f"needs the dataset folder {MOVIELENS}")
    source = load(MOVIELENS)
    recall = {
        name: evaluate(asked(source, candidates=f"retriever:{name}:200", users=150), "random").retrieved.value
        for name in ("item-knn", "content-knn", "item-knn+content-knn")
    }
    assert recall["item-knn"] > recall["content-knn"] > 1.5 * 200 / len(source.items)
    assert recall["item-knn+content-knn"] > recall["content-knn"]
