"""The score of a trial: the mean of its last epochs."""

import math
import statistics
from collections.abc import Iterable, Sequence

SCORED = 3
"""Epochs at the end of a trial whose mean is its score.

A best epoch is the luckiest one: it flatters, and settings that fluctuate more than others.
docs/search.md has how much.
"""


def score_of(scores: Sequence[float]) -> float:
    """The score of a trial with these scores by epoch, at least one, as far as it was trained."""
    return statistics.fmean(scores[-SCORED:])


def holdout_of(told: Iterable[float]) -> float | None:
    """The same of the accuracies on a holdout; None if no epoch told one."""
    finite = [each for each in told if math.isfinite(each)]
    return score_of(finite) if finite else None
