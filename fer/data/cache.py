"""Cache of decoded data sets on disk, for fast starts."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fer.config import EMOTIONS
from fer.data.decode import SIZE
from fer.data.faces import USAGES, Dataset, content_hash
from fer.errors import UserError
from fer.files import write_file
from fer.home import cached
from fer.strict_json import to_json

VERSION = 5  # increase when a reader's result changes


def cache_file(sources: list[str], *taken_for: str) -> Path:
    """Return the cache file for `sources`, keyed by their paths, sizes, times and `taken_for`."""
    key = hashlib.sha256("\n".join((f"version {VERSION}", *taken_for, "")).encode())
    for source in sources:
        status = os.stat(source)  # noqa: PTH116 - Path takes three times as long for 32,298 files
        key.update(os.fsencode(f"{source}\0{status.st_size}\0{status.st_mtime_ns}\n"))
    return cached(f"{key.hexdigest()[:32]}.safetensors")


def load(path: Path, name: str) -> Dataset | None:
    """Load the data set cached in `path`; None if missing or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            images, labels, usages, rows = (
                file.get_tensor(key) for key in ("images", "labels", "usages", "rows")
            )
    # The last two: a type that NumPy does not have.
    except (SafetensorError, OSError, TypeError, AttributeError):
        return None
    classes = tuple(metadata.get("classes", "").split())
    whole = (
        classes == EMOTIONS
        and (images.dtype, labels.dtype, usages.dtype) == (np.uint8, np.int64, np.uint8)
        and labels.shape == usages.shape == rows.shape == (labels.size,)
        and rows.dtype == np.int64
        and np.array_equal(np.sort(rows), np.arange(labels.size))
        and images.shape == (labels.size, SIZE, SIZE)
        and labels.size > 0
        and labels.min() >= 0
        and labels.max() < len(classes)
        and usages.max() < len(USAGES)
        and content_hash(images, labels, usages, classes) == metadata.get("sha256")
    )
    if not whole:
        return None
    try:
        notes = tuple(map(str, json.loads(metadata.get("notes", "[]"))))
        warning = metadata.get("warning", "")
    except (ValueError, RecursionError, TypeError):
        return None
    return Dataset(name, images, labels, usages, rows, classes, metadata["sha256"], notes, warning)


def store(dataset: Dataset, path: Path) -> None:
    """Write `dataset` to `path` atomically. Raise UserError if it cannot be written."""
    arrays = {name: getattr(dataset, name) for name in ("images", "labels", "usages", "rows")}
    metadata = {
        "classes": " ".join(dataset.classes),
        "sha256": dataset.sha256,
        "notes": to_json(dataset.notes),
        "warning": dataset.warning,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    write_file(
        path, save({key: np.ascontiguousarray(each) for key, each in arrays.items()}, metadata)
    )
