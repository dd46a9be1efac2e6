"""The output head against whole transformers models of families that do more than one matrix product."""

import pytest

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `local` is not installed")

from srec.lm.head import Head  # noqa: E402 (needs torch)

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "Llama": {},
    "Gemma2": {"head_dim": 8, "final_logit_softcapping": 0.5},
    "Granite": {"logits_scaling": 4.0},
    "Cohere": {"logit_scale": 0.3},
}


@pytest.mark.parametrize("fine", [(), (3, 7)])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_whole_model(family, fine):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SMALL, **FAMILIES[family])
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    ids = torch.tensor([[1, 5, 9, 30]])
    with torch.inference_mode():
        hidden = model.get_decoder()(ids).last_hidden_state[:, -1]
        logits = Head(model.get_output_embeddings(), config, fine=fine)(hidden)
        assert torch.allclose(logits, model(ids).logits[:, -1], atol=1e-5)


def test_the_fine_logits_are_not_rounded_to_bfloat16():
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 50, dtype=torch.bfloat16)
    hidden = (10 * torch.randn(4, 64)).to(torch.bfloat16)
    exact = hidden.double() @ layer.weight.double().T + layer.bias.double()
    with torch.inference_mode():
        logits = Head(layer, None, fine=(3, 7))(hidden).double()
    assert torch.allclose(logits[:, [3, 7]], exact[:, [3, 7]], atol=1e-5)
    assert not torch.allclose(logits, exact, atol=1e-3)
