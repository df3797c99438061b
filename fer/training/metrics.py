"""Scores from confusion counts: accuracy, macro-F1, balanced accuracy, and their intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
"""Confusion counts [classes, classes]: rows are true classes, columns predictions."""


def accuracy(confusion: Counts) -> float:
    """Share of images predicted right, 0..1."""
    return float(np.trace(confusion) / confusion.sum())


def recalls(confusion: Counts) -> NDArray[np.float64]:
    """Share of each class predicted right; NaN for a class without images."""
    return _divide(np.diag(confusion), confusion.sum(1))


def precisions(confusion: Counts) -> NDArray[np.float64]:
    """Share of each prediction that is right; NaN for a class never predicted."""
    return _divide(np.diag(confusion), confusion.sum(0))


def f1_scores(confusion: Counts) -> NDArray[np.float64]:
    """F1 of each class; NaN for a class that neither occurs nor is predicted."""
    return _divide(2 * np.diag(confusion), confusion.sum(0) + confusion.sum(1))


def macro_f1(confusion: Counts) -> float:
    """Mean of the classes' F1, 0..1."""
    return float(np.nanmean(f1_scores(confusion)))


def balanced_accuracy(confusion: Counts) -> float:
    """Mean of the classes' recalls, 0..1."""
    return float(np.nanmean(recalls(confusion)))


@dataclass(frozen=True)
class Score:
    """A score and its 95% interval, all in 0..1."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f}  [{self.low:.4f}, {self.high:.4f}]"


def bootstrap(
    confusion: Counts, generator: np.random.Generator, draws: int = 2000
) -> dict[str, Score]:
    """Return the three scores with 95% percentile intervals over `draws` bootstrap samples."""
    total = int(confusion.sum())
    flat = confusion.ravel() / total
    samples = generator.multinomial(total, flat, size=draws).reshape(-1, *confusion.shape)
    scores = {
        "accuracy": accuracy,
        "macro-F1": macro_f1,
        "balanced accuracy": balanced_accuracy,
    }
    intervals = {}
    for name, score in scores.items():
        low, high = np.quantile([score(sample) for sample in samples], [0.025, 0.975])
        intervals[name] = Score(score(confusion), float(low), float(high))
    return intervals


def _divide(top: Counts, bottom: Counts) -> NDArray[np.float64]:
    shares = np.full(len(top), np.nan)
    np.divide(top, bottom, out=shares, where=bottom > 0)
    return shares
