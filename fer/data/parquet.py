"""FER-2013 as parquet files with encoded images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from fer.config import EMOTIONS
from fer.data.decode import MAX_BYTES, decode
from fer.data.faces import MAX_IMAGES
from fer.data.names import label_column, usage_column
from fer.data.tables import (
    LABELS,
    USAGE,
    Rows,
    check_count,
    columns_of,
    concatenate,
    first_of,
    missing,
    native_file,
)
from fer.errors import UserError

MAX_GROUP = 512 << 20
"""Maximum uncompressed bytes of a row group, checked before reading."""
MAX_TEXT = 1000
"""Maximum bytes of a label or usage."""
# Exceptions that PyArrow raises on damaged files; ValueError includes invalid UTF-8.
BROKEN = (pa.ArrowException, OSError, MemoryError, ValueError, KeyError, OverflowError)


IMAGES = ("image", "img_bytes")  # names of the column, in order of preference
BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
LABEL = (pa.types.is_integer, *TEXT)


class Columns(NamedTuple):
    """Columns to read, by their paths in the file, and the meaning of numbers in `label`."""

    image: str
    label: str
    usage: str | None
    class_names: list[str] | None


def read_parquet(path: Path) -> Rows:
    """Read a parquet file with encoded images.

    The image column is `image` or `img_bytes` (bytes, or a struct with `bytes`). The label column
    is `emotion` (0..6), or `label`/`labels` with class names, as text or in the file's metadata.
    `usage` or `split` is optional. Raises UserError naming the row that breaks a rule.
    """
    parts: list[Rows] = []
    usages = usage_column()
    row = 1
    with native_file(path) as file:
        columns = _columns(file, path)
        labels = label_column(columns.label)
        for batch in _batches(file, columns, path):
            of_usage = None
            if columns.usage is not None:
                words = list(map(str, _values(_column(batch, columns.usage), path)))
                of_usage = usages.look_up(words, "row", row).astype(np.uint8)
            of_label = labels.look_up(_label_words(batch, columns, path, row), "row", row)
            # After an unknown label, only look for more of them.
            if not labels.unknown and not usages.unknown:
                images, scaled = _images(batch, columns, path, row)
                parts.append(Rows(images, of_label, of_usage, scaled))
            row += batch.num_rows
            check_count(row - 1, path)
    labels.check(path)
    usages.check(path)
    return concatenate(parts, path)


def is_index(path: Path) -> bool:
    """Whether a table is a valid parquet file without images."""
    if path.suffix.lower() != ".parquet":
        return False
    try:
        with native_file(path) as file:
            names = columns_of(pyarrow.parquet.ParquetFile(file).schema_arrow.names, path)
    except (UserError, *BROKEN):
        return False
    return first_of(IMAGES, names) is None


def _columns(file: Any, path: Path) -> Columns:
    """Return the columns to read after checking their types. May raise UserError."""
    try:
        schema = pyarrow.parquet.ParquetFile(file).schema_arrow
        names = columns_of(schema.names, path)
    except BROKEN as error:
        raise _invalid(path, error) from None
    image, label = first_of(IMAGES, names), first_of(LABELS, names)
    if image is None or label is None:
        raise missing("image" if image is None else "emotion", names, path)
    usage = first_of(USAGE, names)
    class_names = _huggingface_classes(schema, label)
    # Digits alone have a meaning only in a column called "emotion".
    is_own = label.strip().lower() == "emotion"
    if class_names is not None and not is_own and not any(map(_is_word, class_names)):
        class_names = None
    kind = schema.field(image).type
    content = image
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, content = kind.field("bytes").type, f"{image}.bytes"
    _check_type(image, kind, "encoded images", BINARY, path)
    numbers = _check_type(label, schema.field(label).type, "integers or text", LABEL, path)
    if numbers and class_names is None and not is_own:
        raise UserError(
            f"column {label!r} contains numbers without class names, and their order is "
            f"unknown; name it 'emotion' if 0..6 are {', '.join(EMOTIONS)}: {path}"
        )
    if usage is not None:
        _check_type(usage, schema.field(usage).type, "text", TEXT, path)
    return Columns(content, label, usage, class_names)


def _check_type(name: str, kind: Any, wanted: str, allowed: tuple[Any, ...], path: Path) -> bool:
    """Return whether the values are integers. Raise UserError if the type is not allowed."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_it(value) for is_it in allowed):
        raise UserError(f"column {name!r} must contain {wanted}, not {str(kind)[:100]}: {path}")
    return bool(pa.types.is_integer(value))


