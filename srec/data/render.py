"""Product pictures for the toy shop, drawn from known facts.

A toy is a silhouette whose body wears a colour and a pattern. Everything else in the picture (background, clutter,
confetti, shadow, sticker, frame, position, size, angle, light, blur, JPEG) is noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from srec.data.silhouettes import CATEGORIES, Point, Points, Shape

SIDE = 160  # px of the finished picture
_SCALE = 3  # drawn larger, then reduced, which smooths the edges
_CANVAS = SIDE * _SCALE

COLOURS = {
    "red": (205, 32, 38),
    "orange": (242, 128, 22),
    "yellow": (244, 212, 40),
    "green": (46, 150, 52),
    "teal": (10, 148, 152),
    "blue": (38, 78, 202),
    "purple": (122, 48, 164),
    "pink": (244, 134, 182),
}
PATTERNS = ("plain", "striped", "dotted", "checked", "zigzag")
STICKERS = (
    "SALE",
    "NEW",
    "-20%",
    "-50%",
    "$4.99",
    "$9",
    "$12.50",
    "$25",
    "TOP 10",
    "LAST ONE",
    "RED WEEK",
    "BLUE FRIDAY",
    "GIFT IDEA",
    "2 FOR 1",
)

Rgb = tuple[int, int, int]

_TRIMS: tuple[Rgb, ...] = ((128, 88, 54), (84, 84, 92), (170, 172, 178), (226, 216, 198))
_DARK: Rgb = (36, 32, 38)
_LIGHT: Rgb = (246, 243, 236)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a picture shows: three facts of the product, and two things that do not belong to it."""

    category: str
    colour: str
    pattern: str
    sticker: str = ""
    frame: str = ""

    @property
    def held_out(self) -> bool:
        """Whether the combination of the three facts is kept from all training: one in eight, each fact as often."""
        places = (
            tuple(CATEGORIES).index(self.category),
            tuple(COLOURS).index(self.colour),
            PATTERNS.index(self.pattern),
        )
        return sum(places) % 8 == 5  # noqa: PLR2004 - any remainder would do


def draw(look: Look, rng: np.random.Generator) -> Image.Image:
    """The picture of `look`: RGB, `SIDE` x `SIDE` px. All that `look` leaves open comes from `rng`."""
    scene = _background(rng)
    _scatter(scene, rng)
    place = _Place.of(rng)
    shapes = [*CATEGORIES[look.category](rng)]
    _cast_shadow(scene, shapes, place, rng)
    _paint(scene, shapes, place, _cloth(look, place, rng), rng)
    picture = scene.resize((SIDE, SIDE), Image.Resampling.BOX)
    if look.sticker:
        _stick(picture, look.sticker, rng)
    if look.frame:
        ImageDraw.Draw(picture).rectangle(
            (0, 0, SIDE - 1, SIDE - 1), outline=COLOURS[look.frame], width=int(rng.integers(4, 9))
        )
    if _chance(rng, 0.3):
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9)))
    return _photographed(picture, rng)


# Where the product stands


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Maps the product's square onto the canvas: centre and half-width in px, angle in radians, mirrored or not."""

    x: float
    y: float
    size: float
    angle: float
    mirrored: bool
    cos: float = field(init=False)
    sin: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cos", math.cos(self.angle))
        object.__setattr__(self, "sin", math.sin(self.angle))

    @classmethod
    def of(cls, rng: np.random.Generator) -> _Place:
        size = rng.uniform(0.58, 0.88) * _CANVAS / 2
        slack = _CANVAS / 2 - size
        x, y = _CANVAS / 2 + rng.uniform(-0.8, 0.8, size=2) * slack
        return cls(x=x, y=y, size=size, angle=math.radians(rng.uniform(-14, 14)), mirrored=_chance(rng, 0.5))

    def __call__(self, points: Points) -> list[Point]:
        side = -1 if self.mirrored else 1
        turned = ((side * x * self.cos - y * self.sin, side * x * self.sin + y * self.cos) for x, y in points)
        return [(self.x + self.size * x, self.y + self.size * y) for x, y in turned]


# Colour and pattern


