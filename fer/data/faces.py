"""Images, labels and usages in memory, in one canonical order, with their hash."""

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
"""FER-2013's own three, `Test` for a labelled test split that does not say which of them it is,
and `Validation`, which is kept apart: it is neither trained on nor ever the sealed test."""
MAX_IMAGES = 500_000
"""More are refused while they are read: they would take gigabytes of memory."""


@dataclass(frozen=True)
class Faces:
    """Some labelled images: uint8 [N, 48, 48] and int64 [N] with values below len(classes)."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64] | Tensor) -> "Faces":
        """The images at `indices`, in that order."""
        index = torch.as_tensor(indices)
        return Faces(self.images[index], self.labels[index], self.classes)

    def counts(self) -> dict[str, int]:
        """Images of each class."""
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def least_subset(self) -> int:
        """Images that suffice to split 80 to 20 if the shares of the classes are kept.

        Some smaller numbers do, as sizes are rounded: they need 3.5 of the smallest class.
        """
        smallest = max(1, min(self.counts().values()))
        return min(len(self), max(5 * len(self.classes), math.ceil(3.5 * len(self) / smallest)))

    def counts_in_words(self) -> str:
        """Images of each class, in a line for a person."""
        return ", ".join(f"{name} {count}" for name, count in self.counts().items())


@dataclass(frozen=True)
class Dataset:
    """All images of a data set.

    `name` says where it is from; `sha256` identifies its training images and labels, whatever
    form they were read from and in whatever order they stood, but for `in_file_order`.
    """

    name: str
    images: NDArray[np.uint8]  # [N, 48, 48]
    labels: NDArray[np.int64]  # [N], indices into classes
    usages: NDArray[np.uint8]  # [N], indices into USAGES
    rows: NDArray[np.int64]  # [N], where each stood in its file, from 0
    classes: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()  # what a person should know of how it was read
    warning: str = ""  # what seems to be wrong with its labels

    def part(self, usage: str) -> Faces:
        """The images of one usage; may be empty."""
        rows = self.usages == USAGES.index(usage)
        return Faces(
            torch.from_numpy(self.images[rows]), torch.from_numpy(self.labels[rows]), self.classes
        )

    def counts(self) -> dict[str, int]:
        """Images of each usage that occurs."""
        counts = np.bincount(self.usages, minlength=len(USAGES)).tolist()
        return {usage: count for usage, count in zip(USAGES, counts, strict=True) if count}

    def without(self, removed: Sequence[str]) -> "Dataset":
        """The data without the classes `removed`, labels renumbered in the order that is left.

        Raises UserError for an unknown class, or if fewer than two classes are left.
        """
        for name in removed:
            if name not in self.classes:
                raise UserError(
                    f"--remove takes classes of {', '.join(self.classes)}; got {name!r}"
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
        """The same images in the order of their file, on which the hash then depends."""
        order = np.argsort(self.rows)
        return self._arranged(order, self.labels[order], self.classes)

    def _arranged(
        self, chosen: NDArray[np.int64], labels: NDArray[np.int64], classes: tuple[str, ...]
    ) -> "Dataset":
        """The images `chosen` [N], in that order, with these labels [N] of `classes`."""
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
    """A Dataset in canonical order: by usage, then by the image's digest, then by label.

    The order does not depend on the file's, so every form of the same data gives the same
    splits and the same hash.
    """
    digests = image_digests(images)
    warning = wrong_labels(digests, labels)
    order = np.lexsort((labels, digests, usages))
    images, labels, usages = images[order], labels[order], usages[order]
    sha256 = content_hash(images, labels, usages, EMOTIONS)
    return Dataset(name, images, labels, usages, order, EMOTIONS, sha256, tuple(notes), warning)


def image_digests(images: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """A 16-byte digest of each image [N]; equal for identical pixels alone."""
    # Hexadecimal, since NumPy's byte strings drop trailing zeros.
    return np.array(
        [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images], "S32"
    )


def content_hash(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    usages: NDArray[np.uint8],
    classes: Sequence[str],
) -> str:
    """SHA-256 (hexadecimal) of the training images, their labels and the class names."""
    training = usages == USAGES.index("Training")
    content = hashlib.sha256("\n".join(classes).encode())
    content.update(np.ascontiguousarray(labels[training], dtype="<i8").data)
    content.update(np.ascontiguousarray(images[training]).data)
    return content.hexdigest()
