"""FER-2013 as Kaggle's CSV files; the rows of any table."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from fer.config import EMOTIONS
from fer.data.decode import SIZE
from fer.data.faces import MAX_IMAGES, USAGES
from fer.errors import UserError

PIXELS = SIZE * SIZE
BLOCK = 16 << 20  # bytes parsed at a time; also the longest line that is read
HEADER = 4096  # bytes; a longer first line is no header


class Rows(NamedTuple):
    """What a file holds, in its own order: uint8 [N, 48, 48], int64 [N], uint8 [N]; and which
    images had another size and were scaled."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    usages: NDArray[np.uint8]
    scaled: tuple[str, ...] = ()


def native_file(path: Path) -> Any:
    """A file for PyArrow to read, whatever the bytes of its path. Raises OSError.

    Not a Python file: threads of PyArrow that still read ahead would call it while the
    interpreter ends, which aborts the process (exit code 134).
    """
    return pa.OSFile(os.fsencode(path))


def csv_header(path: Path) -> list[str]:
    """The column names in a CSV file's first line, as written; empty if it is no such line."""
    with path.open("rb") as file:
        line = file.readline(HEADER)
    if len(line) == HEADER:
        return []
    try:
        return next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")]), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def columns_of(names: list[str], path: Path) -> dict[str, str]:
    """Names without case and stray spaces, to the names as they are written.

    Raises UserError if two are the same.
    """
    columns: dict[str, str] = {}
    for name in names:
        plain = name.strip().lower()
        if plain in columns:
            raise UserError(f"column {plain[:40]!r} is there twice: {path}")
        columns[plain] = name
    return columns


def read_csv(path: Path) -> Rows:
    """Kaggle's `train.csv`, `fer2013.csv` or `icml_face_data.csv`.

    Columns `emotion` (0..6), `pixels` (2,304 integers in 0..255, separated by spaces) and
    optionally `Usage`, in any order and with stray spaces around their names. Without `Usage`
    all rows are Training. Raises UserError naming the line that breaks a rule.
    """
    names = columns_of(csv_header(path), path)
    for needed in ("emotion", "pixels"):
        if needed not in names:
            raise UserError(f"column {needed!r} is missing: {path} has {', '.join(names)}")
    wanted = [names[name] for name in ("emotion", "pixels", "usage") if name in names]
    parts = [
        _csv_rows(batch, names, path, first_line)
        for batch, first_line in _csv_batches(path, wanted)
    ]
    return concatenate(parts, path)


def lacks_labels(path: Path) -> bool:
    """Whether a file is a CSV file of `pixels` without `emotion`, as Kaggle's `test.csv`."""
    names = {name.strip().lower() for name in csv_header(path)}
    return "pixels" in names and "emotion" not in names


def read_unlabelled_csv(path: Path) -> NDArray[np.uint8]:
    """The images [N, 48, 48] of the column `pixels`, in the file's order; others are left alone.

    Raises UserError naming the line that breaks a rule.
    """
    name = columns_of(csv_header(path), path)["pixels"]
    parts = [
        _csv_images(batch.column(name), path, first_line)
        for batch, first_line in _csv_batches(path, [name])
    ]
    if not sum(map(len, parts)):
        raise UserError(f"the file holds no rows: {path}")
    return np.concatenate(parts)


def _csv_batches(path: Path, wanted: list[str]) -> Iterator[tuple[Any, int]]:
    """Some rows at a time of the columns `wanted`, as text, and the line they begin in.

    Raises UserError if it is no CSV file or has too many rows.
    """
    first_line = 2
    try:
        with (
            native_file(path) as file,
            pyarrow.csv.open_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types={name: pa.string() for name in wanted},
                    strings_can_be_null=False,
                ),
            ) as reader,
        ):
            for batch in reader:
                yield batch, first_line
                first_line += batch.num_rows
                check_count(first_line - 2, path)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"not a valid CSV file: {path}: {str(error)[:200]}") from None


def _csv_rows(batch: Any, names: dict[str, str], path: Path, first_line: int) -> Rows:
    images = _csv_images(batch.column(names["pixels"]), path, first_line)
    labels = [
        label_of(text, f"{path} line {first_line + i}")
        for i, text in enumerate(batch.column(names["emotion"]).to_pylist())
    ]
    usages = [0] * batch.num_rows
    if "usage" in names:
        usages = [
            usage_of(text, f"{path} line {first_line + i}")
            for i, text in enumerate(batch.column(names["usage"]).to_pylist())
        ]
    return Rows(images, np.array(labels, np.int64), np.array(usages, np.uint8))


def _csv_images(column: Any, path: Path, first_line: int) -> NDArray[np.uint8]:
    words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(column))
    lengths = pc.list_value_length(words).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != PIXELS)
    if wrong.size:
        found = 0 if words[int(wrong[0])].as_py() == [""] else int(lengths[wrong[0]])
        raise UserError(
            f"a row needs {PIXELS} pixels ({SIZE}x{SIZE}), got {found}: "
            f"{path} line {first_line + wrong[0]}"
        )
    try:
        images = pc.cast(words.flatten(), pa.uint8()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        row, word = next(
            (row, word)
            for row, texts in enumerate(words)
            for word in texts.as_py()
            if not (word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 255)
        )
        raise UserError(
            f"a pixel must be an integer in 0..255, got {word[:20]!r}: "
            f"{path} line {first_line + row}"
        ) from None
    pixels: NDArray[np.uint8] = images.reshape(-1, SIZE, SIZE)
    return pixels


def label_of(text: str, place: str) -> int:
    """The class index of `text`: a digit or an emotion's name. Raises UserError."""
    word = text.strip().lower()
    if word in EMOTIONS:
        return EMOTIONS.index(word)
    if len(word) == 1 and word in "0123456":
        return int(word)
    raise UserError(f"a label must be in 0..6 or an emotion's name, got {text[:40]!r}: {place}")


def usage_of(text: str, place: str) -> int:
    """The index in USAGES of `text`. Raises UserError."""
    word = text.strip().lower()
    for index, usage in enumerate(USAGES):
        if word == usage.lower():
            return index
    if word == "train":
        return 0
    raise UserError(f"a usage must be one of {', '.join(USAGES)}, got {text[:40]!r}: {place}")


def check_count(images: int, path: Path) -> None:
    """Raises UserError if a table has more images than are read."""
    if images > MAX_IMAGES:
        raise UserError(f"at most {MAX_IMAGES:,} images are read: {path} has more")


def concatenate(parts: list[Rows], path: Path) -> Rows:
    """All rows of a table. Raises UserError if there are none."""
    if not parts or not sum(len(part.labels) for part in parts):
        raise UserError(f"the file holds no rows: {path}")
    images, labels, usages, scaled = zip(*parts, strict=True)
    return Rows(
        np.concatenate(images), np.concatenate(labels), np.concatenate(usages), sum(scaled, ())
    )
