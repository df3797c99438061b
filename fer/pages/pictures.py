"""Images as HTML."""

import base64
import io
from html import escape
from typing import Any

from PIL import Image


def picture(image: Any) -> str:
    """Return an image uint8 [48, 48] as HTML."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return (
        f"<img alt='' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
    )


def captioned(image: Any, words: str) -> str:
    """Return an image uint8 [48, 48] with a caption as HTML."""
    return f"<span>{picture(image)}<small>{escape(words)}</small></span>"
