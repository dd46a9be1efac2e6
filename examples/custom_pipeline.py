"""Replace a stage, reword a stage, or build another pipeline: python examples/custom_pipeline.py [MODEL]."""

import sys
from tempfile import TemporaryDirectory

import dspy

import srec

MODEL = sys.argv[1] if len(sys.argv) > 1 else "local:"


def catalogue_text(item: srec.Item) -> srec.ItemDescription:
    """A plain function in place of fusion: the text as the catalogue has it, without any LM call."""
    return srec.ItemDescription(item_id=item.item_id, text=f"{item.title}. {item.attributes.get('description', '')}")


class GiftProfiling(srec.UserProfiling):
    """The profiling stage with instructions of its own; kept results know the prompt, so none is mixed up."""

    def __init__(self) -> None:
        super().__init__()
        words = "Say in one sentence what would make a good gift for this user, from the summaries of their purchases."
        self.describe.signature = self.describe.signature.with_instructions(words)


class LookAlikes(dspy.Module):
    """A pipeline of its own, of two stages: who liked this one item, how likely do they like the others?"""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = srec.ItemFusion(max_tokens=48)
        self.score = srec.CoTScoring(reasoning="none")  # the prompt of the paper's Table 1

    def forward(self, event: srec.Event, others: list[srec.Item]) -> srec.Ranking:
        """Rank the other items for whoever liked this one."""
        liked = self.fuse(event.item).text
        wish = srec.PreferenceSummary(user_id="guest", text=f"More like this: {liked}", until=event.at, events=1)
        guest = srec.UserProfile(user_id="guest", text="a guest of the shop", until=event.at)
        return srec.Ranking.of("guest", self.score(guest, wish, others))


def main() -> None:
    data = srec.toyshop(items=30, users=4, seed=0).data
    history, toys = data.history(data.users[0]), list(data.items.values())[:4]
    program = srec.MLLMSRec(fusion=catalogue_text, profiling=GiftProfiling(), recent=5)
    with TemporaryDirectory() as store, srec.keep(store), dspy.context(lm=srec.connect(MODEL)):
        made = program.recommend(history, toys)
        print(f"A gift for {history.user_id}: {made.profile.text}")
        last = history.events[-1]
        for name, ranking in (("own stages", made.ranking), ("own pipeline", LookAlikes()(event=last, others=toys))):
            print(f"{name}: " + ", ".join(f"{s.item_id} {s.value:.3f}" for s in ranking.scores))
        with srec.count_usage() as usage:
            LookAlikes()(event=last, others=toys)
        print(f"The pipeline once more: {usage.lm_calls} LM calls, {usage.cache_hits} results from the store.")


if __name__ == "__main__":
    main()
