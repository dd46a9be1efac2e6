"""Finetune a local model with DSPy's own optimizer: python examples/finetune_with_dspy.py [MODEL]."""

import sys
import warnings
from tempfile import TemporaryDirectory
from typing import Any

import dspy

import srec
from srec.data.part import part
from srec.testing import oracle

MODEL = sys.argv[1] if len(sys.argv) > 1 else "local:srec-tiny"
RANKED_WELL = 0.5  # least AUC of a case that is learnt from


def rightly(gold: Any, made: Any, trace: Any = None) -> bool:
    """Learn from the cases that the teacher ranks well."""
    del gold, trace
    return bool(made.score >= RANKED_WELL)


def brief() -> srec.MLLMSRec:
    """A program of few calls: one question about each picture, two events, no written reasoning."""
    return srec.MLLMSRec(
        fusion=srec.ItemFusion(questions=srec.toy_questions()[:1], write="composed", doubt=1),
        preference=srec.TemporalPreference(window=2, step=2, max_tokens=32),
        profiling=srec.UserProfiling(max_tokens=32),
        scoring=srec.CoTScoring(reasoning="none", view="both"),
        recent=2,
    )


def main() -> None:
    warnings.simplefilter("ignore", UserWarning)  # each user's last toy is to be found: others' future may leak
    shop = srec.toyshop(items=40, users=8, seed=1)
    data = part(shop.data, users=shop.training_users, items=shop.training_items)
    cases = list(srec.cases(data, candidates="uniform:2", seed=0))[:3]
    examples = [dspy.Example(case=case).with_inputs("case") for case in cases]

    with TemporaryDirectory() as out:  # name a folder of your own, and a finetuning that is killed goes on from there
        lm = srec.tunable(MODEL, out=out, config=srec.TrainConfig(rank=8, epochs=1, batch_rows=8))
        student = srec.for_dspy(brief(), lm=lm, metric="auc")
        # The toy shop knows its shoppers' tastes; with data of your own, the teacher asks a large model.
        teacher = srec.for_dspy(brief(), lm=oracle(shop), metric="auc")

        optimizer = dspy.BootstrapFinetune(metric=rightly, adapter=srec.StageAdapter())
        tuned = optimizer.compile(student, trainset=examples, teacher=teacher)

        asked = tuned.program.scoring.judge.lm
        print(f"finetuned {lm.model} to {asked.model}")
        print(f"from now on: srec.connect({asked.provider.model_string(asked)!r})")
        made = tuned.program(cases[0])
        print("it ranks: " + ", ".join(f"{one.item_id} {one.value:.3f}" for one in made.ranking.scores))


if __name__ == "__main__":
    main()
