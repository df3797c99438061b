"""Estimate the residual noise of runs, beyond what their values and seeds explain.

Scores are in points (hundredths of the score), variances in squared points.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from study.analysis.effects import Effect, effects
from study.spec.identity import IDENTITY, Identity, kind_of, same_budget
from study.spec.spec import Kind
from study.storage.records import kept

FAR = 8.0
"""Points below the best mean at which a value is judged by its own noise.

Runs that failed to learn fluctuate more: in docs/results the variance of the 16 values this far
down was 6 times that of the others (moment estimate, with 9 degrees of freedom), that of the two
between 5 and 8 points down 0.3 and 3.5 times. With 5, a value that is truly better often makes
all others count as failed: among five with two seeds, 5.8 points were detected in 17%, not in 80%.
"""
PRIOR_DF = 8.0
"""Weight of other comparisons. In simulations with equal variances of comparisons, or scattered as
with 20 or 8 prior degrees of freedom, false alarms are 3 to 5% with two or more others, at most 6%
with one. A moment estimate from so few others (Smyth 2004) gives 5 to 8%."""


@dataclass(frozen=True)
class Noise:
    """Residual variance of a run's score given value and seed, and its degrees of freedom."""

    variance: float = 0.0
    df: float = 0.0


def pooled(noises: Iterable[Noise]) -> Noise:
    """Return the mean variance weighted by degrees of freedom, with their sum.

    For a comparison's own noise and a prior this is the moderated variance (Smyth 2004,
    Statistical Applications in Genetics and Molecular Biology 3(1)).
    """
    noises = [noise for noise in noises if noise.df > 0]
    df = sum(noise.df for noise in noises)
    return Noise(sum(each.df * each.variance for each in noises) / df, df) if df else Noise()


class Blocks:
    """The model score = value + seed + residual, fitted by least squares to the existing runs."""

    def __init__(self, found: Sequence[Effect]) -> None:
        self._labels = [effect.label for effect in found]
        seeds = sorted({seed for effect in found for seed in effect.seeds})
        cells = [
            (row, len(found) + seeds.index(seed), 100 * score)
            for row, effect in enumerate(found)
            for seed, score in zip(effect.seeds, effect.scores, strict=True)
        ]
        design = np.zeros((len(cells), len(found) + len(seeds)))
        for cell, (value, seed, _) in zip(design, cells, strict=True):
            cell[[value, seed]] = 1
        scores = np.array([score for *_, score in cells])
        self._inverse = np.linalg.pinv(design.T @ design)
        self._solution = self._inverse @ design.T @ scores
        residual = scores - design @ self._solution
        df = len(cells) - int(np.linalg.matrix_rank(design))
        self.noise = Noise(float(residual @ residual) / df, df) if df else Noise()

    def difference(self, label: str, control: str) -> tuple[float, float]:
        """Return by how many points a value beats the control, with which it shares a seed, and
        the standard error of that in standard deviations of the noise."""
        contrast = np.zeros(len(self._solution))
        contrast[self._labels.index(label)] = 1
        contrast[self._labels.index(control)] = -1
        error = math.sqrt(contrast @ self._inverse @ contrast)
        return float(contrast @ self._solution), error


def near_the_best(found: Sequence[Effect]) -> list[Effect]:
    """Return the values whose noise is pooled: those less than FAR points below the best.

    All of them if scores are not in 0..1, since FAR has no meaning then.
    """
    if any(not 0 <= score <= 1 for effect in found for score in effect.scores):
        return list(found)
    best = max((effect.mean for effect in found), default=0.0)
    return [effect for effect in found if 100 * (best - effect.mean) < FAR]


def usable(found: Iterable[Effect]) -> list[Effect]:
    """Return the values with at least two seeds, none of which diverged."""
    return [effect for effect in found if len(effect.seeds) > 1 and not effect.diverged]


def noise_elsewhere(studies: Iterable[optuna.Study], identity: Identity) -> Noise:
    """Return the pooled noise of other comparisons with the same data, epochs and subset, with at
    most PRIOR_DF degrees of freedom; 0 without any."""
    ours = kind_of(identity), identity["space"]
    noises = []
    for study in studies:
        theirs = kept(study, IDENTITY, {})
        kind = kind_of(theirs)
        if kind not in (Kind.COMPARE, Kind.CONFIRM) or (kind, theirs["space"]) == ours:
            continue  # the same comparison with fewer seeds is not independent
        if same_budget(theirs, identity):
            noises.append(Blocks(near_the_best(usable(effects(study, theirs)))).noise)
    found = pooled(noises)
    return Noise(found.variance, min(found.df, PRIOR_DF))
