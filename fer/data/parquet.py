"""FER-2013 as parquet with encoded images."""

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
from fer.data.tables import (
    Rows,
    check_count,
    columns_of,
    concatenate,
    label_of,
    native_file,
    usage_of,
)
from fer.errors import UserError

MAX_GROUP = 512 << 20
"""Bytes of one column in one row group, unpacked; more is refused before it is read."""
MAX_TEXT = 1000
"""Bytes of a label or a usage."""
# What PyArrow raises on damaged files; ValueError has what is no UTF-8 among it.
BROKEN = (pa.ArrowException, OSError, MemoryError, ValueError, KeyError, OverflowError)


BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
LABELS = (pa.types.is_integer, *TEXT)


class Columns(NamedTuple):
    """The columns that are read, by their paths in the file, and what numbers in `label` mean."""

    image: str
    label: str
    usage: str | None
    class_names: list[str] | None


def read_parquet(path: Path) -> Rows:
    """Parquet with encoded images.

    The image column is `image` or `img_bytes` (bytes, or a struct with `bytes`); the label
    column is `emotion` (0..6) or `label`/`labels` with class names, either as text or in the
    file's own metadata; `usage` is optional. Raises UserError naming the row that breaks a rule.
    """
    parts: list[Rows] = []
    row = 1
    with native_file(path) as file:
        columns = _columns(file, path)
        for batch in _batches(file, columns, path):
            parts.append(_rows(batch, columns, path, row))
            row += batch.num_rows
            check_count(row - 1, path)
    return concatenate(parts, path)


def _columns(file: Any, path: Path) -> Columns:
    """The columns to read, of types that can be. Raises UserError."""
    try:
        schema = pyarrow.parquet.ParquetFile(file).schema_arrow
        names = columns_of(schema.names, path)
    except BROKEN as error:
        raise _invalid(path, error) from None
    image = next((names[n] for n in ("image", "img_bytes") if n in names), None)
    label = next((names[n] for n in ("emotion", "label", "labels") if n in names), None)
    if image is None or label is None:
        missing = "image" if image is None else "emotion"
        raise UserError(f"column {missing!r} is missing: {path} has {', '.join(names)[:400]}")
    usage = names.get("usage", names.get("split"))
    class_names = _huggingface_classes(schema, label)
    kind = schema.field(image).type
    content = image
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, content = kind.field("bytes").type, f"{image}.bytes"
    _check_type(image, kind, "encoded images", BINARY, path)
    numbers = _check_type(label, schema.field(label).type, "integers or text", LABELS, path)
    if numbers and class_names is None and label.strip().lower() != "emotion":
        raise UserError(
            f"column {label!r} holds numbers without class names, and their order is "
            f"unknown; name it 'emotion' if 0..6 are {', '.join(EMOTIONS)}: {path}"
        )
    if usage is not None:
        _check_type(usage, schema.field(usage).type, "text", TEXT, path)
    return Columns(content, label, usage, class_names)


