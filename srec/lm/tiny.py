"""srec-tiny: SmolLM2-135M-Instruct with eyes, in the architecture of SmolVLM (Idefics3).

The language model is taken as it is. A small vision tower turns a picture of 96 x 96 px into 8 x 8 patches, and a
connector turns those into `IMAGE_TOKENS` positions among the words. Only tower, connector and the embeddings of two
tokens are trained; they are the *pack*, a few megabytes that come with srec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.models.idefics3 import Idefics3VisionConfig

from srec.errors import ModelError

SIDE, PATCH, SCALE = 96, 12, 4
IMAGE_TOKENS = (SIDE // PATCH // SCALE) ** 2
IMAGE_TOKEN = "<image>"  # noqa: S105 (a token of text)
MARKS = ("<fake_token_around_image>", "<global-img>")
"""The tokens around a picture; their embeddings may be trained."""
SPECIAL_TOKENS = (MARKS[0], IMAGE_TOKEN, "<end_of_utterance>", MARKS[1])
MARK_ROWS = "embeddings.special"
PACKED = ("model.vision_model.", "model.connector.")

Pack = Mapping[str, torch.Tensor]
"""What is trained, by name."""

CARD = """\
# srec-tiny

A demonstration-size model that sees: SmolLM2-135M-Instruct in the architecture of SmolVLM (Idefics3), with a vision
tower of four layers and a connector that belong to srec. It exists so that srec can be tried and tested offline, on two
processor cores. It is no product.

- Language model: 135 million numbers, HuggingFaceTB/SmolLM2-135M-Instruct, unchanged. Prompts without a picture are
  answered as it answers them.
- Trained: {numbers} million numbers ({megabytes} MB in bfloat16, digest {digest}): tower, connector and the
  embeddings of two tokens that stand around a picture.
- Input: a picture of any size, squashed to 96 x 96 px, is four positions of the prompt; 8,192 positions in all.

## Trained on
Only pictures that srec renders itself (toys: 8 categories, 8 colours, 5 patterns; backgrounds, clutter, stickers) and
questions and answers about them. No photograph, no other text.
{trained}

## What it can't do
- Photographs, or any picture that is not one of srec's rendered toys: it names a toy category all the same.
- Read words or numbers in a picture, count, compare pictures, say where something is.
- Reason: it has the language skill of a model of 135 million numbers. Do not use its judgements of real things.

## Licences
SmolLM2-135M-Instruct: Apache-2.0, Hugging Face. Vision tower and connector: Apache-2.0, srec.
"""


def build(text: Path, *, seed: int = 0) -> tuple[Any, Any]:
    """The untrained model and its processor around the language model in folder `text`.

    The language model is in bfloat16; tower and connector are drawn by `seed` and are in float32, as training wants
    them. A new token's embedding is the mean of all others. Pictures of any size become one input of 96 x 96 px.

    Raises:
        ModelError: the folder's chat template is not SmolLM2's.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(text)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS)})
    language = transformers.LlamaForCausalLM.from_pretrained(text, dtype=torch.bfloat16)
    with torch.random.fork_rng():
        _append_rows(language, len(tokenizer))
        torch.manual_seed(seed)
        model = transformers.Idefics3ForConditionalGeneration(_config(language.config, tokenizer))
    model.model.text_model = language.model
    model.lm_head = language.lm_head
    model.generation_config = language.generation_config
    tokenizer.chat_template = with_pictures(tokenizer.chat_template)
    images = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    processor = transformers.Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=tokenizer.chat_template
    )
    return model, processor


def with_pictures(template: str) -> str:
    """SmolLM2's chat template, extended so that content may be a list of image and text blocks.

    Chats whose content is text render to the very same string.

    Raises:
        ModelError: the template does not write a message's content as SmolLM2's does.
    """
    plain = " + message['content'] + "
    if template.count(plain) != 1:
        raise ModelError("the chat template is not SmolLM2's; srec-tiny is built on SmolLM2-135M-Instruct only")
    blocks = (
        "}}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for block in message['content'] %}{% if block['type'] == 'text' %}{{ block['text'] }}"
        f"{{% else %}}{{{{ '{IMAGE_TOKEN}' }}}}{{% endif %}}{{% endfor %}}{{% endif %}}{{{{"
    )
    return template.replace(plain, blocks)


