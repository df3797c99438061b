"""The score of a trial: the mean of its last epochs."""

import math
import statistics
from collections.abc import Iterable, Sequence

SCORED = 3
"""Number of final epochs whose mean is the score of a trial.

The best epoch would be biased upwards, and more so for settings with a noisier curve; see
docs/search.md for numbers.
"""


def score_of(scores: Sequence[float]) -> float:
    """Return the score of a trial, given its scores by epoch so far (at least one)."""
    return statistics.fmean(scores[-SCORED:])


def holdout_of(told: Iterable[float]) -> float | None:
    """Return the same for the accuracies on a holdout; None if no epoch reported one."""
    finite = [each for each in told if math.isfinite(each)]
    return score_of(finite) if finite else None
