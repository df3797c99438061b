"""Decode image files into 48x48 grey faces."""

import contextlib
import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from fer.errors import UserError
from fer.files import read_file

SIZE = 48
MAX_PIXELS = 64_000_000
"""Maximum pixels of a picture, checked before decoding."""
MAX_BYTES = 64 << 20
"""Maximum size of an image file, checked before reading."""
MAX_WORK = 2_000_000_000
"""Maximum total pixels over all scans of a progressive JPEG."""
MAX_EXIF = 1 << 20
"""Maximum bytes of metadata to search for an image's orientation."""

# Without a handler, Pillow's messages about damaged files go to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# Pillow supports more, but starts external programs for some of them.
KINDS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
OTHER_KINDS = {
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"<svg": "SVG",
}
# Exceptions that Pillow raises on damaged files.
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    MemoryError,
    OverflowError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that makes an image with this EXIF orientation upright."""
ON_THE_SIDE = tuple(TURNS[orientation] for orientation in (5, 6, 7, 8))
"""Transpositions that swap width and height."""


def read_face(path: str) -> NDArray[np.uint8]:
    """Read an image file as a face uint8 [48, 48].

    Raises UserError if it is not a regular file, larger than 64 MiB, not an image, or broken.
    """
    return read_photo(path)[0]


def read_photo(path: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Like `read_face`, and return width and height of the upright image too."""
    return decode_photo(read_file(path, MAX_BYTES), path)


def decode_face(content: bytes, place: str) -> NDArray[np.uint8]:
    """Decode an image of any size and colour mode as uint8 [48, 48]; see `decode_photo`."""
    return decode_photo(content, place)[0]


def decode(content: bytes, place: str) -> tuple[NDArray[np.uint8], str]:
    """Decode an image as uint8 [48, 48]; see `decode_photo`.

    Also returns "64x64 in PLACE" if it had another size, else "".
    """
    face, (width, height) = decode_photo(content, place)
    return face, "" if width == height == SIZE else f"{width}x{height} in {place}"


def decode_photo(content: bytes, place: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode an image as uint8 [48, 48]; also return width and height of the upright image.

    Transparent parts become white. The longer side is cropped to the centre square before
    resizing. Raises UserError naming `place` if the bytes are not an image or broken.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns about damaged metadata, which does not affect the pixels.
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(content), formats=KINDS)
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise UserError(
                    f"image of {image.width}x{image.height} pixels, at most "
                    f"{MAX_PIXELS // 1_000_000} million are allowed: {place}"
                )
            # Each scan visits all pixels, and an empty scan takes only a few bytes.
            if content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") * pixels > MAX_WORK:
                raise UserError(f"a JPEG image with too many scans: {place}")
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                with _quiet():
                    image.load()
            image.load()
            face, (width, height) = to_face(image), image.size
            return face, (height, width) if _turn(image) in ON_THE_SIDE else (width, height)
    except UnidentifiedImageError:
        raise UserError(f"{_kind(content)} ({', '.join(KINDS)} are supported): {place}") from None
    except BROKEN as error:
        reason = str(error)[:100] or type(error).__name__
        raise UserError(f"broken image ({reason}): {place}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the TIFF library, which also reports damage on stderr directly."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _kind(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return "not a kind of image that is read: HEIC or AVIF"
    for magic, kind in OTHER_KINDS.items():
        if content.startswith(magic):
            return f"not a supported kind of image: {kind}"
    return "not an image"


def to_face(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a decoded image of any size and mode to uint8 [48, 48]."""
    if image.mode == "L" and image.size == (SIZE, SIZE) and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Pillow clips wide pixel values instead of scaling them.
        wide = image if image.mode in ("I", "F") else image.convert("I")
        brightest: Any = image.getextrema()[1]
        top = 65535.0 if image.mode != "F" else max(brightest, 1.0)
        values = np.asarray(_fit(_upright(wide, image)), dtype=np.float64)
        with np.errstate(invalid="ignore"):  # infinite values
            values = np.nan_to_num(values * (255 / top))
        return np.clip(values, 0, 255).astype(np.uint8)
    grey = _on_white(image) if image.has_transparency_data else image.convert("L")
    return np.asarray(_fit(_upright(grey, image)))


def _on_white(image: Image.Image) -> Image.Image:
    """Blend a transparent image with white, in strips to save memory, and return it in grey."""
    grey = Image.new("L", image.size)
    for top in range(0, image.height, SIZE):
        strip = image.crop((0, top, image.width, min(top + SIZE, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        grey.paste(Image.alpha_composite(white, strip).convert("L"), (0, top))
    return grey


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Rotate `pixels` according to the metadata of `image`."""
    turn = _turn(image)
    return pixels if turn is None else pixels.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes an image upright, or None."""
    if len(image.info.get("exif", b"")) > MAX_EXIF:
        return None
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except BROKEN:
        return None
    return TURNS.get(orientation) if isinstance(orientation, int) else None


def _fit(image: Image.Image) -> Image.Image:
    """Resize the centre square; unchanged if it already has the right size."""
    if image.size == (SIZE, SIZE):
        return image
    return ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.BILINEAR)
