"""Rank what one user has not seen yet, and say why.

python examples/rank_one_user.py [MODEL]
"""

import sys
from tempfile import TemporaryDirectory

import dspy

import srec
from srec.data.unseen import unseen

# A model in this process, a server ("http://127.0.0.1:8000/v1#NAME") or a provider ("openai/gpt-4o-mini").
MODEL = sys.argv[1] if len(sys.argv) > 1 else "local:"


def main() -> None:
    # The generated toy shop stands in for a dataset folder; with files of your own it is srec.load("path/to/folder").
    data = srec.toyshop(items=30, users=4, seed=0).data
    user_id = data.users[0]
    history = data.history(user_id)
    candidates = unseen(data, user_id, candidates="uniform:5", seed=0)

    # Only the last 6 events are read, which bounds the calls for this user.
    # Closed questions, and no free text: what a small model can do well. A large one needs none of these arguments.
    fusion = srec.ItemFusion(questions=srec.toy_questions(), write="composed", doubt=1)
    program = srec.MLLMSRec(fusion=fusion, preference=srec.TemporalPreference(window=3, step=3), recent=6)

    # Results are kept in a folder: run it again on the same one, and nothing is asked twice.
    lm = srec.connect(MODEL)
    with TemporaryDirectory() as store, srec.keep(store), srec.count_usage() as usage, dspy.context(lm=lm):
        made = program.recommend(history, candidates)

    print(f"{user_id} bought {len(history)} toys, the last of them: {history.events[-1].item.title}")
    print(f"Taste now: {made.summaries[-1].text}\n")
    for rank, one in enumerate(srec.explain(made), start=1):
        score = "not scored" if one.score.value is None else f"{one.score.value:.3f}"
        print(f"{rank}. {one.item.title}: {score}")
        for evidence in one.evidence[:1]:
            shared = ", ".join(f"{fact.aspect} {fact.value}" for fact in evidence.shared)
            print(f"   like {evidence.event.item.title} ({shared})")
    print(f"\nRanked {len(made.scores)} toys with {usage.lm_calls} LM calls.")


if __name__ == "__main__":
    main()
