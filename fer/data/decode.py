"""An encoded image file becomes a 48x48 grey face."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fer.errors import UserError

SIZE = 48
MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded."""


def decode_face(content: bytes, place: str) -> NDArray[np.uint8]:
    """uint8 [48, 48] of an image file of any size and colour mode.

    Transparent parts become white; the longer side is cropped to a centred square before
    resizing. Raises UserError naming `place` if the bytes are no image or a broken one.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns of damaged metadata; the pixels are what counts.
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(content))
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"image of {image.width}x{image.height} pixels, at most "
                    f"{MAX_PIXELS // 1_000_000} million are read: {place}"
                )
            image.load()
    except UnidentifiedImageError:
        raise UserError(f"not an image: {place}") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"broken image ({error}): {place}") from None
    return to_face(image)


def to_face(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 [48, 48] of a decoded image of any size and mode."""
    if image.mode == "L" and image.size == (SIZE, SIZE) and "transparency" not in image.info:
        return np.asarray(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Pillow clips wide pixels instead of scaling them.
        wide = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode != "F" else max(float(wide.max(initial=1.0)), 1.0)
        image = Image.fromarray(np.clip(wide * (255 / top), 0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    grey = image.convert("L")
    if grey.size != (SIZE, SIZE):
        grey = ImageOps.fit(grey, (SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(grey)