def _cloth(look: Look, place: _Place, rng: np.random.Generator) -> Image.Image:
    """The whole canvas in colour and pattern, lit from above, turned with the product; the body is cut from it."""
    base = _near(COLOURS[look.colour], rng, 10)
    cloth = Image.new("RGB", (_CANVAS, _CANVAS), base)
    darker = _DARK if look.colour == "yellow" else _times(base, 0.45)
    second = darker if look.colour == "yellow" or _chance(rng, 0.3) else _LIGHT  # white on yellow cannot be seen
    _PATTERNS[look.pattern](ImageDraw.Draw(cloth), second, place, rng)
    return ImageChops.multiply(cloth, _light_from_above())


def _plain(_pen: ImageDraw.ImageDraw, _colour: Rgb, _place: _Place, _rng: np.random.Generator) -> None:
    """Nothing on the cloth."""


def _striped(pen: ImageDraw.ImageDraw, colour: Rgb, place: _Place, rng: np.random.Generator) -> None:
    period, turn = rng.uniform(0.24, 0.32), math.radians(rng.choice((0, 45, 90, 135)))
    along, across = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
    for middle in np.arange(-2, 2, period):
        ends = [(middle * across[0] + far * along[0], middle * across[1] + far * along[1]) for far in (-2, 2)]
        pen.line(place(ends), fill=colour, width=round(period * 0.46 * place.size))


def _dotted(pen: ImageDraw.ImageDraw, colour: Rgb, place: _Place, rng: np.random.Generator) -> None:
    period = rng.uniform(0.24, 0.31)
    radius = period * rng.uniform(0.27, 0.32) * place.size
    for row, y in enumerate(np.arange(-1.6, 1.6, period)):
        for x in np.arange(-1.6, 1.6, period) + (row % 2) * period / 2:
            ((at_x, at_y),) = place([(x, y)])
            pen.ellipse((at_x - radius, at_y - radius, at_x + radius, at_y + radius), fill=colour)


def _checked(pen: ImageDraw.ImageDraw, colour: Rgb, place: _Place, rng: np.random.Generator) -> None:
    side = rng.uniform(0.17, 0.22)
    for row, y in enumerate(np.arange(-1.6, 1.6, side)):
        for x in np.arange(-1.6, 1.6, 2 * side) + (row % 2) * side:
            pen.polygon(place([(x, y), (x + side, y), (x + side, y + side), (x, y + side)]), fill=colour)


def _zigzag(pen: ImageDraw.ImageDraw, colour: Rgb, place: _Place, rng: np.random.Generator) -> None:
    period, tooth = rng.uniform(0.26, 0.33), rng.uniform(0.14, 0.18)
    for y in np.arange(-1.6, 1.6, period):
        teeth = [(x, y + (step % 2) * tooth) for step, x in enumerate(np.arange(-1.6, 1.6, tooth))]
        pen.line(place(teeth), fill=colour, width=round(period * 0.4 * place.size), joint="curve")


_PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw, Rgb, _Place, np.random.Generator], None]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
    "zigzag": _zigzag,
}