def _batches(file: Any, columns: Columns, path: Path) -> Iterator[Any]:
    """Yield batches of the columns, at most a row group at a time. May raise UserError."""
    wanted = [name for name in columns[:3] if name is not None]
    try:
        # As dictionaries, so that values shared by many rows are in memory once.
        reader = pyarrow.parquet.ParquetFile(file, read_dictionary=wanted)
        check_count(reader.metadata.num_rows, path)
        for number in range(reader.num_row_groups):
            # Do not read sizes of single columns: PyArrow aborts if they are damaged.
            size = reader.metadata.row_group(number).total_byte_size
            if size > MAX_GROUP:
                raise UserError(
                    f"row group {number + 1} has {size:,} bytes, at most {MAX_GROUP:,} are "
                    f"allowed: {path}"
                )
            try:
                batches = iter(list(reader.iter_batches(MAX_IMAGES, [number], wanted)))
            except OSError as error:
                if "Not yet implemented" not in str(error):
                    raise
                # Delta encodings share values too, but not as dictionaries: read a few rows.
                plain = pyarrow.parquet.ParquetFile(file)
                batches = plain.iter_batches(4, [number], wanted)
            for batch in batches:
                batch.validate(full=True)  # PyArrow does not check dictionary indices itself
                if batch.num_rows:
                    yield batch
    except BROKEN as error:
        raise _invalid(path, error) from None


def _images(
    batch: Any, columns: Columns, path: Path, first_row: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode the images [N, 48, 48] of a batch; also return which were scaled."""
    faces: dict[int | None, tuple[NDArray[np.uint8], str]] = {}  # decoded once each
    contents, places = _distinct(_column(batch, columns.image))
    for i, place in enumerate(places):
        if place not in faces:
            content = None if place is None else contents[place].as_buffer()
            faces[place] = _face(content, f"{path} row {first_row + i}")
    images, sizes = zip(*(faces[place] for place in places), strict=True)
    return np.stack(images), tuple(filter(None, sizes))


def _label_words(batch: Any, columns: Columns, path: Path, first_row: int) -> list[str]:
    """Return the labels of a batch as text, with numbers replaced by the file's class names."""
    values = _values(_column(batch, columns.label), path)
    names = columns.class_names
    if names is not None:
        for i, value in enumerate(values):
            if not isinstance(value, int):
                continue
            if not 0 <= value < len(names):
                raise UserError(
                    f"a label must be in 0..{len(names) - 1}, got {value}: "
                    f"{path} row {first_row + i}"
                )
            values[i] = names[value]
    return list(map(str, values))


def _face(content: Any, row: str) -> tuple[NDArray[np.uint8], str]:
    if content is None:
        raise UserError(f"an encoded image was expected, got None: {row}")
    if content.size > MAX_BYTES:
        raise UserError(
            f"an image of {content.size:,} bytes, at most {MAX_BYTES:,} are allowed: {row}"
        )
    return decode(content.to_pybytes(), row)


def _column(batch: Any, name: str) -> Any:
    column = batch.column(name.split(".")[0])
    return column.flatten()[0] if pa.types.is_struct(column.type) else column


def _distinct(column: Any) -> tuple[Any, list[int | None]]:
    """Return the distinct values of a column, and the index of each row's value."""
    if pa.types.is_dictionary(column.type):
        return column.dictionary, column.indices.to_pylist()
    return column, list(range(len(column)))


def _values(column: Any, path: Path) -> list[Any]:
    """Return labels or usages of a batch. Raise UserError if they are too long or not UTF-8."""
    distinct, places = _distinct(column)
    try:
        if not pa.types.is_integer(distinct.type):
            longest = pc.max(pc.binary_length(distinct)).as_py() or 0
            if longest > MAX_TEXT:
                raise UserError(
                    f"a label or usage of {longest:,} bytes, at most {MAX_TEXT:,} allowed: {path}"
                )
        values = distinct.to_pylist()
    except BROKEN as error:
        raise _invalid(path, error) from None
    return [None if place is None else values[place] for place in places]


def _huggingface_classes(schema: Any, label: str) -> list[str] | None:
    """Return a column's class names from Hugging Face metadata, or None."""
    try:
        names = json.loads((schema.metadata or {}).get(b"huggingface", b"null"))
    except (ValueError, RecursionError):
        return None
    for key in ("info", "features", label, "names"):
        names = names.get(key) if isinstance(names, dict) else None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list and names else None


def _is_word(name: str) -> bool:
    return any(letter.isalpha() for letter in name)


def _invalid(path: Path, error: Exception) -> UserError:
    return UserError(f"not a valid parquet file: {path}: {str(error)[:200]}")
