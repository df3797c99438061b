"""Count repeated, ambiguous and empty images of a data set."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer.data import Dataset
from fer.data.faces import USAGES, image_digests

Rows = NDArray[np.int64]
"""Indices of images in a data set."""


@dataclass(frozen=True)
class Census:
    """Counts of a data set. A group contains all images with the same pixels."""

    images: int
    distinct: int
    repeated: dict[str, int]  # by usage: images other than the first of each group
    across: int  # groups that occur in two or more usages
    shared: dict[tuple[str, str], int]  # groups that occur in both
    conflicting: list[Rows]  # groups with more than one label
    constant: Rows  # images with a single grey


def take_census(dataset: Dataset) -> Census:
    """Count the images of all usages."""
    frame = pd.DataFrame(
        {
            "digest": image_digests(dataset.images),
            "label": dataset.labels,
            "usage": dataset.usages,
        }
    )
    present = [usage for usage in USAGES if usage in dataset.counts()]
    groups = {usage: set(frame.digest[frame.usage == USAGES.index(usage)]) for usage in present}
    by_digest = frame.groupby("digest", sort=False)
    labels = by_digest.label.nunique()
    ambiguous = frame[frame.digest.isin(labels.index[labels > 1])]
    flat = dataset.images.reshape(len(dataset.images), -1)
    return Census(
        images=len(frame),
        distinct=len(labels),
        repeated={usage: dataset.counts()[usage] - len(groups[usage]) for usage in present},
        across=int((by_digest.usage.nunique() > 1).sum()),
        shared={(a, b): len(groups[a] & groups[b]) for a, b in combinations(present, 2)},
        conflicting=[group.index.to_numpy() for _, group in ambiguous.groupby("digest")],
        constant=np.flatnonzero((flat == flat[:, :1]).all(1)),
    )
