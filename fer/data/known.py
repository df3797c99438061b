"""Do images of FER-2013 carry the labels that it gives them?

`known.txt` has the digests of some hundred images and their labels, and nothing else of them. They
are of the pixels of Kaggle's CSV files and of its JPEG folders, which differ; images that were
encoded once more are not known. `python -m bench.known` made the file.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer.config import EMOTIONS

KNOWN = Path(__file__).with_name("known.txt")
DIGITS = 12  # hexadecimal ones that are kept of a digest
ORDERS = {
    "in FER+'s order": ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"),
    "in alphabetical order": tuple(sorted(EMOTIONS)),
}
"""The emotions that labels 0 to 6 stand for elsewhere."""
EXPLAINED = 0.9  # of the known images, for an order to be named


def wrong_labels(digests: NDArray[np.bytes_], labels: NDArray[np.int64]) -> str:
    """How many known images carry other labels than FER-2013's, and in which order these seem to
    be; empty if none does. For `digests` [N] of `image_digests` and labels [N] of EMOTIONS.
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
    carry = "carry other labels than FER-2013 gives them"
    if wrong == 1:
        carry = "carries another label than FER-2013 gives it"
    line = f"{wrong:,} of {len(pairs):,} known FER-2013 images {carry}"
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS)), np.int64)  # by label, then by what is true
    np.add.at(counts, tuple(np.transpose(pairs)), 1)
    if order := _order(counts, np.unique(labels)):
        ours = ", ".join(f"{label} {name}" for label, name in enumerate(EMOTIONS))
        line += f", as if labels were {order}; here they are {ours}"
    return line


def _order(counts: NDArray[np.int64], used: NDArray[np.int64]) -> str:
    """The order of the labels `used` that explains most of `counts`, in words; empty if none."""
    enough = EXPLAINED * counts.sum()
    for words, order in ORDERS.items():
        meant = [EMOTIONS.index(name) for name in order]
        if counts[np.arange(len(EMOTIONS)), meant].sum() >= enough:
            return f"{words} ({', '.join(order)})"
    meant = counts.argmax(1).tolist()
    found = {label: meant[label] for label in used.tolist()}
    is_order = len(set(found.values())) == len(found)
    is_other = any(label != true for label, true in found.items())
    # Several known images of each label, else chance would make an order of errors.
    if not (is_order and is_other) or counts[used].sum(1).min() < 2:
        return ""
    if counts[list(found), list(found.values())].sum() < enough:
        return ""
    return ", ".join(f"{label} {EMOTIONS[true]}" for label, true in found.items())


@cache
def known_images() -> Mapping[bytes, int]:
    """The label of each digest, of which DIGITS are kept."""
    return {
        digest: EMOTIONS.index(emotion.decode())
        for emotion, *digests in map(bytes.split, KNOWN.read_bytes().splitlines())
        for digest in digests
    }
