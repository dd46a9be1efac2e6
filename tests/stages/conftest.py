from io import BytesIO

import pytest
from PIL import Image as Pillow

from srec.data.intake import normalize_image
from srec.types import Event, History, Image, Item, ItemDescription, PreferenceSummary, UserProfile

DAY = 86_400
START = 1_700_000_000


@pytest.fixture(scope="session")
def poster() -> Image:
    """A small picture, as intake makes it."""
    raw = BytesIO()
    Pillow.new("RGB", (24, 32), (20, 120, 200)).save(raw, "PNG")
    return normalize_image(raw.getvalue())


@pytest.fixture
def toy_story(poster) -> Item:
    return Item(
        item_id="1",
        title="Toy Story",
        attributes={"year": "1995", "genres": "Adventure|Animation|Children", "imdb_id": "tt0114709"},
        image=poster,
    )


@pytest.fixture
def heat() -> Item:
    return Item(item_id="6", title="Heat", attributes={"year": "1995", "genres": "Action|Crime|Thriller"})


@pytest.fixture
def history(toy_story, heat) -> History:
    events = (
        Event(item=heat, at=START, rating=2.0),
        Event(item=toy_story, at=START + 3 * DAY, rating=5.0),
        Event(item=Item(item_id="3114", title="Toy Story 2"), at=START + 40 * DAY),
    )
    return History(user_id="7", events=events)


@pytest.fixture
def descriptions() -> dict[str, ItemDescription]:
    text = "Toy Story (1995; Adventure, Animation, Children). A computer-animated film about toys that come alive."
    return {"1": ItemDescription(item_id="1", text=text, seen=True)}


@pytest.fixture
def summary() -> PreferenceSummary:
    return PreferenceSummary(
        user_id="7",
        text="Likes animated family films.",
        stable=("family films",),
        rising=("computer animation", "sequels"),
        fading=("crime",),
        until=START + 40 * DAY,
        events=3,
    )


@pytest.fixture
def profile() -> UserProfile:
    return UserProfile(
        user_id="7", text="a viewer who watches with children.", traits=("humour",), until=START + 40 * DAY
    )


@pytest.fixture
def long_history():
    """A history of `n` events, a day apart."""

    def of(n: int, user_id: str = "7") -> History:
        return History(
            user_id=user_id,
            events=tuple(Event(item=Item(item_id=f"{i:03}", title=f"film {i}"), at=START + i * DAY) for i in range(n)),
        )

    return of
