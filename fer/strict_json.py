"""Strict JSON: Python's NaN and Infinity are not valid JSON, so they become null."""

import json
import math
from typing import Any


def to_json(value: Any, **options: Any) -> str:
    """Serialise `value` as JSON; non-finite numbers become null.

    `options` are passed to `json.dumps`.
    """
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """Return `value` with None for each non-finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def number(value: Any) -> Any:
    """Restore a number written by `to_json`: NaN for null."""
    return math.nan if value is None else value
