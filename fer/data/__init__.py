"""FER-2013 from whatever form it is in, always as the same data set."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fer.command import printable
from fer.data import cache
from fer.data.demo import demo_faces
from fer.data.faces import USAGES, Dataset, Faces, canonical
from fer.data.folders import image_files, is_folder_form, read_folders
from fer.data.parquet import read_parquet
from fer.data.split import (
    SEED,
    Split,
    draw_subset,
    split,
    split_in_words,
    twin_groups,
    validated,
)
from fer.data.tables import Rows, csv_header, read_csv
from fer.errors import UserError

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
    "split",
    "split_in_words",
    "twin_groups",
    "validated",
]

FORMS = (
    "train.csv, fer2013.csv, icml_face_data.csv, a parquet file with encoded images, "
    "train/ and test/ folders of seven emotions, or a folder with fer2013/ in it"
)
ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
DEMO_NOTICE = (
    "No FER-2013 images found (--data, FER_DATA, ./data): using drawn DEMO FACES. "
    "Demo results say nothing about FER-2013."
)


def load(data: Path | None, remove: Sequence[str] = (), how: Split = "grouped") -> Dataset:
    """The data set at `data`, else at the environment variable FER_DATA, else in `./data`, else
    the demo faces with a loud line on stderr; without the classes `remove`, and in the order of
    its file where it is to be split in that.

    Raises UserError if what is there cannot be read as one of the known forms.
    """
    return arranged(find(data), remove, how)


def arranged(dataset: Dataset, remove: Sequence[str], how: Split) -> Dataset:
    """A whole data set as `load` returns it. Raises UserError for classes that it has not."""
    return (dataset.in_file_order() if how == "file-order" else dataset).without(remove)


def find(data: Path | None) -> Dataset:
    """The whole data set that `load` means."""
    if data is None and os.environ.get("FER_DATA"):
        data = Path(os.environ["FER_DATA"])
    if data is None and Path("data").exists():
        data = Path("data")
    if data is None:
        print(DEMO_NOTICE, file=sys.stderr)
        return demo_faces()
    dataset = read(data)
    if dataset.note:
        print(printable(f"note: {dataset.note}"), file=sys.stderr)
    return dataset


def read(path: Path) -> Dataset:
    """The data set at `path`, through the cache. The form is recognised by content."""
    try:
        source = locate(path)
        folder_form = source.is_dir()
        files = [file for file, _, _ in image_files(source)] if folder_form else []
        kept = cache.cache_file([str(source.resolve()), *files])
        dataset = cache.load(kept, name="fer2013")
        if dataset is not None:
            return dataset
        rows = read_folders(source) if folder_form else read_table(source)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}") from None
    dataset = canonical("fer2013", *rows)
    try:
        cache.store(dataset, kept)
    except UserError as error:
        print(printable(f"warning: the next start reads the data anew: {error}"), file=sys.stderr)
    return dataset


def locate(path: Path) -> Path:
    """The table file or the root of the image folders at `path`. Raises UserError."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if path.is_file():
        return path
    if (path / "fer2013").is_dir():
        path = path / "fer2013"
    # torchvision's order of preference.
    for name in ("fer2013.csv", "icml_face_data.csv", "train.csv"):
        if (path / name).is_file():
            return path / name
    if is_folder_form(path):
        return path
    if not path.is_dir():
        raise UserError(f"neither a file nor a folder: {path}")
    tables = sorted(table for table in path.glob("*.parquet") if table.is_file())
    if len(tables) == 1:
        return tables[0]
    if len(tables) > 1:
        raise UserError(f"{len(tables)} parquet files, name one of them: {path}")
    raise UserError(f"no known form of FER-2013 ({FORMS}): {path}")


def read_table(path: Path) -> Rows:
    """The rows of a CSV or parquet file, told apart by how it begins."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise UserError(f"the file is empty: {path}")
    if start.startswith(b"PAR1"):
        return read_parquet(path)
    kinds = [kind for magic, kind in ARCHIVES.items() if start.startswith(magic)]
    if kinds or start[257:262] == b"ustar":
        raise UserError(f"unpack it first, this is a {(*kinds, 'tar')[0]} archive: {path}")
    if {"emotion", "pixels"} & {name.strip().lower() for name in csv_header(path)}:
        return read_csv(path)
    raise UserError(f"no known form of FER-2013 ({FORMS}): {path}")
