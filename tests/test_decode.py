"""Image files of any size and colour mode become 48x48 grey faces."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer.data.decode import decode_face
from fer.errors import UserError


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("size", [(48, 48), (1, 1), (300, 20), (97, 640)])
def test_any_size_and_mode_is_read(mode: str, size: tuple[int, int]) -> None:
    content = encode(Image.new(mode, size), "TIFF" if mode == "CMYK" else "PNG")
    face = decode_face(content, "x")
    assert face.shape == (48, 48)
    assert face.dtype == np.uint8


def test_grey_48x48_pixels_are_kept_exactly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    np.testing.assert_array_equal(decode_face(encode(Image.fromarray(pixels)), "x"), pixels)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    half = np.full((48, 48), 32768, dtype=np.uint16)
    assert abs(int(decode_face(encode(Image.fromarray(half)), "x")[0, 0]) - 127) <= 1


def test_transparent_parts_are_white() -> None:
    assert decode_face(encode(Image.new("RGBA", (60, 60), (0, 0, 0, 0))), "x").min() == 255


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_with_their_place(draw: st.DataObject) -> None:
    content = bytearray(
        encode(
            Image.new("RGB", (64, 64), "red"),
            draw.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])),
        )
    )
    for _ in range(draw.draw(st.integers(0, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    content = content[: draw.draw(st.integers(0, len(content)))]
    try:
        assert decode_face(bytes(content), "face.png").shape == (48, 48)
    except UserError as error:
        assert "face.png" in str(error)  # noqa: PT017 - either outcome is right
