"""FER-2013 as Kaggle's CSV files, and rows shared by all tables."""

import codecs
import contextlib
import csv
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from fer.data.decode import SIZE
from fer.data.faces import MAX_IMAGES
from fer.data.names import label_column, listed, usage_column
from fer.errors import UserError

PIXELS = SIZE * SIZE
BLOCK = 16 << 20  # bytes parsed at a time; also the maximum line length
MAX_RECODED = 2 << 30  # bytes of a file that is not UTF-8
HEADER = 4096  # bytes; a longer first line is not a header
SEPARATORS = ",;\t|"
UTF_16 = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
UTF_32 = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}

# Names of a column, in order of preference.
LABELS = ("emotion", "label", "labels")
USAGE = ("usage", "split", "set", "subset", "partition")


class Rows(NamedTuple):
    """Content of a file, in file order: images uint8 [N, 48, 48], labels int64 [N], usages uint8
    [N] or None if missing, and which images were scaled from another size."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    usages: NDArray[np.uint8] | None
    scaled: tuple[str, ...] = ()


class Header(NamedTuple):
    """Column names of a CSV file as written (empty if it is not one), encoding and separator."""

    names: list[str]
    encoding: str = "utf-8"
    separator: str = ","

    def plain(self) -> set[str]:
        """Return the names in lower case, without surrounding spaces."""
        return {name.strip().lower() for name in self.names}


def native_file(path: Path) -> Any:
    """Open a file for PyArrow; the path may contain any bytes. Raise OSError on failure.

    A Python file would not do: PyArrow's read-ahead threads may call it while the interpreter
    exits, which aborts the process (exit code 134).
    """
    return pa.OSFile(os.fsencode(path))


def csv_header(path: Path) -> Header:
    """Parse the header line of a CSV file."""
    with path.open("rb") as file:
        start = file.read(HEADER)
    encoding = _encoding(start)
    text = start.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors="replace")
    line, *rest = re.split(r"[\r\n]", text, maxsplit=1)
    if (len(start) == HEADER and not rest) or "\0" in line or "\ufffd" in line:
        return Header([])
    try:
        each = [
            Header(next(csv.reader([line], delimiter=separator), []), encoding, separator)
            for separator in SEPARATORS
        ]
    except csv.Error:
        return Header([])
    return max(each, key=lambda header: len({"pixels", *LABELS, *USAGE} & header.plain()))


def _encoding(start: bytes) -> str:
    """Detect the encoding of a text from its byte order mark, else from its zero bytes."""
    for mark, encoding in {**UTF_32, **UTF_16}.items():
        if start.startswith(mark):
            return encoding
    if start[1:2] == b"\0" and start[:1] != b"\0":
        return "utf-16-le"
    if start[:1] == b"\0" and start[1:2] != b"\0":
        return "utf-16-be"
    return "utf-8"


def columns_of(names: list[str], path: Path) -> dict[str, str]:
    """Map normalised names (lower case, no surrounding spaces) to the names as written.

    Raises UserError if two are the same.
    """
    columns: dict[str, str] = {}
    for name in names:
        plain = name.strip().lower()
        if plain in columns:
            raise UserError(f"column {plain[:40]!r} appears twice: {path}")
        columns[plain] = name
    return columns


def first_of(wanted: Sequence[str], columns: dict[str, str]) -> str | None:
    """Return the column, as written, of the first normalised name that is present."""
    return next((columns[name] for name in wanted if name in columns), None)


def missing(column: str, columns: dict[str, str], path: Path) -> UserError:
    """Return the error for a missing column."""
    return UserError(f"column {column!r} is missing: {path} has {listed(columns)}")


def is_labelled_csv(path: Path) -> bool:
    """Whether a file is a CSV file with `pixels` and labels."""
    names = csv_header(path).plain()
    return "pixels" in names and not names.isdisjoint(LABELS)


def lacks_labels(path: Path) -> bool:
    """Whether a file is a CSV file with `pixels` but no labels, such as Kaggle's `test.csv`."""
    names = csv_header(path).plain()
    return "pixels" in names and names.isdisjoint(LABELS)


