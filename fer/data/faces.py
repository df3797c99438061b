"""Images, labels and usages in memory, in canonical order, with a hash."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer.config import EMOTIONS
from fer.data.known import wrong_labels
from fer.errors import UserError

USAGES = ("Training", "PublicTest", "PrivateTest", "Test", "Validation")
"""FER-2013's own three; `Test` for a labelled test split that could be either of its two; and
`Validation`, which is set aside: never trained on, and never the sealed test."""
MAX_IMAGES = 500_000
"""Limit while reading, because more would take gigabytes of memory."""


@dataclass(frozen=True)
class Faces:
    """Labelled images: uint8 [N, 48, 48] and int64 [N] with values below len(classes)."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64] | Tensor) -> "Faces":
        """Return the images at `indices`, in that order."""
        index = torch.as_tensor(indices)
        return Faces(self.images[index], self.labels[index], self.classes)

    def counts(self) -> dict[str, int]:
        """Return the number of images of each class."""
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def least_subset(self) -> int:
        """Images that suffice to split 80 to 20 if the shares of the classes are kept.

        Some smaller numbers do, as sizes are rounded: they need 3.5 of the smallest class.
        """
        smallest = max(1, min(self.counts().values()))
        return min(len(self), max(5 * len(self.classes), math.ceil(3.5 * len(self) / smallest)))

    def counts_in_words(self) -> str:
        """Return the counts as one line of text."""
        return ", ".join(f"{name} {count}" for name, count in self.counts().items())


@dataclass(frozen=True)
class Dataset:
    """All images of a data set.

    `name` says where it is from. `sha256` identifies the training images and labels, independent
    of their format and order, except for `in_file_order`.
    """

    name: str
    images: NDArray[np.uint8]  # [N, 48, 48]
    labels: NDArray[np.int64]  # [N], indices into classes
    usages: NDArray[np.uint8]  # [N], indices into USAGES
    rows: NDArray[np.int64]  # [N], row of each in its file, from 0
    classes: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()  # for the user, about how it was read
    warning: str = ""  # if the labels seem to be wrong

    def part(self, usage: str) -> Faces:
        """Return the images of one usage; may be empty."""
        rows = self.usages == USAGES.index(usage)
        return Faces(
            torch.from_numpy(self.images[rows]), torch.from_numpy(self.labels[rows]), self.classes
        )

    def counts(self) -> dict[str, int]:
        """Return the number of images of each usage that occurs."""
        counts = np.bincount(self.usages, minlength=len(USAGES)).tolist()
        return {usage: count for usage, count in zip(USAGES, counts, strict=True) if count}

    def without(self, removed: Sequence[str]) -> "Dataset":
        """Return the data without the classes `removed`, with labels renumbered in order.

        Raises UserError for an unknown class, or if fewer than two classes are left.
        """
        for name in removed:
            if name not in self.classes:
                raise UserError(
                    f"--remove must name classes among {', '.join(self.classes)}; got {name!r}"
                )
        classes = tuple(name for name in self.classes if name not in removed)
        if len(classes) < 2:
            raise UserError(
                f"at least two classes must be left; --remove {' '.join(removed)} leaves "
                f"{' '.join(classes) or 'none'}"
            )
        if not removed:
            return self
        renumbered = np.full(len(self.classes), -1, dtype=np.int64)
        renumbered[[self.classes.index(name) for name in classes]] = np.arange(len(classes))
        kept = np.flatnonzero(renumbered[self.labels] >= 0)
        return self._arranged(kept, renumbered[self.labels][kept], classes)

    def in_file_order(self) -> "Dataset":
        """Return the images in file order; the hash then depends on the order."""
        order = np.argsort(self.rows)
        return self._arranged(order, self.labels[order], self.classes)

    def _arranged(
        self, chosen: NDArray[np.int64], labels: NDArray[np.int64], classes: tuple[str, ...]
    ) -> "Dataset":
        """Return the images `chosen` [N], in that order, with labels [N] into `classes`."""
        images, usages = self.images[chosen], self.usages[chosen]
        return replace(
            self,
            images=images,
            labels=labels,
            usages=usages,
            rows=self.rows[chosen],
            classes=classes,
            sha256=content_hash(images, labels, usages, classes),
        )


def canonical(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    usages: NDArray[np.uint8],
    notes: Iterable[str] = (),
) -> Dataset:
    """Create a Dataset in canonical order: by usage, then image digest, then label.

    The order is independent of the file, so every format of the same data gives the same splits
    and hash.
    """
    digests = image_digests(images)
    warning = wrong_labels(digests, labels)
    order = np.lexsort((labels, digests, usages))
    images, labels, usages = images[order], labels[order], usages[order]
    sha256 = content_hash(images, labels, usages, EMOTIONS)
    return Dataset(name, images, labels, usages, order, EMOTIONS, sha256, tuple(notes), warning)


def image_digests(images: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return a 16-byte digest of each image [N], equal only for identical pixels."""
    # Hexadecimal, because NumPy's byte strings drop trailing zeros.
    return np.array(
        [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images], "S32"
    )


def content_hash(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    usages: NDArray[np.uint8],
    classes: Sequence[str],
) -> str:
    """Return the SHA-256 (hexadecimal) of the training images, labels and class names."""
    training = usages == USAGES.index("Training")
    content = hashlib.sha256("\n".join(classes).encode())
    content.update(np.ascontiguousarray(labels[training], dtype="<i8").data)
    content.update(np.ascontiguousarray(images[training]).data)
    return content.hexdigest()