def _check_type(name: str, kind: Any, wanted: str, allowed: tuple[Any, ...], path: Path) -> bool:
    """Whether the values are integers. Raises UserError if they are of no allowed type."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_it(value) for is_it in allowed):
        raise UserError(f"column {name!r} must hold {wanted}, not {str(kind)[:100]}: {path}")
    return bool(pa.types.is_integer(value))


def _batches(file: Any, columns: Columns, path: Path) -> Iterator[Any]:
    """The wanted columns, at most a row group at a time. Raises UserError."""
    wanted = [name for name in columns[:3] if name is not None]
    try:
        # As dictionaries, values that many rows share are one in memory.
        reader = pyarrow.parquet.ParquetFile(file, read_dictionary=wanted)
        check_count(reader.metadata.num_rows, path)
        for number in range(reader.num_row_groups):
            # The sizes of single columns are not asked for: PyArrow aborts where they are damaged.
            size = reader.metadata.row_group(number).total_byte_size
            if size > MAX_GROUP:
                raise UserError(
                    f"row group {number + 1} has {size:,} bytes, at most {MAX_GROUP:,} are read: "
                    f"{path}"
                )
            try:
                batches = iter(list(reader.iter_batches(MAX_IMAGES, [number], wanted)))
            except OSError as error:
                if "Not yet implemented" not in str(error):
                    raise
                # Delta encodings share values too, but not as dictionaries: few rows at a time.
                plain = pyarrow.parquet.ParquetFile(file)
                batches = plain.iter_batches(4, [number], wanted)
            for batch in batches:
                batch.validate(full=True)  # PyArrow looks up no place in a dictionary by itself
                yield batch
    except BROKEN as error:
        raise _invalid(path, error) from None


def _rows(batch: Any, columns: Columns, path: Path, first_row: int) -> Rows:
    faces: dict[int | None, tuple[NDArray[np.uint8], str]] = {}  # each is decoded once
    images, labels, usages, sizes = [], [], [], []
    contents, places = _distinct(_column(batch, columns.image))
    label_values = _values(_column(batch, columns.label), path)
    usage_values = ["train"] * batch.num_rows
    if columns.usage is not None:
        usage_values = _values(_column(batch, columns.usage), path)
    names = columns.class_names
    for i, place in enumerate(places):
        row = f"{path} row {first_row + i}"
        if place not in faces:
            faces[place] = _face(None if place is None else contents[place].as_buffer(), row)
        image, size = faces[place]
        images.append(image)
        sizes.append(size)
        value = label_values[i]
        if names is not None and isinstance(value, int):
            if not 0 <= value < len(names):
                raise UserError(f"a label must be in 0..{len(names) - 1}, got {value}: {row}")
            value = names[value]
        labels.append(label_of(str(value), row))
        usages.append(usage_of(str(usage_values[i]), row))
    scaled = tuple(filter(None, sizes))
    return Rows(np.stack(images), np.array(labels, np.int64), np.array(usages, np.uint8), scaled)


def _face(content: Any, row: str) -> tuple[NDArray[np.uint8], str]:
    if content is None:
        raise UserError(f"an encoded image was expected, got None: {row}")
    if content.size > MAX_BYTES:
        raise UserError(
            f"an image of {content.size:,} bytes, at most {MAX_BYTES:,} are read: {row}"
        )
    return decode(content.to_pybytes(), row)


def _column(batch: Any, name: str) -> Any:
    column = batch.column(name.split(".")[0])
    return column.flatten()[0] if pa.types.is_struct(column.type) else column


def _distinct(column: Any) -> tuple[Any, list[int | None]]:
    """The distinct values of a column, and for each row which one it has."""
    if pa.types.is_dictionary(column.type):
        return column.dictionary, column.indices.to_pylist()
    return column, list(range(len(column)))


def _values(column: Any, path: Path) -> list[Any]:
    """The labels or usages of some rows. Raises UserError if they are long or no UTF-8."""
    distinct, places = _distinct(column)
    try:
        if not pa.types.is_integer(distinct.type):
            longest = pc.max(pc.binary_length(distinct)).as_py() or 0
            if longest > MAX_TEXT:
                raise UserError(
                    f"a label or usage of {longest:,} bytes, at most {MAX_TEXT:,} are read: {path}"
                )
        values = distinct.to_pylist()
    except BROKEN as error:
        raise _invalid(path, error) from None
    return [None if place is None else values[place] for place in places]


def _huggingface_classes(schema: Any, label: str) -> list[str] | None:
    """The class names that the Hugging Face's metadata has for a column, if it has any."""
    try:
        names = json.loads((schema.metadata or {}).get(b"huggingface", b"null"))
    except (ValueError, RecursionError):
        return None
    for key in ("info", "features", label, "names"):
        names = names.get(key) if isinstance(names, dict) else None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list and names else None


def _invalid(path: Path, error: Exception) -> UserError:
    return UserError(f"not a valid parquet file: {path}: {str(error)[:200]}")