@cache
def _light_from_above() -> Image.Image:
    """Grey levels to multiply with: full light above, a quarter less below."""
    shade = Image.linear_gradient("L").point(lambda level: 255 - level // 4).resize((_CANVAS, _CANVAS))
    return Image.merge("RGB", (shade, shade, shade))


# Painting


def _paint(
    scene: Image.Image, shapes: Sequence[Shape], place: _Place, cloth: Image.Image, rng: np.random.Generator
) -> None:
    """The shapes in order onto `scene`, each area with a dark edge."""
    flat = {"trim": _near(_TRIMS[rng.integers(len(_TRIMS))], rng, 8), "dark": _DARK, "light": _LIGHT}
    pen = ImageDraw.Draw(scene)
    for shape in shapes:
        points = place(shape.points)
        if shape.width:
            pen.line(points, fill=flat[shape.role], width=round(shape.width * place.size), joint="curve")
            continue
        if shape.role == "body":
            mask = Image.new("L", scene.size, 0)
            ImageDraw.Draw(mask).polygon(points, fill=255)
            scene.paste(cloth, mask=mask)
        else:
            pen.polygon(points, fill=flat[shape.role])
        pen.line([*points, points[0], points[1]], fill=_DARK, width=_SCALE + 1, joint="curve")


def _cast_shadow(scene: Image.Image, shapes: Sequence[Shape], place: _Place, rng: np.random.Generator) -> None:
    """A soft shadow, shifted; softened on a small copy, where a blur costs little."""
    shadow = Image.new("L", scene.size, 0)
    pen, depth = ImageDraw.Draw(shadow), int(rng.integers(60, 130))
    shift_x, shift_y = rng.uniform(-14, 14), rng.uniform(8, 20)
    for shape in shapes:
        if not shape.width:
            pen.polygon([(x + shift_x, y + shift_y) for x, y in place(shape.points)], fill=depth)
    small = shadow.resize((SIDE, SIDE), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(3))
    scene.paste((18, 18, 24), mask=small.resize(scene.size, Image.Resampling.BILINEAR))


def _background(rng: np.random.Generator) -> Image.Image:
    """A muted wall, often with a floor or a table, and some clutter that is not the product."""
    top, bottom = _muted(rng), _muted(rng)
    blend = Image.linear_gradient("L").resize((_CANVAS, _CANVAS))
    scene = Image.composite(Image.new("RGB", blend.size, bottom), Image.new("RGB", blend.size, top), blend)
    pen = ImageDraw.Draw(scene, "RGBA")
    if _chance(rng, 0.5):
        floor = rng.uniform(0.66, 0.86) * _CANVAS
        pen.rectangle((0, floor, _CANVAS, _CANVAS), fill=_muted(rng))
        pen.line((0, floor, _CANVAS, floor), fill=(30, 30, 30, 90), width=_SCALE)
    for _ in range(rng.integers(0, 6)):
        x, y = rng.uniform(0, _CANVAS, size=2)
        wide, high = rng.uniform(16, 90, size=2)
        shape = pen.ellipse if _chance(rng, 0.5) else pen.rectangle
        shape((x - wide, y - high, x + wide, y + high), fill=(*_muted(rng), int(rng.integers(70, 170))))
    return scene


def _scatter(scene: Image.Image, rng: np.random.Generator) -> None:
    """Now and then, confetti in the colours of toys, too small to be one."""
    if not _chance(rng, 0.25):
        return
    pen, names = ImageDraw.Draw(scene), tuple(COLOURS)
    for _ in range(rng.integers(2, 8)):
        (x, y), half = rng.uniform(0, _CANVAS, size=2), rng.uniform(6, 16)
        colour = _near(COLOURS[names[rng.integers(len(names))]], rng, 12)
        pen.ellipse((x - half, y - half, x + half, y + half), fill=colour)


def _photographed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture in a brighter or darker light, as a JPEG file of some quality gives it back."""
    light = rng.uniform(0.85, 1.1)
    file = BytesIO()
    picture.point(lambda level: min(255, int(level * light))).save(file, "JPEG", quality=int(rng.integers(55, 96)))
    return Image.open(file).convert("RGB")


def _stick(picture: Image.Image, words: str, rng: np.random.Generator) -> None:
    """A price or advertising sticker in one of the corners."""
    font = _font(int(rng.integers(12, 17)))
    wide, high = font.getbbox(words)[2] + 10, font.getbbox(words)[3] + 8
    left = rng.uniform(4, 12) if _chance(rng, 0.5) else SIDE - wide - rng.uniform(4, 12)
    top = rng.uniform(4, 12) if _chance(rng, 0.5) else SIDE - high - rng.uniform(4, 12)
    paper = ((250, 226, 60), (250, 250, 250), (208, 36, 40), (30, 120, 60))[rng.integers(4)]
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle((left, top, left + wide, top + high), radius=4, fill=paper, outline=_DARK)
    pen.text((left + 5, top + 3), words, fill=_DARK if sum(paper) > 400 else _LIGHT, font=font)  # noqa: PLR2004 - a light paper


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _muted(rng: np.random.Generator) -> Rgb:
    """A colour so near to grey that nobody takes it for one of `COLOURS`."""
    grey = rng.uniform(90, 245)
    return _near((int(grey), int(grey), int(grey)), rng, 12)


def _chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def _near(colour: Rgb, rng: np.random.Generator, spread: int) -> Rgb:
    red, green, blue = (
        int(part + shift) for part, shift in zip(colour, rng.integers(-spread, spread + 1, 3), strict=True)
    )
    return _clip(red), _clip(green), _clip(blue)


def _times(colour: Rgb, factor: float) -> Rgb:
    return _clip(int(colour[0] * factor)), _clip(int(colour[1] * factor)), _clip(int(colour[2] * factor))


def _clip(level: int) -> int:
    return min(255, max(0, level))
