"""A dataset and programs that say hostile words everywhere, for runs to make pages of."""

import warnings
from dataclasses import replace

import srec
from srec.artifact import Prompt, prompts_of, with_prompts
from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.report import IntakeReport
from srec.testing import scripted

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</style><style>*{display:none}</style>",
    "{{ 7 * 7 }}{% include 'page.html' %}",
    "https://example.com/pixel.png",
    "\u202egnp.exe\u202c",
)


def hostile_shop(*, items, users, seed):
    """A toy shop whose first toys have hostile titles, and whose users have hostile names."""
    shop = srec.toyshop(items=items, users=users, seed=seed).data

    def opened(position):
        item = shop.items[shop.interactions.item_ids[position]]
        title = HOSTILE[position] if position < len(HOSTILE) else item.title
        return OpenedItem(item=replace(item, title=title))

    catalogue = Catalogue(shop.interactions.item_ids, open_item=opened, report=IntakeReport())
    names = sorted(f"{HOSTILE[n % 2]}{n}" for n in range(6)) + list(shop.interactions.user_ids[6:])
    interactions = replace(shop.interactions, user_ids=tuple(names))
    return Dataset(name="toyshop", items=catalogue, interactions=interactions)


def cases_of(data, *, users, candidates="uniform:12", task="next"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return srec.cases(data, task=task, candidates=candidates, users=users, seed=0)


def summarized(read, _descriptions):
    """What a program of plain functions says of a history."""
    counts = range(10, len(read) + 1, 5) or [len(read)]
    return [
        srec.PreferenceSummary(
            user_id=read.user_id,
            text=f"Likes what {HOSTILE[0]} likes.",
            stable=("tin",),
            rising=(f"taste {count % 3}", HOSTILE[5]) if count % 2 else (),
            fading=(HOSTILE[1],) if count > 10 else (),
            until=read.events[count - 1].at,
            events=count,
        )
        for count in counts
    ]


def profiled(summaries):
    last = summaries[-1]
    return srec.UserProfile(user_id=last.user_id, text=HOSTILE[2], traits=("tin", HOSTILE[0]), until=last.until)


def scored(_profile, _summary, candidates, _descriptions):
    return [
        srec.Score(item_id=item.item_id, value=(sum(item.item_id.encode()) % 97) / 97, reason=HOSTILE[1])
        for item in candidates
    ]


def functions():
    """A program without an LM."""
    return srec.MLLMSRec(
        fusion=lambda item: srec.ItemDescription(item_id=item.item_id, text=item.title),
        preference=summarized,
        profiling=profiled,
        scoring=scored,
        recent=20,
    )


def optimized():
    """A program of srec's own stages with one prompt changed, and an LM for it."""
    program = srec.MLLMSRec(fusion=srec.ItemFusion(questions=srec.toy_questions(), write="facts"), recent=10)
    now = prompts_of(program)["scoring.judge"].instructions + f"\n\nWeigh {HOSTILE[0]} less."
    script = {
        "AnswerVisualQuestion": {"answer": "red"},
        "AnswerTextQuestion": {"answer": "tin"},
        "VerifyFact": 0.9,
        "SummarizePreference": {"summary": "Red.", "stable": ["red"], "rising": [HOSTILE[0]], "fading": []},
        "ProfileUser": {"profile": "Somebody.", "traits": ["tin"]},
        "ReasonAboutUser": {"reasoning": HOSTILE[1]},
        "JudgeItem": lambda prompt: (len(prompt) % 50) / 50,
    }
    return with_prompts(program, {"scoring.judge": Prompt(instructions=now)}), scripted(script)
