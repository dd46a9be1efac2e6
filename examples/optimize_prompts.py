"""Search for better prompts within a budget of LM calls, keep them if they help, and read what changed.

python examples/optimize_prompts.py [MODEL]     (a model of this size learns little; the calls and the files are real)
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import srec

MODEL = sys.argv[1] if len(sys.argv) > 1 else "local:"
CALLS = 150  # all calls count, those that measure before and after as well


def program() -> srec.MLLMSRec:
    """Titles as descriptions, and the paper's prompt: few calls a case."""
    return srec.MLLMSRec(
        fusion=srec.ItemFusion(questions=(), write="composed"),
        preference=srec.TemporalPreference(window=4, step=4, max_tokens=48),
        profiling=srec.UserProfiling(max_tokens=48),
        scoring=srec.CoTScoring(reasoning="none"),
        recent=4,
    )


def main() -> None:
    shop = srec.toyshop(items=30, users=40, seed=0)
    cases = list(srec.cases(shop.data, candidates="uniform:4", users=6, seed=0))
    with TemporaryDirectory() as aside:
        best = srec.optimize(
            program(),
            cases[:3],  # who is learned from
            cases[3:],  # who decides whether the result is kept
            optimizer="bootstrap",  # demonstrations; "gepa" and "instructions" rewrite the words
            metric="auc",
            lm=srec.connect(MODEL),
            calls=CALLS,
            out=Path(aside) / "mine",
            seed=0,
        )
        print(best)
        print("\n".join((Path(aside) / "mine" / "prompts.md").read_text("utf-8").splitlines()[:12]))
        loaded = srec.load_program(Path(aside) / "mine", into=program(), items=shop.data.items)
        print(f"Loaded again: {', '.join(name for name, _ in loaded.named_predictors())}")


if __name__ == "__main__":
    main()
