"""Image files as people have them: one by one, many, or in folders; the broken among the good."""

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
"""Of the files in a folder that are taken for images; the last three are named as not read."""
SQUARE = 0.9
"""Shorter side of a nearly square image as a share of the longer one."""


@dataclass
class Photos:
    """What was read: faces uint8 [48, 48] and where each is from; what a person should know of
    it, and what could not be read."""

    paths: list[str] = field(default_factory=list)
    faces: list[NDArray[np.uint8]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[UserError] = field(default_factory=list)

    def images(self) -> NDArray[np.uint8]:
        """uint8 [N, 48, 48] of all; there must be one."""
        return np.stack(self.faces)


def read_photos(paths: Sequence[Path]) -> Photos:
    """The images at `paths` in their order, those in folders by their names, however deep.

    Whatever cannot be read is among the errors. Raises UserError for too many images.
    """
    photos = Photos()
    for path in paths:
        files = _files_in(path, photos) if path.is_dir() else [str(path)]
        if len(photos.paths) + len(files) > MAX_IMAGES:
            raise UserError(f"at most {MAX_IMAGES:,} images are read: {path} has more")
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
            f"of {width}x{height} pixels only the centred {side}x{side} were seen, from column "
            f"{left} and row {top} on (--out FILE.png shows them): {file}"
        )


def _files_in(folder: Path, photos: Photos) -> list[str]:
    """The image files in a folder and those below it, in the order of their names."""
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
        photos.notes.append(f"{files_are} left out as no images, the first is {others[0]}")
    return found
