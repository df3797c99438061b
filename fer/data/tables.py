"""FER-2013 as tables: Kaggle's CSV files and parquet with encoded images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from fer.config import EMOTIONS
from fer.data.decode import SIZE, decode_face
from fer.data.faces import USAGES
from fer.errors import UserError

PIXELS = SIZE * SIZE
BLOCK = 16 << 20  # bytes parsed at a time; also the longest line that is read


class Rows(NamedTuple):
    """What a file holds, in its own order: uint8 [N, 48, 48], int64 [N], uint8 [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    usages: NDArray[np.uint8]


def csv_header(path: Path) -> list[str]:
    """The column names in a CSV file's first line, as written; empty if it is not text."""
    with path.open("rb") as file:
        line = file.readline(4096)
    try:
        return line.decode("utf-8-sig").rstrip("\r\n").split(",")
    except UnicodeDecodeError:
        return []


def read_csv(path: Path) -> Rows:
    """Kaggle's `train.csv`, `fer2013.csv` or `icml_face_data.csv`.

    Columns `emotion` (0..6), `pixels` (2,304 integers in 0..255, separated by spaces) and
    optionally `Usage`, in any order and with stray spaces around their names. Without `Usage`
    all rows are Training. Raises UserError naming the line that breaks a rule.
    """
    names = {name.strip().lower(): name for name in csv_header(path)}
    for needed in ("emotion", "pixels"):
        if needed not in names:
            raise UserError(f"column {needed!r} is missing: {path} has {', '.join(names)}")
    wanted = [names[name] for name in ("emotion", "pixels", "usage") if name in names]
    parts: list[Rows] = []
    first_line = 2
    try:
        with pyarrow.csv.open_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.string() for name in wanted},
                strings_can_be_null=False,
            ),
        ) as reader:
            for batch in reader:
                parts.append(_csv_rows(batch, names, path, first_line))
                first_line += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise UserError(f"not a valid CSV file: {path}: {str(error)[:200]}") from None
    return _concatenate(parts, path)


def _csv_rows(batch: Any, names: dict[str, str], path: Path, first_line: int) -> Rows:
    words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(batch.column(names["pixels"])))
    lengths = pc.list_value_length(words).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != PIXELS)
    if wrong.size:
        found = 0 if words[int(wrong[0])].as_py() == [""] else int(lengths[wrong[0]])
        raise UserError(
            f"a row needs {PIXELS} pixels, got {found}: {path} line {first_line + wrong[0]}"
        )
    pixels = words.flatten()
    try:
        images = pc.cast(pixels, pa.uint8()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        position, word = next(
            (i, word)
            for i, word in enumerate(pixels.to_pylist())
            if not (word.isascii() and word.isdigit() and int(word) <= 255)
        )
        raise UserError(
            f"a pixel must be an integer in 0..255, got {word[:20]!r}: "
            f"{path} line {first_line + position // PIXELS}"
        ) from None
    labels = [
        _label(text, f"{path} line {first_line + i}")
        for i, text in enumerate(batch.column(names["emotion"]).to_pylist())
    ]
    usages = [0] * batch.num_rows
    if "usage" in names:
        usages = [
            _usage(text, f"{path} line {first_line + i}")
            for i, text in enumerate(batch.column(names["usage"]).to_pylist())
        ]
    return Rows(
        images.reshape(-1, SIZE, SIZE), np.array(labels, np.int64), np.array(usages, np.uint8)
    )


def read_parquet(path: Path) -> Rows:
    """Parquet with encoded images.

    The image column is `image` or `img_bytes` (bytes, or a struct with `bytes`); the label
    column is `emotion` (0..6) or `label`/`labels` with class names, either as text or in the
    file's own metadata; `usage` is optional. Raises UserError naming the row that breaks a rule.
    """
    try:
        file = pyarrow.parquet.ParquetFile(path)
        return _concatenate(list(_parquet_rows(file, path)), path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"not a valid parquet file: {path}: {str(error)[:200]}") from None


def _parquet_rows(file: Any, path: Path) -> Iterator[Rows]:
    names = {name.strip().lower(): name for name in file.schema_arrow.names}
    image = next((names[n] for n in ("image", "img_bytes") if n in names), None)
    label = next((names[n] for n in ("emotion", "label", "labels") if n in names), None)
    if image is None or label is None:
        missing = "image" if image is None else "emotion"
        raise UserError(f"column {missing!r} is missing: {path} has {', '.join(names)}")
    usage = names.get("usage", names.get("split"))
    class_names = _huggingface_classes(file.schema_arrow, label)
    row = 1
    columns = [name for name in (image, label, usage) if name is not None]
    for batch in file.iter_batches(batch_size=4096, columns=columns):
        images, labels, usages = [], [], []
        values = batch.to_pydict()
        for i in range(batch.num_rows):
            place = f"{path} row {row}"
            content = values[image][i]
            content = content.get("bytes") if isinstance(content, dict) else content
            if not isinstance(content, bytes):
                raise UserError(f"an encoded image was expected, got {content!r}: {place}")
            images.append(decode_face(content, place))
            value = values[label][i]
            if class_names is not None and isinstance(value, int):
                if not 0 <= value < len(class_names):
                    raise UserError(
                        f"a label must be in 0..{len(class_names) - 1}, got {value}: {place}"
                    )
                value = class_names[value]
            elif isinstance(value, int) and label.strip().lower() != "emotion":
                raise UserError(
                    f"column {label!r} holds numbers without class names, and their order is "
                    f"unknown; name it 'emotion' if 0..6 are {', '.join(EMOTIONS)}: {path}"
                )
            labels.append(_label(str(value), place))
            usages.append(0 if usage is None else _usage(str(values[usage][i]), place))
            row += 1
        yield Rows(np.stack(images), np.array(labels, np.int64), np.array(usages, np.uint8))


def _huggingface_classes(schema: Any, label: str) -> list[str] | None:
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    feature = json.loads(metadata).get("info", {}).get("features", {}).get(label, {})
    names = feature.get("names")
    return [str(name) for name in names] if isinstance(names, list) else None


def _label(text: str, place: str) -> int:
    word = text.strip().lower()
    if word in EMOTIONS:
        return EMOTIONS.index(word)
    if len(word) == 1 and word in "0123456":
        return int(word)
    raise UserError(f"a label must be in 0..6 or an emotion's name, got {text[:40]!r}: {place}")


def _usage(text: str, place: str) -> int:
    word = text.strip().lower()
    for index, usage in enumerate(USAGES):
        if word == usage.lower():
            return index
    if word == "train":
        return 0
    raise UserError(f"a usage must be one of {', '.join(USAGES)}, got {text[:40]!r}: {place}")


def _concatenate(parts: list[Rows], path: Path) -> Rows:
    if not parts or not sum(len(part.labels) for part in parts):
        raise UserError(f"the file holds no rows: {path}")
    return Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
