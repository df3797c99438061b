"""Hold out training images that a search uses neither for training nor for selection."""

import numpy as np
from numpy.typing import NDArray

from fer.data.faces import Faces
from fer.data.split import Split, draw_subset, twin_groups
from fer.errors import UserError


def set_aside(
    faces: Faces, share: float | None, how: Split, seed: int, subset: int | None
) -> tuple[Faces, Faces | None]:
    """Return the faces to train and validate on, and those held out, `subset` in total.

    Holds out `share` of each class, drawn with `seed` from all faces before any subset: with the
    same share, split and seed, no subset trains on what another one, or the whole, holds out. The
    `grouped` split keeps identical images on one side here too. Raises UserError if a class has
    too few images.
    """
    taken = draw_subset(faces, subset)
    if share is None:
        return taken, None
    generator = np.random.default_rng(seed)
    chosen = _chosen(faces, share, how, generator)
    out, rest = (faces.take(np.flatnonzero(each)) for each in (chosen, ~chosen))
    counts = taken.counts()
    if len(taken) < len(faces):
        wanted = {name: round(share * count) for name, count in counts.items()}
        out = _some_of_each(out, wanted, generator)
        left = {name: counts[name] - count for name, count in out.counts().items()}
        rest = _some_of_each(rest, left, generator)
    for name, count in out.counts().items():
        if not count:
            raise UserError(
                f"--holdout {share:g} leaves no image of class {name!r}, which has "
                f"{counts[name]}; use a larger share or --subset, or --remove {name}"
            )
    return rest, out


def _chosen(
    faces: Faces, share: float, how: Split, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which of all faces [N] are held out."""
    labels = faces.labels.numpy()
    group = twin_groups(faces) if how == "grouped" else np.arange(len(faces))
    first = np.unique(group, return_index=True)[1]  # one image decides for its group
    chosen = np.zeros(len(faces), dtype=bool)
    for number in range(len(faces.classes)):
        own = first[labels[first] == number]
        chosen[generator.permutation(own)[: round(share * len(own))]] = True
    kept: NDArray[np.bool_] = chosen[first[group]]
    return kept


def _some_of_each(faces: Faces, wanted: dict[str, int], generator: np.random.Generator) -> Faces:
    """Return the `wanted` number of images per class, or as many as there are, in order."""
    labels = faces.labels.numpy()
    places = [
        generator.permutation(np.flatnonzero(labels == number))[: wanted[name]]
        for number, name in enumerate(faces.classes)
    ]
    return faces.take(np.sort(np.concatenate(places)))
