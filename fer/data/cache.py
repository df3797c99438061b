"""Decoded data sets kept on disk, so that a second start reads them in a blink."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fer.data.faces import Dataset, content_hash

VERSION = 1  # raise it when a reader's result changes


def folder() -> Path:
    """Where this program keeps what it can make again."""
    return Path(os.environ.get("FER_CACHE") or platformdirs.user_cache_dir("fer-study"))


def cache_file(sources: list[str]) -> Path:
    """Where the decoded form of `sources` is kept: named by their paths, sizes and times."""
    key = hashlib.sha256(f"version {VERSION}\n".encode())
    for source in sources:
        status = os.stat(source)  # noqa: PTH116 - Path takes thrice as long for 32,298 files
        key.update(f"{source}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return folder() / f"{key.hexdigest()[:32]}.safetensors"


def load(path: Path, name: str) -> Dataset | None:
    """The data set kept in `path`; None if there is none or it is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            images, labels, usages = (
                file.get_tensor(key) for key in ("images", "labels", "usages")
            )
            metadata = file.metadata()
    except (FileNotFoundError, SafetensorError, OSError):
        return None
    classes = tuple(metadata["classes"].split())
    if content_hash(images, labels, usages, classes) != metadata["sha256"]:
        return None
    return Dataset(name, images, labels, usages, classes, metadata["sha256"])


def store(dataset: Dataset, path: Path) -> None:
    """Keep `dataset` in `path`, whole or not at all. Raises OSError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(
            {
                "images": np.ascontiguousarray(dataset.images),
                "labels": np.ascontiguousarray(dataset.labels),
                "usages": np.ascontiguousarray(dataset.usages),
            },
            temporary,
            metadata={"classes": " ".join(dataset.classes), "sha256": dataset.sha256},
        )
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
