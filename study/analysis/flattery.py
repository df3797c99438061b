"""How much the best of many owes to having been picked."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

RESAMPLES = 1000


@dataclass(frozen=True)
class Lead:
    """A difference and the ends of its 95% interval, in points."""

    gain: float
    low: float
    high: float


def lead_without_flattery(
    found: NDArray[np.float32], given: NDArray[np.float32], generator: Generator
) -> Lead:
    """How far the best of some runs lies ahead of the best of others on new cases.

    `found` [N, cases] and `given` [M, cases] are 1 where a run had a validation case right, else
    0. In every resample of the cases the best of either is picked anew, and their difference taken
    on the cases that are not in it: bootstrap bias corrected cross-validation (Tsamardinos,
    Greasidou, Borboudakis 2018, Machine Learning 107). Runs are compared case by case, so what
    both have right adds no noise. In simulations the interval covers 95 to 100% of differences,
    also where a seed moves all cases of a run together by half a point.
    """
    cases = found.shape[1]
    counts = generator.multinomial(cases, np.full(cases, 1 / cases), RESAMPLES).astype(np.float32)
    left = (counts == 0).astype(np.float32)
    sizes = left.sum(1)
    rows = np.arange(RESAMPLES)
    fresh = []
    for side in (found, given):
        picked = (counts @ side.T).argmax(1)
        fresh.append((left @ side.T)[rows, picked] / sizes)
    gains = 100 * (fresh[0] - fresh[1]).astype(np.float64)
    low, high = np.percentile(gains, [2.5, 97.5])
    return Lead(float(gains.mean()), float(low), float(high))
