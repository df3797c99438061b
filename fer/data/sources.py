"""Locate the data set at a path: a table, tables of splits and shards, or image folders."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fer.data.folders import Scan, entries_of, is_folder_form, is_system, scan
from fer.data.names import listed, usage_of
from fer.data.parquet import is_index
from fer.data.shards import part_of, together
from fer.data.tables import is_labelled_csv
from fer.errors import UserError

FORMS = (
    "train.csv, fer2013.csv, icml_face_data.csv, parquet files with encoded images, or folders "
    "train/ and test/ of folders angry/, disgust/, fear/, happy/, sad/, surprise/, neutral/"
)
DEPTH = 2
"""How many levels of folders to search."""
WHOLE = ("fer2013.csv", "icml_face_data.csv")
"""Files with all splits: the first one present is the data set, whatever is next to it."""
TEXT = (".csv", ".tsv", ".txt")
PARQUET = (".parquet",)
DATA = (*TEXT[:2], *PARQUET, ".zip", ".tar", ".gz", ".tgz", ".npz", ".npy", ".h5", ".arrow")
"""Suffixes of files that may look like part of the data set."""


@dataclass(frozen=True)
class Source:
    """Tables, each with the usage from its name, or image folders; and notes."""

    place: Path
    tables: list[tuple[Path, str | None]] = field(default_factory=list)
    folders: Scan | None = None
    notes: tuple[str, ...] = ()

    def files(self) -> list[str]:
        """Return all files that the data set depends on."""
        if self.folders is None:
            return [str(table.resolve()) for table, _ in self.tables]
        return [str(self.place.resolve()), *(path for path, _, _ in self.folders.files)]

    def taken_for(self) -> list[str]:
        """Return the usages from the tables' names."""
        return [usage for _, usage in self.tables if usage is not None]


def locate(path: Path) -> Source:
    """Locate the data set at `path`, or at most two folders down.

    Raises UserError if there is none, it is incomplete, or it is ambiguous.
    """
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if path.is_file():
        return _one_table(path)
    if not path.is_dir():
        raise UserError(f"neither a file nor a folder: {path}")
    level = [path]
    for depth in range(DEPTH + 1):
        found = [source for folder in level if (source := _look_into(folder)) is not None]
        if len(found) > 1:
            raise UserError(_which(found, path))
        if found:
            below = (f"read from {found[0].place}",) if depth else ()
            return replace(found[0], notes=(*below, *found[0].notes))
        level = [Path(child) for folder in level for child in _subfolders(folder)]
    names = [entry.name for entry in entries_of(path)]
    digits = any(name.isdecimal() for name in names)
    raise UserError(
        f"no supported format of FER-2013 ({FORMS}): {path} has {listed(names) or 'nothing'}"
        + ("; folders named with only digits are ambiguous" if digits else "")
    )


def _one_table(path: Path) -> Source:
    """Return a single table, with a note if it seems to be one of several numbered shards."""
    part = part_of(path)
    notes: list[str] = []
    if part.number is not None and part.total is None:
        others = [
            file.name
            for file in path.parent.glob(f"*{path.suffix}")
            if file != path and part_of(file)._replace(number=part.number) == part
        ]
        if others:
            notes = [f"in {path.parent} only {path.name} is read, not {listed(sorted(others))}"]
    return Source(path, together([path], path.parent), notes=tuple(notes))


def _look_into(folder: Path) -> Source | None:
    """Return the data set directly in a folder, or None.

    Raises UserError if it is ambiguous or incomplete.
    """
    tables = [Path(entry.path) for entry in entries_of(folder) if _is_table(entry)]
    has_folders = is_folder_form(folder)
    if has_folders:  # ignore indexes without images
        tables = [file for file in tables if not is_index(file)]
    first = next((file for name in WHOLE for file in tables if file.name.lower() == name), None)
    if first is not None:
        tables = [first]
    if not tables and has_folders:
        found = scan(folder)
        return Source(folder, folders=found, notes=tuple(found.notes))
    in_splits = not tables
    if in_splits:
        tables = [
            Path(file.path)
            for entry in entries_of(folder)
            if entry.is_dir() and usage_of(entry.name)
            for file in entries_of(entry.path)
            if _is_table(file, PARQUET)
        ]
    if not tables:
        return None
    chosen = together(tables, folder, in_splits)
    return Source(folder, chosen, notes=_beside(folder, tables))


def _is_table(entry: os.DirEntry[str], endings: tuple[str, ...] = (*TEXT, *PARQUET)) -> bool:
    suffix = Path(entry.name).suffix.lower()
    if suffix not in endings or is_system(entry.name) or not entry.is_file():
        return False
    return suffix in PARQUET or is_labelled_csv(Path(entry.path))


def _beside(folder: Path, tables: Iterable[Path]) -> tuple[str, ...]:
    """Return a note about entries that look like part of the data set but are not read."""
    read = {str(table) for table in tables} | {str(table.parent) for table in tables}
    others = [
        entry.name + ("/" if entry.is_dir() else "")
        for entry in entries_of(folder)
        if entry.path not in read
        and not is_system(entry.name)
        and (entry.is_dir() or Path(entry.name).suffix.lower() in DATA)
    ]
    names = listed(sorted(Path(name).name for name in read if name != str(folder)))
    return (f"{listed(others)} next to {names} ignored: {folder}",) if others else ()


def _subfolders(folder: Path) -> list[str]:
    return [
        entry.path for entry in entries_of(folder) if entry.is_dir() and not is_system(entry.name)
    ]


def _which(found: list[Source], path: Path) -> str:
    """Return the message for several possible folders."""
    names = listed(str(source.place) for source in found)
    hint = ""
    if all(source.folders and not usage_of(source.place.name) for source in found):
        hint = ", or name folders after their splits: train, validation, test"
    return f"{len(found)} data sets, give one of them{hint}; there are {names}: {path}"
