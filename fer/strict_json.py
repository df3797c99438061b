"""JSON that every reader takes: Python alone knows NaN and Infinity in it."""

import json
import math
from typing import Any


def to_json(value: Any, **options: Any) -> str:
    """`value`, of JSON's types, as text. A number that is not finite becomes null.

    `options` are those of `json.dumps`.
    """
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """`value`, of JSON's types, with null for each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def number(value: Any) -> Any:
    """A number that was written by `to_json`: NaN for null."""
    return math.nan if value is None else value
