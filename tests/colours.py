"""A shop where colour is all that counts, an LM that heeds it once it is told to, and one that writes instructions."""

import json
from io import BytesIO

import dspy
from PIL import Image as Pillow

from srec.data.intake import normalize_image
from srec.errors import AnswerError
from srec.recommender import MLLMSRec
from srec.stages import signatures
from srec.stages.fusion import ItemFusion
from srec.testing import ScriptedEngine, _response
from srec.types import Case, Event, History, Item

COLOURS = ("red", "green", "blue", "grey")
HEED = "Heed the colour."
DAY = 86_400


def item(colour, number, image=None):
    return Item(item_id=f"{colour}{number}", title=f"{colour} toy {number}", attributes={"colour": colour}, image=image)


def picture(shade):
    raw = BytesIO()
    Pillow.new("RGB", (24, 24), (shade, 20, 20)).save(raw, "PNG")
    return normalize_image(raw.getvalue())


def case(number, *, pictures=False):
    """User `number` bought toys of one colour; the target has it, and comes behind the others by name."""
    liked = COLOURS[number % 3]
    shown = picture(50 + number) if pictures else None
    bought = tuple(Event(item=item(liked, f"a{n}", shown), at=n * DAY + number) for n in range(4))
    others = [item(colour, f"b{number}") for colour in COLOURS if colour != liked]
    target = item(liked, f"z{number}", shown)
    return Case(
        user_id=f"user{number}",
        at=10 * DAY,
        history=History(user_id=f"user{number}", events=bought),
        candidates=tuple(sorted([*others, target], key=lambda one: one.item_id)),
        target_ids=(target.item_id,),
    )


def cases(*numbers, **options):
    return [case(number, **options) for number in numbers]


def program(**options):
    return MLLMSRec(fusion=ItemFusion(questions=[], write="composed"), **options)


def judged(prompt):
    """Told to heed the colour, it does; else it likes grey best and the names that begin late least."""
    head, _, target = prompt.rpartition("### Target item")
    colour = next(colour for colour in COLOURS if colour in target)
    if HEED in prompt:
        return 0.9 if colour in head.rpartition("### Preference")[2] else 0.2
    return {"grey": 0.8, "red": 0.4, "green": 0.3, "blue": 0.1}[colour]


def summarized(prompt):
    events = prompt.rpartition("### Events")[2]
    return {"summary": "Buys toys.", "stable": [c for c in COLOURS if c in events], "rising": [], "fading": []}


ANSWERS = {
    "AnswerVisualQuestion": {"answer": "a toy"},
    "SummarizePreference": summarized,
    "ProfileUser": {"profile": "A parent.", "traits": []},
    "ReasonAboutUser": {"reasoning": "Toys fit."},
    "JudgeItem": judged,
}


def pupil(answers=ANSWERS, *, each=lambda _: None, **options):
    """The LM of the program; `each` is told of every prompt before it is answered."""

    class Engine(ScriptedEngine):
        def complete(self, request):
            each(request)
            return super().complete(request)

    return dspy.LM("test/pupil", engine=Engine(answers, **options), cache=False, max_tokens=256, num_retries=0)


class Writer:
    """Writes instructions: the old ones and a sentence."""

    supports_response_schema = True
    supported_params = ScriptedEngine.supported_params
    sees_images = True

    def __init__(self, sentence=HEED, each=lambda _: None):
        self.sentence, self.each, self.prompts, self.requests = sentence, each, [], []

    def __deepcopy__(self, memo):
        return self

    def complete(self, request):
        self.each(request)
        text = "\n".join(getattr(part, "text", "<picture>") for message in request.messages for part in message.parts)
        self.prompts.append(text)
        self.requests.append(request)
        if self.sentence is None:
            raise AnswerError("the writer is ill")
        known = [one for one in vars(signatures).values() if isinstance(one, type) and issubclass(one, dspy.Signature)]
        old = next(one.instructions for one in known if one.instructions.splitlines()[0] in text)
        fields = dict.fromkeys(
            ("new_instruction", "proposed_instruction"), f"{old}\n{self.sentence.format(len(self.prompts))}"
        )
        fields["proposed_prefix_for_output_field"] = "Answer:"
        return _response(request, json.dumps({name: value for name, value in fields.items() if f"`{name}`" in text}))


def writer(sentence=HEED, *, temperature=0.0, each=lambda _: None):
    engine = Writer(sentence, each)
    return dspy.LM("test/writer", engine=engine, cache=False, max_tokens=999, temperature=temperature, num_retries=0)


def asked(*lms):
    return sum(len(lm.engine.prompts) for lm in lms)
