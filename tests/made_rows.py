"""Rows for the tests of training, and the pictures that they name."""

import io
from base64 import b64decode
from hashlib import sha256

from PIL import Image as PillowImage

from srec.learn.rows import Row
from srec.types import Image

COLOURS = ("red", "navy", "green", "gold")


def photo(colour):
    drawn = PillowImage.new("RGB", (50, 80), colour)
    drawn.paste("white", (0, 0, 25, 26))
    encoded = io.BytesIO()
    drawn.save(encoded, "PNG")
    return Image(data=encoded.getvalue(), width=50, height=80, media_type="image/png")


def kept(folder, data):
    """Write a picture beside rows; its name in a row."""
    name = f"images/{sha256(data).hexdigest()}.png"
    (folder / "images").mkdir(exist_ok=True, parents=True)
    (folder / name).write_bytes(data)
    return name


def as_row(folder, chat, **about):
    """A chat in OpenAI's form as a row, its pictures written beside it."""
    images, messages = [], []
    for message in chat:
        content = message["content"]
        if not isinstance(content, str):
            shown = [block["image_url"]["url"] for block in content if block["type"] == "image_url"]
            images += [kept(folder, b64decode(url.partition(",")[2])) for url in shown]
            content = [block if block["type"] == "text" else {"type": "image"} for block in content]
        messages.append({"role": message["role"], "content": content})
    return Row(messages=tuple(messages), images=tuple(images), **about)


def verdicts(folder, *, users, candidates=4, pictures=False, first=0):
    """Rows of users who like one colour each; what is liked can be read off."""
    rows = []
    for user in range(first, first + users):
        likes = COLOURS[user % len(COLOURS)]
        for number, colour in enumerate(COLOURS[:candidates]):
            asked = f"### Profile\nUser {user} likes {likes} things above all others. " + "It is known for long. " * 4
            text = f"{asked}\n\n### Target item\nA {colour} thing, number {number}"
            content = text
            if pictures:
                head, tail = text.split("### Target item\n")
                content = [
                    {"type": "text", "text": f"{head}### Target picture\n"},
                    {"type": "image"},
                    {"type": "text", "text": f"\n\n### Target item\n{tail}"},
                ]
            rows.append(
                Row(
                    stage="scoring.judge",
                    messages=(
                        {"role": "system", "content": "Say Yes. or No."},
                        {"role": "user", "content": content},
                        {"role": "assistant", "content": "Yes." if colour == likes else "No."},
                    ),
                    images=(kept(folder, photo(colour).data),) if pictures else (),
                    case_id=f"u{user}",
                    user_id=f"u{user}",
                    item_id=f"i{number}",
                    label=colour == likes,
                    teacher="labels",
                )
            )
    return rows


def summary(user=0, text="A quiet taste."):
    messages = (
        {"role": "user", "content": f"### Events\n- first: a red car\n- 3 days later: item {user}"},
        {"role": "assistant", "content": f'{{"summary":"{text}","stable":["red"]}}'},
    )
    return Row(stage="preference.summarize", messages=messages, case_id=f"u{user}", user_id=f"u{user}", teacher="t")
