"""Load FER-2013 from any supported format, always as the same data set."""

import os
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer.command import printable
from fer.data import cache
from fer.data.demo import demo_faces
from fer.data.faces import USAGES, Dataset, Faces, canonical
from fer.data.folders import read_folders
from fer.data.holdout import set_aside
from fer.data.parquet import read_parquet
from fer.data.sources import FORMS, Source, locate
from fer.data.split import (
    SEED,
    Split,
    draw_subset,
    split,
    split_in_words,
    twin_groups,
    validated,
)
from fer.data.tables import LABELS, Rows, concatenate, csv_header, read_csv
from fer.errors import UserError
from fer.output import say

__all__ = [
    "SEED",
    "USAGES",
    "Dataset",
    "Faces",
    "Split",
    "arranged",
    "draw_subset",
    "find",
    "load",
    "set_aside",
    "split",
    "split_in_words",
    "twin_groups",
    "validated",
]

ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
MUCH = 1 << 20  # bytes that take a moment to read, which is said
DEMO_NOTICE = (
    "No FER-2013 images found (--data, FER_DATA, ./data): using synthetic DEMO FACES. "
    "Demo results say nothing about FER-2013."
)
APART = (
    "{:,} images of the validation split (val, valid, validation, dev) are set aside: runs "
    "validate on a share of the training images, and these are never used as the sealed test; "
    "fer.evaluate --split Validation scores them"
)


def load(data: Path | None, remove: Sequence[str] = (), how: Split = "grouped") -> Dataset:
    """Load the data set at `data`, else at $FER_DATA, else in `./data`, else the demo faces.

    Drops the classes `remove`, and keeps the file's order for a `file-order` split. Prints a
    notice on stderr if the demo faces are used. Raises UserError if the data is not in a
    supported format.
    """
    return arranged(find(data), remove, how)


def arranged(dataset: Dataset, remove: Sequence[str], how: Split) -> Dataset:
    """Arrange a whole data set as in `load`. Raise UserError for classes it does not have."""
    return (dataset.in_file_order() if how == "file-order" else dataset).without(remove)


def find(data: Path | None) -> Dataset:
    """Find and read the whole data set as in `load`."""
    if data is None and os.environ.get("FER_DATA"):
        data = Path(os.environ["FER_DATA"])
    if data is None and Path("data").exists():
        data = Path("data")
    if data is None:
        say(DEMO_NOTICE, file=sys.stderr)
        return demo_faces()
    dataset = read(data)
    say_notes(dataset)
    counts = dataset.counts()
    if "Training" not in counts:
        has = ", ".join(f"{count:,} {usage}" for usage, count in counts.items())
        raise UserError(f"there are no training images, only {has}: {data}")
    return dataset


def say_notes(dataset: Dataset) -> None:
    """Print the notes and warnings from reading a data set on stderr."""
    for note in dataset.notes:
        say(printable(f"note: {note}"), file=sys.stderr)
    if dataset.warning:
        say(printable(f"warning: {dataset.warning}"), file=sys.stderr)


def read(path: Path) -> Dataset:
    """Read the data set at `path` through the cache. The format is detected from the content."""
    try:
        source = locate(path)
        kept = cache.cache_file(source.files(), *source.taken_for())
        dataset = cache.load(kept, name="fer2013")
        if dataset is None:
            if sum(os.stat(file).st_size for file in source.files()) > MUCH:  # noqa: PTH116
                say(printable(f"reading {path} for the first time ..."))
            dataset = read_source(source)
            keep(dataset, kept)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}") from None
    return replace(dataset, notes=(*source.notes, *dataset.notes))


def keep(dataset: Dataset, file: Path) -> None:
    """Store a data set in the cache, or print why that failed."""
    try:
        cache.store(dataset, file)
    except UserError as error:
        say(printable(f"warning: the data will be read again next time: {error}"), file=sys.stderr)


def read_source(source: Source) -> Dataset:
    """Read a located data set, with notes about what was found."""
    notes: list[str] = []
    if source.folders is not None:
        rows = read_folders(source.folders)
    else:
        rows = read_tables(source, notes)
    assert rows.usages is not None
    apart = int((rows.usages == USAGES.index("Validation")).sum())
    if apart:
        notes.append(APART.format(apart))
    if rows.scaled:
        count = f"{len(rows.scaled):,} image{'s are' if len(rows.scaled) > 1 else ' is'}"
        notes.append(
            f"{count} not 48x48: cropped to a square and scaled, the first is {rows.scaled[0]}"
        )
    return canonical("fer2013", rows.images, rows.labels, rows.usages, notes)


def read_tables(source: Source, notes: list[str]) -> Rows:
    """Read all rows of the tables; the usage comes from the row, else from the table's name."""
    parts = []
    for table, usage in source.tables:
        rows = read_table(table)
        images = len(rows.labels)
        if rows.usages is None:
            if usage is None:
                notes.append(
                    f"neither a column nor the name gives a split: all {images:,} images are for "
                    f"training: {table}"
                )
            index = USAGES.index(usage or "Training")
            rows = rows._replace(usages=np.full(images, index, np.uint8))
        parts.append(rows)
    return concatenate(parts, source.place)


def read_table(path: Path) -> Rows:
    """Read the rows of a CSV or parquet file, distinguished by its first bytes."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise UserError(f"the file is empty: {path}")
    if start.startswith(b"PAR1"):
        return read_parquet(path)
    kind = archive_of(start)
    if kind:
        raise UserError(f"archives are not read; unpack this {kind} file first: {path}")
    if csv_header(path).plain() & {"pixels", *LABELS}:
        return read_csv(path)
    raise UserError(f"not a supported format of FER-2013 ({FORMS}): {path}")


def archive_of(start: bytes) -> str | None:
    """Return the kind of an archive that starts with these bytes, or None."""
    for magic, kind in ARCHIVES.items():
        if start.startswith(magic):
            return kind
    if start[257:262] == b"ustar":
        return "tar"
    try:  # older tar files have no magic, but a checksum
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return None
    return "tar"