def read_csv(path: Path) -> Rows:
    """Read Kaggle's `train.csv`, `fer2013.csv` or `icml_face_data.csv`.

    Columns: `emotion` (0..6, or names; `label` must have names), `pixels` (2,304 integers in
    0..255, separated by spaces) and optionally `Usage`, in any order and with spaces around
    their names allowed. The separator is comma, semicolon, tab or bar; the encoding UTF-8, UTF-16
    or UTF-32. Raises UserError naming the line that breaks a rule.
    """
    header = csv_header(path)
    columns = columns_of(header.names, path)
    label, usage = first_of(LABELS, columns), first_of(USAGE, columns)
    if label is None or "pixels" not in columns:
        raise missing("emotion" if label is None else "pixels", columns, path)
    names = [name for name in (label, columns["pixels"], usage) if name is not None]
    labels, usages = label_column(label), usage_column()
    parts = []
    for batch, first in _csv_batches(path, header, names):
        of_usage = None
        if usage is not None:
            words = batch.column(usage).to_pylist()
            of_usage = usages.look_up(words, "line", first).astype(np.uint8)
        of_label = labels.look_up(batch.column(label).to_pylist(), "line", first)
        images = _csv_images(batch.column(columns["pixels"]), path, first)
        parts.append(Rows(images, of_label, of_usage))
    labels.check(path)
    usages.check(path)
    return concatenate(parts, path)


def read_unlabelled_csv(path: Path) -> NDArray[np.uint8]:
    """Read the images [N, 48, 48] of the column `pixels` in file order, ignoring other columns.

    Raises UserError naming the line that breaks a rule.
    """
    header = csv_header(path)
    name = columns_of(header.names, path)["pixels"]
    parts = [
        _csv_images(batch.column(name), path, first_line)
        for batch, first_line in _csv_batches(path, header, [name])
    ]
    if not sum(map(len, parts)):
        raise UserError(f"the file holds no rows: {path}")
    return np.concatenate(parts)


@contextlib.contextmanager
def _in_utf_8(path: Path, encoding: str) -> Iterator[Any]:
    """Open a CSV file for PyArrow, converted to UTF-8 in a temporary copy if needed.

    PyArrow would convert other encodings through Python, see `native_file`. Raises UserError if
    the file needs conversion and is very large.
    """
    if encoding == "utf-8":
        with native_file(path) as file:
            yield file
        return
    size = path.stat().st_size
    if size > MAX_RECODED:
        raise UserError(
            f"a file of {size:,} bytes in {encoding.upper()}, at most {MAX_RECODED:,} are "
            f"allowed; save it as UTF-8: {path}"
        )
    with (
        path.open(encoding=encoding, newline="") as text,
        tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as copy,
    ):
        shutil.copyfileobj(text, copy, BLOCK)
        copy.flush()
        with native_file(Path(copy.name)) as file:
            yield file


def _csv_batches(path: Path, header: Header, wanted: list[str]) -> Iterator[tuple[Any, int]]:
    """Yield batches of the columns `wanted` as text, each with its first line number.

    Raises UserError if it is not a CSV file or has too many rows.
    """
    first_line = 2
    try:
        with (
            _in_utf_8(path, header.encoding) as file,
            pyarrow.csv.open_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
                parse_options=pyarrow.csv.ParseOptions(delimiter=header.separator),
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
    except (pa.ArrowException, UnicodeError) as error:
        raise UserError(f"not a valid CSV file: {path}: {str(error)[:120]}") from None


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


def check_count(images: int, path: Path) -> None:
    """Raise UserError if a table has too many images."""
    if images > MAX_IMAGES:
        raise UserError(f"at most {MAX_IMAGES:,} images are allowed: {path} has more")


def concatenate(parts: list[Rows], path: Path) -> Rows:
    """Concatenate the rows of a table. Raise UserError if there are none."""
    if not parts or not sum(len(part.labels) for part in parts):
        raise UserError(f"the file holds no rows: {path}")
    images, labels, usages, scaled = zip(*parts, strict=True)
    check_count(sum(map(len, labels)), path)
    return Rows(
        np.concatenate(images),
        np.concatenate(labels),
        None if usages[0] is None else np.concatenate(usages),
        sum(scaled, ()),
    )
