"""FER-2013 as image folders: `train/` and `test/`, each of one folder an emotion."""

import os
from pathlib import Path

import numpy as np

from fer.config import EMOTIONS
from fer.data.decode import MAX_BYTES, decode
from fer.data.faces import MAX_IMAGES, USAGES
from fer.data.tables import Rows
from fer.errors import UserError
from fer.files import read_file

# Without a prefix in the file name, the folder says what the images are for.
FOLDERS = {
    "train": "Training",
    "val": "PublicTest",
    "validation": "PublicTest",
    "test": "Test",
}


def is_folder_form(root: Path) -> bool:
    """Whether `root` has a `train` folder with folders in it."""
    train = root / "train"
    return train.is_dir() and any(child.is_dir() for child in train.iterdir())


def image_files(root: Path) -> list[tuple[str, str, str]]:
    """(path, folder usage, emotion) of every image file, in the order of their names.

    Raises UserError for a folder that is no emotion, and for too many files.
    """
    files = []
    for folder, usage in FOLDERS.items():
        if not (root / folder).is_dir():
            continue
        for emotion in _entries(root / folder):
            if not emotion.is_dir():
                continue
            name = emotion.name.lower()
            if name not in EMOTIONS:
                raise UserError(
                    f"a folder must be named after one of {', '.join(EMOTIONS)}; "
                    f"got {emotion.path}"
                )
            files += [(file.path, usage, name) for file in _entries(emotion.path)]
            if len(files) > MAX_IMAGES:
                raise UserError(f"at most {MAX_IMAGES:,} images are read: {root} has more")
    return files


def read_folders(root: Path) -> Rows:
    """Every image under `root`; the usage is recovered from the prefixes of the file names
    (`Training_`, `PublicTest_`, `PrivateTest_`), else it follows from the folder.

    Raises UserError for an unknown folder, a broken image, or no image at all.
    """
    images, labels, usages, sizes = [], [], [], []
    for file, folder_usage, emotion in image_files(root):
        prefix = Path(file).name.split("_")[0]
        usage = prefix if prefix in USAGES else folder_usage
        image, size = decode(read_file(file, MAX_BYTES), file)
        images.append(image)
        sizes.append(size)
        labels.append(EMOTIONS.index(emotion))
        usages.append(USAGES.index(usage))
    if not images:
        raise UserError(f"the folders hold no images: {root}")
    scaled = tuple(filter(None, sizes))
    return Rows(np.stack(images), np.array(labels, np.int64), np.array(usages, np.uint8), scaled)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    # Path objects for 32,298 files would take most of a cached start's half second.
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
