"""Prompts that share a prefix: how they are grouped, and that sharing changes no result."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from srec.lm import attention  # noqa: E402 (needs torch)
from srec.lm.prefix import Decoder, Group, PrefixCache, chunks, common_length, plan  # noqa: E402 (needs torch)

PREFIX = tuple(range(5, 25))
OWN = ((30, 31, 32), (40,), (50, 51, 52, 53, 54), (60, 61))
MODELS = {
    "gemma": transformers.GemmaConfig,
    "granite": transformers.GraniteConfig,
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "olmo2": transformers.Olmo2Config,
    "phi3": transformers.Phi3Config,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "smollm3": transformers.SmolLM3Config,
}


def tiny(kind: str = "llama", **settings):
    """A random model in float64: two layers, four heads on two key heads; weights so large that every position tells."""
    torch.manual_seed(0)
    settings = {"sliding_window": None, **settings} if kind in {"mistral", "phi3", "qwen2", "qwen3"} else settings
    config = MODELS[kind](
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.4, **settings,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()


class Tiny:
    """A tiny model, its decoder, and the same model asked for whole prompts one at a time."""

    def __init__(self, kind: str = "llama", **settings) -> None:
        self.whole = tiny(kind, **settings)
        model = tiny(kind, **settings)
        self.embed = model.get_input_embeddings()
        self.decoder = Decoder(model.get_decoder(), model.get_output_embeddings())

    def start(self, own=OWN, prefix=PREFIX):
        cache = self.decoder.prefix(prefix, self.embed(torch.tensor(prefix)))
        return self.decoder.start(cache, len(prefix), [self.embed(torch.tensor(part)) for part in own])

    def step(self, batch, tokens) -> None:
        self.decoder.step(batch, self.embed(torch.tensor(tokens)))

    def alone(self, *prompts):
        return torch.cat([self.whole(torch.tensor([prompt])).logits[:, -1] for prompt in prompts])


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def close(a, b) -> None:
    torch.testing.assert_close(a, b.float(), atol=2e-6, rtol=1e-6)


def test_common_length_counts_from_the_start():
    assert common_length((1, 2, 3), (1, 2, 4)) == 2
    assert common_length((1, 2), (1, 2, 4)) == 2
    assert common_length((), (1,)) == 0
    assert common_length((9, 2), (1, 2)) == 0


def test_prompts_with_one_beginning_make_one_group():
    assert plan([(1, 2, 3, 9), (1, 2, 3, 7), (1, 2, 3, 8)]) == [Group(3, (1, 2, 0))]


def test_prompts_of_two_users_make_two_groups():
    groups = plan([(1, 5, 5, 5, 2), (1, 6, 6, 6, 2), (1, 5, 5, 5, 3), (1, 6, 6, 6, 3)])
    assert groups == [Group(4, (0, 2)), Group(4, (1, 3))]


def test_a_prompt_on_its_own_takes_nothing_from_the_groups_behind_it():
    alone, first, second = (
        (1, 4, 9),
        [(1, *[5] * 30, own) for own in range(4)],
        [(1, *[6] * 30, own) for own in range(4)],
    )
    groups = plan([alone, *first, *second])
    assert {group.shared for group in groups if len(group.members) > 1} == {31}


def test_no_grouping_of_neighbours_saves_more():
    rng = np.random.default_rng(0)
    for _ in range(80):
        prompts = sorted(tuple(rng.integers(2, size=rng.integers(1, 8)).tolist()) for _ in range(6))
        for cost in (0, 3):
            found = sum(worth(group.shared, len(group.members), cost) for group in plan(prompts, group_cost=cost))
            assert found == max(
                sum(worth(shared_by(part), len(part), cost) for part in parts) for parts in cuts(prompts)
            )


def worth(shared, members, cost):
    return (members - 1) * shared - cost


def shared_by(prompts):
    """What all share while each keeps a position; far below nought where they cannot stand together."""
    most = min(map(len, prompts)) - 1
    alike = next((i for i in range(most) if len({prompt[i] for prompt in prompts}) > 1), most)
    return alike if alike or len(prompts) == 1 else -1_000


def cuts(items):
    """All ways to cut a list into parts."""
    for places in product((False, True), repeat=len(items) - 1):
        edges = [0, *(place for place, is_cut in enumerate(places, start=1) if is_cut), len(items)]
        yield [items[start:stop] for start, stop in pairwise(edges)]


def test_equal_prompts_keep_a_position_of_their_own():
    assert plan([(1, 2, 3), (1, 2, 3)]) == [Group(2, (0, 1))]


def test_a_prompt_that_begins_another_keeps_a_position_of_its_own():
    (group,) = plan([(1, 2, 3, 4, 5), (1, 2, 3, 4)])
    assert group.shared == 3


def test_every_prompt_is_planned_once():
    prompts = [tuple((seed * k) % 3 for k in range(1, 6)) for seed in range(30)]
    groups = plan(prompts)
    assert sorted(i for group in groups for i in group.members) == list(range(30))
    for group in groups:
        assert len({prompts[i][: group.shared] for i in group.members}) == 1
        assert all(group.shared < len(prompts[i]) for i in group.members)


def test_chunks_hold_like_lengths_within_both_bounds():
    lengths = [9, 1, 8, 2, 1, 9]
    found = list(chunks(Group(3, tuple(range(6))), lengths, most_rows=3, most_positions=18))
    assert found == [(1, 4, 3), (2, 0), (5,)]


def test_a_prompt_beyond_the_bound_is_computed_alone():
    assert list(chunks(Group(3, (0, 1)), [50, 50], most_rows=8, most_positions=18)) == [(0,), (1,)]


def test_a_kept_prefix_is_cut_to_what_is_shared():
    small, prefixes = Tiny(), PrefixCache()
    cache = transformers.DynamicCache(config=small.whole.config)
    small.whole(torch.tensor([PREFIX]), past_key_values=cache)
    prefixes.keep(PREFIX, cache)
    length, found = prefixes.longest((*PREFIX[:12], 99, 98))
    assert (length, found.get_seq_length(), cache.get_seq_length()) == (12, 12, len(PREFIX))
    assert prefixes.longest((99, 98)) == (0, None)


def test_the_oldest_prefix_is_forgotten_first():
    prefixes = PrefixCache(positions=5)
    for first in (1, 2, 3):
        prefixes.keep((first, 0), transformers.DynamicCache())
    assert [prefixes.longest((first, 0))[0] for first in (1, 2, 3)] == [0, 2, 2]


def test_a_prefix_grown_from_a_kept_one_gives_the_same_logits():
    small = Tiny()
    small.start(prefix=PREFIX[:13])
    close(small.start().logits, small.alone(*(PREFIX + part for part in OWN)))


@pytest.mark.parametrize("kind", MODELS)
def test_scores_and_greedy_steps_equal_those_of_whole_prompts(kind):
    assert set(MODELS) == attention.PLAIN
    small = Tiny(kind)
    written = [list(PREFIX + part) for part in OWN]
    batch = small.start()
    assert batch.prefix is not None
    for _ in range(20):
        expected = small.alone(*written)
        close(batch.logits, expected)
        tokens = expected.argmax(-1).tolist()
        written = [[*row, token] for row, token in zip(written, tokens, strict=True)]
        small.step(batch, tokens)


def test_rows_that_stay_are_not_disturbed_by_rows_dropped():
    small = Tiny()
    batch = small.start()
    small.step(batch, [70, 71, 72, 73])
    batch.keep([2, 0])
    close(batch.logits, small.alone((*PREFIX, *OWN[2], 72), (*PREFIX, *OWN[0], 70)))
    small.step(batch, [80, 81])
    close(batch.logits, small.alone((*PREFIX, *OWN[2], 72, 80), (*PREFIX, *OWN[0], 70, 81)))


@pytest.mark.parametrize("scores", [1, 10_000_000])
def test_the_size_of_a_block_of_rows_changes_nothing(monkeypatch, scores):
    monkeypatch.setattr(attention, "BLOCK_SCORES", scores)
    small = Tiny()
    close(small.start().logits, small.alone(*(PREFIX + part for part in OWN)))


def test_own_parts_of_one_length_need_no_mask():
    small = Tiny()
    own = ((30, 31, 32), (40, 41, 42))
    close(small.start(own).logits, small.alone(*(PREFIX + part for part in own)))


def test_a_single_row_is_computed_as_usual():
    small = Tiny()
    batch = small.start(OWN[:1])
    small.step(batch, [70])
    close(batch.logits, small.alone((*PREFIX, *OWN[0], 70)))


def test_a_model_with_a_sliding_window_gets_the_prefix_repeated():
    small = Tiny("mistral", sliding_window=8)
    batch = small.start()
    assert batch.prefix is None
    for tokens in ([70, 71, 72, 73], [80, 81, 82, 83]):
        small.step(batch, tokens)
    close(batch.logits[2:3], small.alone((*PREFIX, *OWN[2], 72, 82)))


def test_a_prefix_too_long_to_hold_its_scores_is_repeated(monkeypatch):
    monkeypatch.setattr(attention, "MOST_SCORES_OF_A_ROW", 1)
    small = Tiny()
    batch = small.start()
    assert batch.prefix is None
    close(batch.logits, small.alone(*(PREFIX + part for part in OWN)))
