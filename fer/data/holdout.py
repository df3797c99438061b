"""Training images that a search neither trains on nor chooses by."""

import numpy as np
from numpy.typing import NDArray

from fer.data.faces import Faces
from fer.data.split import Split, twin_groups
from fer.errors import UserError


def held_out(faces: Faces, share: float, how: Split, seed: int) -> NDArray[np.bool_]:
    """Which of the faces [N] are held out: `share` of each class, drawn with `seed`.

    The `grouped` split keeps identical images on one side here too. Raises UserError where a class
    has too few images for that.
    """
    generator = np.random.default_rng(seed)
    labels = faces.labels.numpy()
    group = twin_groups(faces) if how == "grouped" else np.arange(len(faces))
    first = np.unique(group, return_index=True)[1]  # one image decides for its group
    chosen = np.zeros(len(faces), dtype=bool)
    for number, name in enumerate(faces.classes):
        own = first[labels[first] == number]
        count = round(share * len(own))
        if not count:
            raise UserError(
                f"--holdout {share:g} leaves no image of class {name!r}, which has {len(own)}; "
                f"use a larger share or --subset, or --remove {name}"
            )
        chosen[generator.permutation(own)[:count]] = True
    return chosen[first[group]]
