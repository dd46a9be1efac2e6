"""From a program to a LoRA of its own: rows, prompts and weights that are learnt."""
