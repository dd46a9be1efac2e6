"""A small image-text model of SmolVLM's kind: it sees, knows SmolLM2's tokens, and has learned nothing."""

from pathlib import Path
from typing import Any

SIDE, PATCH, SCALE = 64, 16, 2
PLACES = (SIDE // PATCH) ** 2 // SCALE**2
"""Positions that a picture takes in a prompt."""
IMAGE_TOKENS = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<row_1_col_1>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<image>' }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(folder: Path, *, tokenizer_of: Path) -> None:
    """Write the model into `folder` in transformers' layout, with the tokenizer of another folder."""
    import transformers  # noqa: PLC0415 (it loads torch)

    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.add_special_tokens({"additional_special_tokens": IMAGE_TOKENS})
    drawn(tokenizer).save_pretrained(folder)
    images = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    transformers.Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=PLACES, chat_template=TEMPLATE
    ).save_pretrained(folder)


def drawn(tokenizer: Any) -> Any:
    """Two layers for text, 64 wide, two for pictures, 32 wide; the weights are drawn by a seed."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    vision = transformers.models.idefics3.Idefics3VisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    torch.manual_seed(0)
    model = transformers.Idefics3ForConditionalGeneration(
        transformers.Idefics3Config(
            vision_config=vision,
            text_config=text,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            scale_factor=SCALE,
            pad_token_id=2,
        )
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)  # larger than usual, so that pictures matter
    return model
