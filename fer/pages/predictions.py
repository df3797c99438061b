"""Predictions of a trained model for images, and their table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fer import data
from fer.config import EMOTIONS, Config
from fer.data.tables import lacks_labels, read_unlabelled_csv
from fer.errors import UserError
from fer.network.model import Net
from fer.runs import TrainedOn
from fer.training.evaluation import predict


@dataclass(frozen=True)
class Pictures:
    """Images uint8 [N, 48, 48] with labels int64 [N] and paths, if known."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    paths: Sequence[str] | None = None


@dataclass(frozen=True)
class Predictions:
    """Images uint8 [N, 48, 48], predicted probabilities float [N, classes], and labels int64 [N]
    and paths, if known."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    paths: Sequence[str] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Most likely class [N]."""
        best: NDArray[np.int64] = self.probabilities.argmax(1)
        return best

    def right(self) -> int:
        """Return the number of correct predictions."""
        return int((self.predicted == self.labels).sum())

    def drawn(self, count: int, seed: int) -> NDArray[np.int64]:
        """Draw at most `count` of the images; return their indices in order."""
        generator = np.random.default_rng(seed)
        return np.sort(generator.permutation(len(self.images))[:count])

    def worst(self, count: int) -> NDArray[np.int64]:
        """Return at most `count` labelled images with the lowest probability of the label."""
        assert self.labels is not None
        of_label = self.probabilities[np.arange(len(self.labels)), self.labels]
        return np.argsort(of_label, kind="stable")[:count]

    def table(self) -> str:
        """Format all as CSV: path or row number from 1, true class if known, predicted class, and
        the probability of each class."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        true = [] if self.labels is None else ["true"]
        writer.writerow(
            ["row" if self.paths is None else "path", *true, "predicted", *self.classes]
        )
        for i, (best, shares) in enumerate(zip(self.predicted, self.probabilities, strict=True)):
            known = [] if self.labels is None else [self.classes[self.labels[i]]]
            numbers = (f"{share:.6f}" for share in shares)
            place = i + 1 if self.paths is None else self.paths[i]
            writer.writerow([place, *known, self.classes[best], *numbers])
        return text.getvalue()


def read_pictures(path: Path, trained_on: TrainedOn) -> Pictures:
    """Read all images of a CSV file without labels, or the run's validation images of other data.

    Never reads labelled test images. Raises UserError if the file cannot be read, or is labelled
    and not the data the run was trained on.
    """
    try:
        if path.is_file() and lacks_labels(path):
            return Pictures(read_unlabelled_csv(path), None)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}") from None
    removed = [name for name in EMOTIONS if name not in trained_on.classes]
    dataset = data.arranged(data.read(path), removed, trained_on.split)
    if dataset.sha256 != trained_on.sha256:
        raise UserError(
            f"labelled images must be the run's data, to show its validation images: it was "
            f"trained on {trained_on.name} ({trained_on.sha256[:12]}), this is {dataset.name} "
            f"({dataset.sha256[:12]}): {path}"
        )
    _, validation = trained_on.sides(dataset)
    if validation is None:
        raise UserError(
            f"the run was trained with --whole and has no validation images to show; give images "
            f"without labels: {path}"
        )
    data.say_notes(dataset)
    return Pictures(validation.images.numpy(), validation.labels.numpy())


def predictions(
    net: Net, config: Config, classes: tuple[str, ...], pictures: Pictures
) -> Predictions:
    """Predict the pictures with a network on the CPU."""
    scores = predict(net, torch.from_numpy(pictures.images), config)
    shares = scores.softmax(1).numpy()
    return Predictions(pictures.images, pictures.labels, shares, classes, pictures.paths)
