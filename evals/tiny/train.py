"""Train the eyes of srec-tiny: the tower on facts, the words on questions to the frozen LM, the connector on both.

    python evals/tiny/train.py --out runs/tiny

Everything is made from one seed: pictures, three trained parts with their logs, and the pack, `srec-tiny.safetensors`.
It goes on where it was stopped. Tower and words do not need each other: on two cores they are trained soonest by two
processes of one thread, and then the connector, which takes what it finds in the folder:

    python evals/tiny/train.py --out runs/tiny --threads 1 --only tower &
    python evals/tiny/train.py --out runs/tiny --threads 1 --only words & wait
    python evals/tiny/train.py --out runs/tiny
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from chats import Asking, Writer
from connecting import ConnectorTraining, first_guess
from optimizers import of_connector, of_tower
from pictures import pictures
from safetensors.torch import load_file, save_file
from tower import FactHead, OnTrial, Pictures, TowerTraining, accuracies
from words import Words, WordsTraining, token_accuracy

from srec.lm import tiny
from srec.lm.checkpoint import obtain

SEED = 1
TEST_SEED = 2
TRAIN, TEST = 80_000, 1_000


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    transformers.set_seed(SEED)
    args.out.mkdir(parents=True, exist_ok=True)
    model, processor = tiny.build(obtain("smollm2-135m").folder, seed=SEED)
    made = pictures(args.pictures, seed=SEED, folder=args.out / "pictures")
    unseen = pictures(TEST, seed=TEST_SEED, folder=args.out / "pictures")
    seen, test = Pictures(made), Pictures(unseen)
    head = words = None
    if args.only != "words":
        head = train_tower(model, seen, test, out=args.out, steps=args.tower_steps)
    if args.only != "tower":
        words = train_words(
            model, processor, seen, test, out=args.out, steps=args.words_steps, wide_steps=args.wide_steps
        )
    if head is None or words is None:
        return
    train_connector(model, head, words, seen, test, out=args.out, steps=args.connector_steps)
    trained = {"pictures": f"{args.pictures} rendered toys", "steps": steps_of(args), "seed": str(SEED)}
    tiny.write(tiny.pack(model), args.out / "srec-tiny.safetensors", trained=trained)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of everything made on the way")
    parser.add_argument("--pictures", type=int, default=TRAIN)
    parser.add_argument("--tower-steps", type=int, default=3500, help="of 64 pictures")
    parser.add_argument("--words-steps", type=int, default=700, help="of 8 toys with 5 questions each")
    parser.add_argument("--wide-steps", type=int, default=300, help="the same, in more wordings")
    parser.add_argument("--connector-steps", type=int, default=700, help="of 64 pictures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("tower", "words"), help="train this part, and no other")
    return parser.parse_args()


def steps_of(args: argparse.Namespace) -> str:
    """How long each part was trained, for the model's card."""
    words = f"{args.words_steps} and {args.wide_steps} of words"
    return f"{args.tower_steps} of the tower, {words}, {args.connector_steps} of the connector"


def train_tower(model: Any, seen: Pictures, unseen: Pictures, *, out: Path, steps: int) -> FactHead:
    """Teach the tower the facts; the head that reads them."""
    training = TowerTraining(model.model.vision_model, model.config.vision_config.hidden_size)
    optimizer = of_tower(training.tower, training.head, muon=2e-3, adamw=1e-3)
    learn("tower", training, optimizer, seen, unseen, out=out, steps=steps, batch_size=64, compute_metrics=accuracies)
    return training.head


def train_words(
    model: Any, processor: Any, seen: Pictures, unseen: Pictures, *, out: Path, steps: int, wide_steps: int
) -> Words:
    """Find the words by which the language model answers: in plain wordings first, then in wide ones."""
    training, trial = WordsTraining(model, processor.tokenizer), torch.utils.data.Subset(OnTrial(unseen), range(160))
    for part, count, rate in (("words", steps, 1e-2), ("wider", wide_steps, 4e-3)):
        learn(
            part,
            training,
            torch.optim.AdamW(training.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
            seen,
            trial,
            out=out,
            steps=count,
            batch_size=8,
            data_collator=Asking(Writer(processor), questions=5, wide=part == "wider", seed=SEED),
            compute_metrics=token_accuracy,
        )
    return training.finish()


def train_connector(
    model: Any, head: FactHead, words: Words, seen: Pictures, unseen: Pictures, *, out: Path, steps: int
) -> None:
    """Teach tower and connector to say the words."""
    first_guess(model, words, seen)
    training = ConnectorTraining(model, head, words)
    optimizer = of_connector(training)
    learn(
        "connector",
        training,
        optimizer,
        seen,
        unseen,
        out=out,
        steps=steps,
        batch_size=64,
        compute_metrics=accuracies,
    )


def learn(part: str, training: Any, optimizer: Any, seen: Any, unseen: Any, *, out: Path, **options: Any) -> None:
    """Train one part, or take from `out` what was trained before."""
    done = out / f"{part}.safetensors"
    if not done.exists():
        run(training, optimizer, seen, unseen, out=out / part, **options)
        save_file(training.state_dict(), done)
    training.load_state_dict(load_file(done))


def run(
    training: Any, optimizer: Any, seen: Any, unseen: Any, *, out: Path, steps: int, batch_size: int, **options: Any
) -> None:
    """`steps` of `transformers.Trainer` under a cosine, from the last checkpoint in `out` if there is one."""
    arguments = transformers.TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=4 * batch_size,
        max_grad_norm=1.0,
        logging_steps=max(1, steps // 70),
        eval_strategy="steps",
        eval_steps=max(1, steps // 7),
        save_steps=max(1, steps // 7),
        save_total_limit=1,
        remove_unused_columns=False,
        label_names=["facts"],
        dataloader_pin_memory=False,
        report_to=[],
        seed=SEED,
        disable_tqdm=True,
    )
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=60, num_training_steps=steps)
    trainer = transformers.Trainer(
        model=training,
        args=arguments,
        train_dataset=seen,
        eval_dataset=unseen,
        optimizers=(optimizer, schedule),
        **options,
    )
    trainer.train(resume_from_checkpoint=any(out.glob("checkpoint-*")) or None)
    lines = [json.dumps({"part": out.name, **entry}) + "\n" for entry in trainer.state.log_history]
    (out.parent / f"{out.name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
