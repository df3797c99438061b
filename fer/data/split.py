"""Split into training and validation (grouped or the report's way), and draw subsets.

scikit-learn takes a second to import and is not needed by workers, so it is imported where used.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer.data.faces import Faces
from fer.errors import UserError

Split = Literal["grouped", "stratified", "file-order"]
SEED = 42
"""The report's random_state."""
MAX_SEED = 2**32 - 1  # of NumPy's legacy generator, used by scikit-learn


def split(
    faces: Faces, how: Split, subset: int | None = None, seed: int = SEED
) -> tuple[Faces, Faces]:
    """Split into training and validation images, 80 to 20, stratified by class.

    `stratified` is the report's split (chapter 2), and so is `file-order` for faces in file order.
    `grouped` also keeps identical images on one side, so that no training image is validated on.
    `subset` first draws that many images, stratified and independent of `seed`. Raises UserError
    if a class is too small or the seed is out of range.
    """
    faces = draw_subset(faces, subset)
    chosen = validated(faces, how, seed)
    return faces.take(np.flatnonzero(~chosen)), faces.take(np.flatnonzero(chosen))


def validated(faces: Faces, how: Split, seed: int) -> NDArray[np.bool_]:
    """Return which of the faces [N] are for validation. Raise UserError as in `split`."""
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"--split-seed must be from 0 to {MAX_SEED}, got {seed}")
    from sklearn.model_selection import train_test_split

    labels = faces.labels.numpy()
    group = twin_groups(faces) if how == "grouped" else np.arange(len(faces))
    # One image represents its group and decides its stratum and side.
    first = np.unique(group, return_index=True)[1]
    _check_classes(faces, labels[first])
    try:
        _, validation = train_test_split(
            first, test_size=0.2, random_state=seed, stratify=labels[first]
        )
    except ValueError as error:
        raise UserError(f"too few images to split 80 to 20: {error}") from None
    on_validation = np.zeros(len(faces), dtype=bool)
    on_validation[validation] = True
    chosen: NDArray[np.bool_] = on_validation[first[group]]
    for side, place in ((~chosen, "training"), (chosen, "validation")):
        counts = np.bincount(labels[side], minlength=len(faces.classes))
        for name, count in zip(faces.classes, counts, strict=True):
            if not count:
                raise UserError(
                    f"class {name!r} is too small to split: {faces.counts()[name]} images leave "
                    f"none for {place}; use a larger --subset, or --remove {name}"
                )
    return chosen


def split_in_words(how: str, seed: int | None) -> str:
    """Describe a split; with seed None every trial has its own."""
    words = {None: ", drawn anew for each seed", SEED: ""}
    return f"{how} split{words.get(seed, f', seed {seed}')}"


def draw_subset(faces: Faces, size: int | None) -> Faces:
    """Draw `size` images (default: all), stratified by class.

    Raises UserError if that is impossible.
    """
    if size is None:
        return faces
    if not 1 <= size <= len(faces):
        raise UserError(f"--subset must be from 1 to the {len(faces)} training images, got {size}")
    if size == len(faces):
        return faces
    from sklearn.model_selection import train_test_split

    labels = faces.labels.numpy()
    _check_classes(faces, labels)
    try:
        chosen, _ = train_test_split(
            np.arange(len(faces)), train_size=size, random_state=SEED, stratify=labels
        )
    except ValueError as error:
        raise UserError(
            f"--subset {size} is too small for {len(faces.classes)} classes: "
            f"{faces.least_subset()} always suffice"
        ) from error
    return faces.take(np.sort(chosen))


def twin_groups(faces: Faces) -> NDArray[np.int64]:
    """Return a group number [N] for each image, 0, 1, ..., equal only for identical images."""
    flat = faces.images.numpy().reshape(len(faces), -1)
    rows = np.ascontiguousarray(flat).view(f"V{flat.shape[1]}").ravel()
    group: NDArray[np.int64] = np.unique(rows, return_inverse=True)[1].astype(np.int64)
    return group


def _check_classes(faces: Faces, labels: NDArray[np.int64]) -> None:
    counts = np.bincount(labels, minlength=len(faces.classes))
    for name, count in zip(faces.classes, counts, strict=True):
        if count < 2:
            raise UserError(
                f"class {name!r} is too small to split: it has {count} distinct training "
                f"image{'s' if count != 1 else ''}, at least 2 are needed; use a larger "
                f"--subset, or --remove {name}"
            )
