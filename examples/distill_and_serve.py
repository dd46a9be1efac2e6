"""The whole life of a student: a teacher's calls become rows, the rows a LoRA, the LoRA a server's model.

The student learns the one question that is asked for every candidate; the teacher goes on to answer all others.

python examples/distill_and_serve.py [--serve]     (--serve starts vLLM: $SREC_VLLM_PYTHON names its python)
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import srec
from srec.data.part import part
from srec.testing import oracle


def main() -> None:
    shop = srec.toyshop(items=60, users=40, seed=0)
    program = srec.MLLMSRec(
        fusion=srec.ItemFusion(questions=srec.toy_questions(), write="facts", doubt=1.0),
        preference=srec.TemporalPreference(window=5, step=5),
        recent=5,
    )
    # The teacher: offline, one that knows this shop's truth. Online: srec.connect("openai/…"), or a large local model.
    teacher = oracle(shop)
    school = part(shop.data, users=shop.training_users, items=shop.training_items)
    cases = srec.cases(school, candidates="uniform:4", users=4, seed=0)
    with TemporaryDirectory() as aside:
        rows = srec.distill(program, cases, lm=teacher, out=Path(aside) / "rows", keep=0.5, users=shop.training_users)
        print(rows)
        judged = rows.stages["scoring.judge"]
        left_out = {stage: 0.0 for stage in rows.stages if stage != "scoring.judge"}
        config = srec.TrainConfig(
            epochs=2, learning_rate=1e-3, ranking=1.0, stages=left_out, batch_positions=2048
        )  # memory follows the positions of a batch: half of the usual
        lora = srec.train(rows.path, base="local:srec-tiny", out=Path(aside) / "lora", config=config)
        print(f"{lora.base} learned from {judged} rows; loss of the last steps {lora.metrics['loss']:.2f}")

        who, toys = shop.data.history(shop.held_out_users[0]), list(shop.data.items.values())[:4]
        program.set_lm(teacher)
        program.scoring.judge.lm = srec.connect(f"local:srec-tiny#{lora.folder}")
        print(f"In process: {told(program.recommend(who, toys))}")
        if "--serve" in sys.argv:
            with srec.serve(lora.folder, base="srec-tiny", max_model_len=2048) as served:
                program.scoring.judge.lm = served
                print(f"By vLLM as {served.model}: {told(program.recommend(who, toys))}")


def told(made: srec.Recommendation) -> str:
    """The ranking in a line."""
    return ", ".join(f"{score.item_id} {score.value:.3f}" for score in made.ranking.scores)


if __name__ == "__main__":
    main()
