"""Check whether images of FER-2013 have its labels.

`known.txt` contains only digests and labels of some hundred images, from the pixels of Kaggle's
CSV files and of its JPEG folders, which differ. Images that were encoded again are not recognised.
`python -m bench.known` generates the file.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer.config import EMOTIONS

KNOWN = Path(__file__).with_name("known.txt")
DIGITS = 12  # hexadecimal digits stored of a digest
ORDERS = {
    "in FER+'s order": ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"),
    "in alphabetical order": tuple(sorted(EMOTIONS)),
}
"""Emotions that labels 0 to 6 stand for in other data sets."""
EXPLAINED = 0.9  # share of known images that an order must explain


def wrong_labels(digests: NDArray[np.bytes_], labels: NDArray[np.int64]) -> str:
    """Describe known images with other labels than FER-2013's, and the likely label order.

    Takes `digests` [N] from `image_digests` and labels [N] into EMOTIONS. Empty if all agree.
    """
    table = known_images()
    names = digests.astype(f"S{DIGITS}").tolist()
    pairs = [
        (int(label), table[name])
        for name, label in zip(names, labels, strict=True)
        if name in table
    ]
    wrong = sum(label != true for label, true in pairs)
    if not wrong:
        return ""
    carry = "have other labels than in FER-2013"
    if wrong == 1:
        carry = "has another label than in FER-2013"
    line = f"{wrong:,} of {len(pairs):,} known FER-2013 images {carry}"
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS)), np.int64)  # by given label, then true label
    np.add.at(counts, tuple(np.transpose(pairs)), 1)
    if order := _order(counts, np.unique(labels)):
        ours = ", ".join(f"{label} {name}" for label, name in enumerate(EMOTIONS))
        line += f", as if labels were {order}; here they are {ours}"
    return line


def _order(counts: NDArray[np.int64], used: NDArray[np.int64]) -> str:
    """Describe the label order that explains most of `counts`; empty if none does."""
    enough = EXPLAINED * counts.sum()
    for words, order in ORDERS.items():
        meant = [EMOTIONS.index(name) for name in order]
        if counts[np.arange(len(EMOTIONS)), meant].sum() >= enough:
            return f"{words} ({', '.join(order)})"
    meant = counts.argmax(1).tolist()
    found = {label: meant[label] for label in used.tolist()}
    is_order = len(set(found.values())) == len(found)
    is_other = any(label != true for label, true in found.items())
    # Require several known images per label, so that random errors do not look like an order.
    if not (is_order and is_other) or counts[used].sum(1).min() < 2:
        return ""
    if counts[list(found), list(found.values())].sum() < enough:
        return ""
    return ", ".join(f"{label} {EMOTIONS[true]}" for label, true in found.items())


@cache
def known_images() -> Mapping[bytes, int]:
    """Return the label of each known digest, truncated to DIGITS."""
    return {
        digest: EMOTIONS.index(emotion.decode())
        for emotion, *digests in map(bytes.split, KNOWN.read_bytes().splitlines())
        for digest in digests
    }