def pack(model: Any) -> dict[str, torch.Tensor]:
    """What is trained, in bfloat16 on the processor: tower, connector and the rows of `MARKS` [2, 576]."""
    trained = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(PACKED)}
    trained[MARK_ROWS] = model.get_input_embeddings().weight[_mark_ids(model)]
    return {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in trained.items()}


def unpack(model: Any, packed: Pack) -> None:
    """Put what `pack` gave into `model`, in the model's own precision.

    Raises:
        ModelError: the pack is one of another architecture.
    """
    shapes, wanted = ({name: tensor.shape for name, tensor in of.items()} for of in (packed, pack(model)))
    odd = sorted({name for name, _ in shapes.items() ^ wanted.items()})
    if odd:
        raise ModelError(f"the pack does not fit srec-tiny: {len(odd)} tensors differ, the first is {odd[0]!r}")
    model.load_state_dict({name: tensor for name, tensor in packed.items() if name != MARK_ROWS}, strict=False)
    with torch.no_grad():
        rows = model.get_input_embeddings().weight
        rows[_mark_ids(model)] = packed[MARK_ROWS].to(rows.device, rows.dtype)


def write(packed: Pack, path: Path, *, trained: Mapping[str, str]) -> None:
    """Write a pack as safetensors, with its digest and with words on how it was `trained` for the model's card."""
    # One key only: safetensors writes several in an order that differs from run to run.
    about = json.dumps({"digest": digest(packed), "trained": dict(trained)}, sort_keys=True)
    save_file(dict(packed), path, metadata={"about": about})


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A pack and the words on its training.

    Raises:
        ModelError: the file is no pack, or not the one that was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            about = json.loads((file.metadata() or {})["about"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is no pack of srec-tiny ({error}); install srec anew") from error
    if about["digest"] != digest(packed):
        raise ModelError(f"{path} is not as it was written: its digest differs; install srec anew")
    return packed, about["trained"]


def digest(packed: Pack) -> str:
    """SHA-256 over names, shapes and numbers."""
    total = sha256()
    for name, tensor in sorted(packed.items()):
        total.update(f"{name} {tuple(tensor.shape)}\0".encode())
        total.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def assemble(text: Path, packed: Path, folder: Path) -> None:
    """Write the whole model into `folder` in transformers' layout: what `text` says, what `packed` sees, and a card.

    Raises:
        ModelError: the pack or the language model does not fit.
    """
    weights, trained = read(packed)
    model, processor = build(text)
    unpack(model, weights)
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(card(weights, trained), encoding="utf-8")


def card(packed: Pack, trained: Mapping[str, str]) -> str:
    """What srec-tiny is, what it was trained on and what it can't do, as Markdown."""
    numbers = sum(tensor.numel() for tensor in packed.values())
    return CARD.format(
        numbers=f"{numbers / 1e6:.1f}",
        megabytes=f"{2 * numbers / 1e6:.1f}",
        digest=digest(packed)[:12],
        trained="\n".join(f"- {what}: {said}" for what, said in sorted(trained.items())) or "- nothing is recorded",
    )


def _config(language: Any, tokenizer: Any) -> Any:
    vision = Idefics3VisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=3,
        image_size=SIDE,
        patch_size=PATCH,
    )
    return transformers.Idefics3Config(
        vision_config=vision,
        text_config=language,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        scale_factor=SCALE,
        tie_word_embeddings=True,
        pad_token_id=language.pad_token_id,
    )


def _append_rows(language: Any, count: int) -> None:
    """Make the embeddings `count` rows long; each new row is the mean of the old ones."""
    old = language.config.vocab_size
    language.resize_token_embeddings(count, mean_resizing=False)
    with torch.no_grad():
        rows = language.get_input_embeddings().weight
        rows[old:] = rows[:old].float().mean(0).to(rows.dtype)


def _mark_ids(model: Any) -> list[int]:
    """Token ids of `MARKS`; the image token, whose id the configuration names, is the second of the four."""
    first = model.config.image_token_id - SPECIAL_TOKENS.index(IMAGE_TOKEN)
    return [first + SPECIAL_TOKENS.index(mark) for mark in MARKS]
