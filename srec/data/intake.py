"""Normalizing what comes in: pictures to one form, text to one safe line."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from srec.data.report import IntakeReport, Problem
from srec.errors import ImageError
from srec.text import clean
from srec.types import Image, Item

__all__ = ["IntakeReport", "Limits", "Problem", "clean_item", "normalize_image", "read_image"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_NAME_CHARS = 60
# What Pillow's decoders raise on bytes that are not what they claim to be.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    Pillow.DecompressionBombError,
    Pillow.DecompressionBombWarning,  # where warnings are errors
)
# Of a JPEG's facts, those that a normalized picture may have: no EXIF, no comment, no colour profile.
PLAIN_FACTS = frozenset({"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"})
END_OF_JPEG = b"\xff\xd9"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of what is taken in, and the form that pictures are brought to.

    `image_side` is the longest side after resizing, in pixels; smaller pictures are never enlarged. Larger files or
    pictures than the `max_image_` bounds are refused; longer texts are cut.
    """

    max_image_bytes: int = 20 * 2**20
    max_image_pixels: int = 50_000_000
    image_side: int = 384
    jpeg_quality: int = 90
    max_title_chars: int = 300
    max_attribute_chars: int = 1000


DEFAULT = Limits()


def normalize_image(raw: bytes, *, limits: Limits = DEFAULT) -> Image:
    """One encoded picture as RGB JPEG of bounded size, the same bytes for the same input.

    Takes JPEG, PNG, WEBP, GIF, BMP and TIFF; the first frame of several; turned as its EXIF says; transparency on
    white; 16 bits scaled to 8. A JPEG that already has this form stays as it is, so normalizing twice changes nothing.
    Raises ImageError, before decoding if the header already claims too many pixels.
    """
    if not raw:
        raise ImageError("the image is empty (0 bytes); give a picture or leave the cell empty", cause="empty image")
    if len(raw) > limits.max_image_bytes:
        raise ImageError(
            f"the image has more than {limits.max_image_bytes:,} bytes; shrink it or raise max_image_bytes",
            cause="too many bytes",
        )
    try:
        picture = Pillow.open(BytesIO(raw), formats=FORMATS)
        _refuse_bomb(picture.size, limits=limits)
        if _is_normal(picture, raw, limits=limits):
            picture.load()
            return Image(data=raw, width=picture.width, height=picture.height)
        enough = 2 * limits.image_side
        picture.draft(None, (enough, enough))  # lets a large JPEG decode at a fraction of its size
        picture.load()
        rgb = _to_rgb(_turned(picture))
        rgb.thumbnail((limits.image_side, limits.image_side), Pillow.Resampling.LANCZOS)
        return _encode(rgb, quality=limits.jpeg_quality)
    except UnidentifiedImageError:
        raise ImageError(
            f"the image is none of {', '.join(FORMATS)}, or is broken; convert it", cause="no image format"
        ) from None
    except Pillow.DecompressionBombError as error:  # Pillow's own bound, met before ours
        raise ImageError(f"the image has too many pixels ({error}); shrink it", cause="too many pixels") from error
    except BROKEN as error:
        raise ImageError(
            f"the image is broken ({type(error).__name__}: {error}); replace it", cause="broken image"
        ) from error


def read_image(folder: Path, name: str, *, limits: Limits = DEFAULT) -> Image:
    """The picture in file `name` below `folder`, normalized; ImageError says why there is none.

    What lies outside `folder` once links are followed is refused, and so is what is no regular file.
    """
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ImageError(
                f"image {_shown(name)} leaves the folder {folder.name!r}; put the file inside it",
                cause="image outside its folder",
            )
        if not path.exists():
            raise ImageError(
                f"image {_shown(name)} is not in the folder {folder.name!r}; add it or leave the cell empty",
                cause="missing image",
            )
        if not path.is_file():
            raise ImageError(f"image {_shown(name)} is no regular file; name a picture", cause="no regular file")
        with path.open("rb") as file:
            raw = file.read(limits.max_image_bytes + 1)
    except (OSError, ValueError, RuntimeError) as error:  # name too long, NUL inside, links in a circle, no permission
        raise ImageError(
            f"image {_shown(name)} cannot be read: {_reason(error)}; name a picture that can be read",
            cause="unreadable image",
        ) from error
    try:
        return normalize_image(raw, limits=limits)
    except ImageError as error:
        raise ImageError(f"image {_shown(name)}: {error}", cause=error.cause) from error


def clean_item(
    item_id: str,
    *,
    title: str,
    attributes: Mapping[str, str],
    image: Image | None = None,
    limits: Limits = DEFAULT,
    special_tokens: Iterable[str] = (),
) -> tuple[Item, tuple[str, ...]]:
    """An item whose text is safe in a prompt, and the names of the texts that were cut.

    Attributes without text or without a name are left out; the order is kept.
    """
    tokens = tuple(special_tokens)
    cut = []

    def one(name: str, text: str, max_chars: int) -> str:
        line = clean(text, special_tokens=tokens)
        if len(line) <= max_chars:
            return line
        cut.append(name)
        return clean(line, max_chars=max_chars, special_tokens=tokens)

    safe_title = one("title", title, limits.max_title_chars)
    named = ((clean(name, max_chars=MAX_NAME_CHARS, special_tokens=tokens), text) for name, text in attributes.items())
    safe = {name: one(name, text, limits.max_attribute_chars) for name, text in named if name}
    kept = {name: text for name, text in safe.items() if text}
    return Item(item_id=item_id, title=safe_title, attributes=kept, image=image), tuple(cut)


def _refuse_bomb(size: tuple[int, int], *, limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_image_pixels:
        raise ImageError(
            f"the image claims {width} x {height} pixels, more than {limits.max_image_pixels:,}; "
            "shrink it or raise max_image_pixels",
            cause="too many pixels",
        )


def _is_normal(picture: Pillow.Image, raw: bytes, *, limits: Limits) -> bool:
    return (
        picture.format == "JPEG"
        and picture.mode == "RGB"
        and max(picture.size) <= limits.image_side
        and PLAIN_FACTS.issuperset(picture.info)
        and raw.endswith(END_OF_JPEG)
    )


def _turned(picture: Pillow.Image) -> Pillow.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except BROKEN:  # the picture is whole, only its EXIF is not: it says nothing of a turn
        return picture


def _to_rgb(picture: Pillow.Image) -> Pillow.Image:
    if picture.mode.startswith(("I", "F")):
        return _eight_bits(picture).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Pillow.new("RGBA", layer.size, "white")
        return Pillow.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(picture: Pillow.Image) -> Pillow.Image:
    """Gray of 16 bits by its upper byte; 32 bits and floats stretched from their darkest to their lightest pixel."""
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        return Pillow.fromarray((values >> 8).astype(np.uint8))
    finite = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    span = finite.max() - finite.min()
    return Pillow.fromarray(((finite - finite.min()) * (255.0 / span if span else 0.0)).astype(np.uint8))


def _encode(rgb: Pillow.Image, *, quality: int) -> Image:
    rgb.info.clear()  # or Pillow would write the original's comment
    buffer = BytesIO()
    rgb.save(buffer, "JPEG", quality=quality)
    return Image(data=buffer.getvalue(), width=rgb.width, height=rgb.height)


def _shown(name: str) -> str:
    return repr(clean(name, max_chars=MAX_NAME_CHARS))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
