"""Write a trained LoRA as srec ships it: rounded to bfloat16, in which it is computed where the hardware can.

python evals/learning/ship.py runs/learn/toyshop-90001-user/sight-400 srec/lm/weights/toyshop-student
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from srec.card import read_card, write_card
from srec.lm.lora import CARD_FILE, SETTINGS_FILE, WEIGHTS_FILE, digest_of_lora


def main() -> None:
    """Settings, numbers and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lora", type=Path, help="what srec.train wrote")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    print(shipped(given.lora, given.out))


def shipped(lora: Path, out: Path) -> str:
    """The digest of what was written."""
    out.mkdir(parents=True, exist_ok=True)
    numbers = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(lora / WEIGHTS_FILE).items()}
    save_file(numbers, out / WEIGHTS_FILE, metadata={"format": "pt"})
    settings = json.loads((lora / SETTINGS_FILE).read_text("utf-8"))
    (out / SETTINGS_FILE).write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    card = read_card(lora / CARD_FILE)
    digest = digest_of_lora(out)
    write_card(out / CARD_FILE, card | {"digest": digest, "rounded_from": card["digest"]})
    return digest


if __name__ == "__main__":
    main()
