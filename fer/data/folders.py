"""FER-2013 as image folders: one per split, with one per emotion in it."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer.config import EMOTIONS
from fer.data.decode import MAX_BYTES, decode
from fer.data.faces import MAX_IMAGES, USAGES
from fer.data.names import MAX_NAMED, emotion_of, listed, near_emotion, near_usage, usage_of
from fer.data.tables import Rows
from fer.errors import UserError
from fer.files import read_file

# Files that may be next to images: system files and descriptions.
SYSTEM = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"),
    *("$recycle.bin", "system volume information", "lost+found"),
}
DESCRIPTIONS = {
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".xlsx", ".db", ".ini"),
    *(".md", ".html", ".log"),
}
PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass
class Scan:
    """Content of a root of image folders. All problems are reported together."""

    root: Path
    files: list[tuple[str, str, int]] = field(default_factory=list)  # path, usage, label
    skipped: Counter[str] = field(default_factory=Counter)  # by name
    notes: list[str] = field(default_factory=list)
    emotions: list[str] = field(default_factory=list)  # folders not named after an emotion
    splits: list[str] = field(default_factory=list)  # folders not named after a split
    astray: list[str] = field(default_factory=list)  # images outside an emotion's folder
    nested: list[str] = field(default_factory=list)  # folders inside an emotion's folder

    def place(self, path: str) -> str:
        """Return a path relative to the root."""
        return os.path.relpath(path, self.root)

    def check(self) -> None:
        """Raise UserError naming everything that cannot be interpreted."""
        problems = []
        if self.emotions:
            places: dict[str, list[str]] = {}
            for each in self.emotions:
                places.setdefault(_name(each), []).append(self.place(os.path.dirname(each)))  # noqa: PTH120
            names = listed(
                f"{name}{near_emotion(name)} in {' and '.join(places)}"
                for name, places in places.items()
            )
            digits = any(name.isdecimal() for name in places)
            problems.append(
                f"a folder must be named after one of {', '.join(EMOTIONS)}; got {names}"
                + (" (names with only digits are ambiguous)" if digits else "")
            )
        if self.splits:
            names = listed(self.place(each) + near_usage(_name(each)) for each in self.splits)
            problems.append(
                f"a folder of images next to train must be named after its split (train, "
                f"validation, test, PublicTest, PrivateTest); got {names}"
            )
        if self.astray:
            names = listed(map(self.place, self.astray))
            problems.append(f"an image must be in the folder of its emotion; got {names}")
        if self.nested:
            names = listed(map(self.place, self.nested))
            problems.append(f"the folder of an emotion must contain only images; got {names}")
        if problems:
            raise UserError(f"{'; '.join(problems)}: {self.root}")


def is_folder_form(folder: Path) -> bool:
    """Whether a folder has split folders with emotion folders, or at least two emotion folders.

    In a training folder any subfolders count, so that misspelt names are reported.
    """
    known = 0
    for entry in entries_of(folder):
        if not entry.is_dir() or is_system(entry.name):
            continue
        known += emotion_of(entry.name) is not None
        usage = usage_of(entry.name)
        if usage is not None and any(
            child.is_dir() and (usage == "Training" or emotion_of(child.name) is not None)
            for child in entries_of(entry.path)
            if not is_system(child.name)
        ):
            return True
    return known >= 2


def scan(root: Path) -> Scan:
    """Scan the image files under `root`, ordered by name; see `is_folder_form`.

    The folder determines the split. In a test folder, or without splits, file name prefixes
    (`Training_`, `PublicTest_`, `PrivateTest_`) determine it if every file has one. Raises
    UserError for folders with unknown names and for too many files.
    """
    found = Scan(root)
    folders = [entry for entry in entries_of(root) if entry.is_dir() and not is_system(entry.name)]
    splits = [(entry.path, usage) for entry in folders if (usage := usage_of(entry.name))]
    if splits:
        _scan_beside(root, found)
    else:
        splits = [(str(root), usage_of(root.resolve().name) or "Training")]
    seen: dict[str, str] = {}
    for folder, usage in splits:
        first = seen.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            found.notes.append(f"{found.place(folder)} is {found.place(first)}: read once")
            continue
        folder = _innermost(folder)
        _scan_split(folder, usage, is_only=folder == str(root), found=found)
    found.check()
    _say_merged({found.place(folder): usage for folder, usage in splits}, found)
    if found.skipped:
        names = listed(
            f"{name} ({count:,})" if count > 1 else name
            for name, count in sorted(found.skipped.items())
        )
        found.notes.append(
            f"{found.skipped.total():,} entries that are not images of the data set were skipped: "
            f"{names}"
        )
    return found


def _innermost(folder: str) -> str:
    """Return the folder that contains the emotions: archives may nest split folders."""
    entries = [entry for entry in entries_of(folder) if not is_system(entry.name)]
    if len(entries) == 1 and entries[0].is_dir() and emotion_of(entries[0].name) is None:
        inner = entries[0].path
        if any(
            child.is_dir() and emotion_of(child.name) is not None for child in entries_of(inner)
        ):
            return inner
    return folder


def _scan_beside(root: Path, found: Scan) -> None:
    """Check the entries next to the split folders: unknown folders must not contain images."""
    for entry in entries_of(root):
        if not entry.is_dir() or is_system(entry.name):
            found.skipped[entry.name] += 1
        elif usage_of(entry.name) is None:
            if _holds_pictures(entry.path):
                found.splits.append(entry.path)
            else:
                found.skipped[f"{entry.name}/"] += 1


def _scan_split(folder: str, usage: str, is_only: bool, found: Scan) -> None:
    """Scan the images of one split; with `is_only` its folder is the root."""
    files: list[tuple[str, int]] = []
    astray: list[str] = []
    classes: dict[int, list[str]] = {}
    for entry in entries_of(folder):
        if _is_skipped(entry):
            found.skipped[entry.name] += 1
        elif not entry.is_dir():
            astray.append(entry.path)
        elif (label := emotion_of(entry.name)) is None:
            found.emotions.append(entry.path)
        else:
            classes.setdefault(label, []).append(entry.name)
            files += ((path, label) for path in _scan_emotion(entry.path, found))
            if len(files) + len(found.files) > MAX_IMAGES:
                raise UserError(f"at most {MAX_IMAGES:,} images are read: {found.root} has more")
    if astray and not classes and usage != "Training":
        found.notes.append(
            f"{_files_are(len(astray), found.place(folder))} not in an emotion's folder: ignored"
        )
        return
    found.astray += astray
    if not files:
        found.notes.append(f"{found.place(folder)} contains no images")
    for label, names in classes.items():
        if len(names) > 1:
            where = found.place(folder)
            found.notes.append(f"{listed(names)} in {where} are read as one: {EMOTIONS[label]}")
    prefixes = [path[path.rfind(os.sep) + 1 :].partition("_")[0] for path, _ in files]
    usable = USAGES[:3] if is_only else USAGES[1:3] if usage == "Test" else ()
    if files and all(prefix in usable for prefix in prefixes):
        usages = prefixes
    else:
        usages = [usage] * len(files)
        strange = {*USAGES[:3]} - {usage, *usable}
        others = sum(prefix in strange for prefix in prefixes)
        if others and usage != "Validation":
            found.notes.append(
                f"{_files_are(others, found.place(folder))} named after another split: the folder "
                f"decides, all are {usage}"
            )
    if is_only and usage == "Training" and usages == [usage] * len(files):
        found.notes.append(f"no split folders: all {len(files):,} images are for training")
    found.files += [
        (path, usage, label) for (path, label), usage in zip(files, usages, strict=True)
    ]


def _files_are(count: int, place: str) -> str:
    """Return the beginning of a note about files in a folder, singular or plural."""
    return f"1 file in {place} is" if count == 1 else f"{count:,} files in {place} are"


def _scan_emotion(folder: str, found: Scan) -> Iterator[str]:
    for entry in entries_of(folder):
        if _is_skipped(entry):
            found.skipped[entry.name] += 1
        elif entry.is_dir():
            found.nested.append(entry.path)
        else:
            yield entry.path


def _say_merged(splits: dict[str, str], found: Scan) -> None:
    """Add a note about folders that are read as one split."""
    for usage in dict.fromkeys(splits.values()):
        same = [folder for folder, each in splits.items() if each == usage]
        if len(same) > 1:
            found.notes.append(f"{listed(same)} are read as one: {usage}")


def read_folders(found: Scan) -> Rows:
    """Read the images of all files. Raise UserError if any is broken or there are none."""
    images, labels, usages, sizes = [], [], [], []
    broken: list[tuple[str, UserError]] = []
    for file, usage, label in found.files:
        try:
            image, size = decode(read_file(file, MAX_BYTES), file)
        except UserError as error:
            broken.append((file, error))
            if len(broken) > MAX_NAMED:
                break
            continue
        images.append(image)
        sizes.append(size)
        labels.append(label)
        usages.append(USAGES.index(usage))
    if broken:
        more = [found.place(file) for file, _ in broken[1:]]
        raise UserError(f"{broken[0][1]}" + (f"; also unreadable: {listed(more)}" if more else ""))
    if not images:
        raise UserError(f"the folders contain no images: {found.root}")
    scaled = tuple(filter(None, sizes))
    return Rows(np.stack(images), np.array(labels, np.int64), np.array(usages, np.uint8), scaled)


def _name(path: str) -> str:
    return os.path.basename(path)  # noqa: PTH119


def is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _is_skipped(entry: os.DirEntry[str]) -> bool:
    if is_system(entry.name):
        return True
    suffix = entry.name[entry.name.rfind(".") :]  # fast, for 32,298 names
    return suffix.lower() in DESCRIPTIONS and not entry.is_dir()


def _holds_pictures(folder: str) -> bool:
    """Whether a folder contains image files, at most two levels deep."""
    for place, folders, files in os.walk(folder):
        if any(os.path.splitext(file)[1].lower() in PICTURES for file in files):  # noqa: PTH122
            return True
        if place.count(os.sep) - folder.count(os.sep) >= 2:
            folders.clear()
    return False


def entries_of(folder: Path | str) -> list[os.DirEntry[str]]:
    # Path objects for 32,298 files would take most of a cached start's half second.
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
