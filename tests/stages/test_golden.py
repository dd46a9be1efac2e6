"""Every prompt as an LM gets it, held against a file: `SREC_GOLDEN=write pytest tests/stages/test_golden.py` writes them."""

import os
from pathlib import Path

import dspy
import pytest
from dspy.lm15 import TextPart

from srec.stages import signatures
from srec.stages.fusion import ItemFusion, Question
from srec.stages.preference import TemporalPreference
from srec.stages.profile import UserProfiling
from srec.stages.scoring import CoTScoring
from srec.testing import scripted
from srec.types import Item, Window

GOLDEN = Path(__file__).parents[1] / "golden"
REWRITE = "SREC_GOLDEN=write pytest tests/stages/test_golden.py"
SCORING = {"user": ("JudgeItem",), "candidate": ("ReasonAboutItem", "JudgeReasonedItem"), "none": ("DeduceNext",)}
SHOWS_A_PICTURE = {"description": 0, "image": 1, "both": 1}

ANSWERS = {
    "AnswerVisualQuestion": {"answer": "a cowboy doll and a toy astronaut"},
    "VerifyFact": 0.1,
    "FuseItem": {"description": "A film about toys.", "contradictions": []},
    "SummarizePreference": {"summary": "Likes animation.", "stable": [], "rising": [], "fading": []},
    "ProfileUser": {"profile": "a family viewer.", "traits": []},
    "ReasonAboutUser": {"reasoning": "First, humour. Second, animation rises. Third, an animated comedy fits."},
    "ReasonAboutItem": {"reasoning": "First, the humour fits. Second, so does the animation. Third, both weigh alike."},
    "JudgeItem": 0.8,
    "JudgeReasonedItem": 0.8,
    "DeduceNext": 0.8,
}


def written(request) -> str:
    """One request as text: a line for each role, and what it says."""
    system = request.system if isinstance(request.system, str) else "".join(part.text for part in request.system)
    turns = [("system", system)]
    for message in request.messages:
        shown = [part.text if isinstance(part, TextPart) else "<picture>" for part in message.parts]
        turns.append((message.role, "".join(shown)))
    return "".join(f"=== {role}\n{text}\n" for role, text in turns)


def asked(lm, signature: str) -> str:
    """The one chat that asked for a signature."""
    first_line = getattr(signatures, signature).instructions.strip().splitlines()[0]
    chats = [written(request) for request in lm.engine.requests]
    (chat,) = [chat for chat in chats if first_line in chat]
    return chat


def hold(name: str, chat: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("SREC_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(chat, encoding="utf-8")
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    assert chat == kept, f"the prompt differs from {file.name}; if it is meant to, run: {REWRITE}"


def test_the_prompts_of_fusion_with_a_picture(toy_story):
    lm = scripted(ANSWERS)
    question = Question("kind", "What kind of item is it?")
    ItemFusion(questions=[question], lm=lm)(item=toy_story)
    hold("AnswerVisualQuestion.open", asked(lm, "AnswerVisualQuestion"))
    hold("FuseItem.with_picture", asked(lm, "FuseItem"))


def test_the_prompts_of_closed_questions(poster):
    lm = scripted(ANSWERS | {"AnswerVisualQuestion": {"answer": "blue"}, "AnswerTextQuestion": {"answer": "red"}})
    colour = Question("colour", "Which colour does the item have?", choices=["red", "green", "blue"], of="both")
    item = Item(item_id="1", title="Red car", attributes={"wheels": "green"}, image=poster)
    ItemFusion(questions=[colour], write="composed", lm=lm)(item=item)
    hold("AnswerVisualQuestion.closed", asked(lm, "AnswerVisualQuestion"))
    hold("AnswerTextQuestion", asked(lm, "AnswerTextQuestion"))
    hold("VerifyFact", asked(lm, "VerifyFact"))


def test_the_prompt_of_fusion_without_a_picture(heat):
    lm = scripted(ANSWERS)
    ItemFusion(lm=lm)(item=heat)
    hold("FuseItem.without_picture", asked(lm, "FuseItem"))


def test_the_prompt_of_preference_for_the_first_window(history, descriptions):
    lm = scripted(ANSWERS)
    TemporalPreference(lm=lm)(history, descriptions)
    hold("SummarizePreference.first_window", asked(lm, "SummarizePreference"))


def test_the_prompt_of_preference_for_a_later_window(history, descriptions, summary):
    lm = scripted(ANSWERS)
    window = Window(user_id="7", start=1, events=history.events[1:])
    TemporalPreference(lm=lm).update(summary, window, descriptions)
    hold("SummarizePreference.later_window", asked(lm, "SummarizePreference"))


def test_the_prompt_of_profiling(summary):
    lm = scripted(ANSWERS)
    UserProfiling(lm=lm)([summary, summary])
    hold("ProfileUser", asked(lm, "ProfileUser"))


def test_the_prompt_that_reasons_about_a_user(profile, summary, toy_story):
    lm = scripted(ANSWERS)
    CoTScoring(lm=lm)(profile, summary, [toy_story])
    hold("ReasonAboutUser", asked(lm, "ReasonAboutUser"))


@pytest.mark.parametrize("view", ["description", "image", "both"])
@pytest.mark.parametrize("reasoning", ["user", "candidate", "none"])
def test_the_prompts_that_score_a_candidate(reasoning, view, profile, summary, toy_story, descriptions):  # noqa: PLR0917 (fixtures)
    lm = scripted(ANSWERS)
    CoTScoring(reasoning=reasoning, view=view, lm=lm)(profile, summary, [toy_story], descriptions)
    for signature in SCORING[reasoning]:
        chat = asked(lm, signature)
        assert chat.count("<picture>") == SHOWS_A_PICTURE[view]
        hold(f"{signature}.{view}", chat)


def test_every_signature_has_a_golden_file():
    named = {n for n, s in vars(signatures).items() if isinstance(s, type) and issubclass(s, dspy.Signature)}
    assert {file.name.split(".")[0] for file in GOLDEN.glob("*.txt")} == named


@pytest.mark.parametrize(
    ("view", "target"),
    [("description", "Toy Story"), ("image", "<picture>"), ("both", "<picture> Toy Story")],
)
def test_without_reasoning_the_prompt_is_table_1_of_the_paper_word_for_word(view, target, profile, summary, toy_story):
    lm = scripted(ANSWERS)
    bare = CoTScoring(reasoning="none", view=view, lm=lm)
    item = type(toy_story)(item_id="1", title="Toy Story", image=toy_story.image)
    bare(profile, summary, [item])
    _, system, user = written(lm.engine.requests[0]).replace("=== user\n", "=== system\n").split("=== system\n")
    assert " ".join(system.split()) == (
        "Based on the user's historical multimodal interaction sequence, please deduce whether the user might like the "
        'target item next by responding "Yes." or "No."'
    )
    user_profile = "a viewer who watches with children. Lasting tastes: humour."
    user_preference = (
        "Likes animated family films. Stable: family films. Rising: computer animation, sequels. Fading: crime."
    )
    assert " ".join(user.split()) == (
        f"The user_7 is {user_profile} and based on the previous multimodal interaction history, his preferences are "
        f"summarized as: {user_preference} Whether user_7 will like the target item {target} next?"
    )
    assert not lm.engine.requests[0].messages[1:]
