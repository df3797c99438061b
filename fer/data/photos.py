"""Read image files and folders of image files, some of which may be broken."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer.data.decode import read_photo
from fer.data.faces import MAX_IMAGES
from fer.errors import UserError

READ = ".bmp .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp"
SUFFIXES = (*READ.split(), ".avif", ".heic", ".heif")
"""Suffixes of image files in a folder; the last three are reported as unsupported."""
SQUARE = 0.9
"""Minimum ratio of the sides of an image that is nearly square."""


@dataclass
class Photos:
    """Faces uint8 [48, 48] that were read and their paths, notes for the user, and errors."""

    paths: list[str] = field(default_factory=list)
    faces: list[NDArray[np.uint8]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[UserError] = field(default_factory=list)

    def images(self) -> NDArray[np.uint8]:
        """Return all faces as uint8 [N, 48, 48]; requires at least one."""
        return np.stack(self.faces)


def read_photos(paths: Sequence[Path]) -> Photos:
    """Read the images at `paths` in order; folders are searched recursively, ordered by name.

    Files that cannot be read are listed in the errors. Raises UserError for too many images.
    """
    photos = Photos()
    for path in paths:
        files = _files_in(path, photos) if path.is_dir() else [str(path)]
        if len(photos.paths) + len(files) > MAX_IMAGES:
            raise UserError(f"at most {MAX_IMAGES:,} images are allowed: {path} has more")
        for file in files:
            _read(file, photos)
    return photos


def _read(file: str, photos: Photos) -> None:
    try:
        face, (width, height) = read_photo(file)
    except UserError as error:
        photos.errors.append(error)
        return
    photos.paths.append(file)
    photos.faces.append(face)
    side = min(width, height)
    if side < SQUARE * max(width, height):
        left, top = (width - side) // 2, (height - side) // 2
        photos.notes.append(
            f"only the centre {side}x{side} of {width}x{height} pixels are used, from column "
            f"{left} and row {top} (--out FILE.png shows them): {file}"
        )


def _files_in(folder: Path, photos: Photos) -> list[str]:
    """Return the image files in a folder, recursively, ordered by name."""
    found: list[str] = []
    others: list[str] = []

    def cannot(error: OSError) -> None:
        photos.errors.append(UserError(f"cannot read {error.filename}: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=cannot):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                is_image = name.lower().endswith(SUFFIXES)
                (found if is_image else others).append(os.path.join(place, name))  # noqa: PTH118
    if not found:
        photos.errors.append(UserError(f"no image files ({READ}) in the folder {folder}"))
    elif others:
        files_are = "1 file is" if len(others) == 1 else f"{len(others):,} files are"
        photos.notes.append(f"{files_are} skipped, not images; the first is {others[0]}")
    return found
