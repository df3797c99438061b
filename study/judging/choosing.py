"""Bias and noise of the best epoch as the score of a trial."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from study.engine.pruners import curve_of
from study.judging.curves import Curves, settings_keys, trained
from study.spec.score import score_of


@dataclass(frozen=True)
class Choosing:
    """All in points of score."""

    gain: float  # best epoch minus the mean of the last ones, over all trials
    gain_error: float
    gain_of_best: float  # in the ten best trials
    repeated: int  # number of settings trained with several seeds
    noise_of_best: float  # standard deviation over seeds; NaN without such settings
    noise_of_last: float


def choosing(curves: Curves, studies: Sequence[optuna.Study]) -> Choosing:
    """Compare the best epoch with the mean of the last ones."""
    gains = 100 * (curves.scores.max(1) - curves.final)
    ranked = np.argsort(-curves.final, kind="stable")
    repeats: dict[str, list[list[float]]] = defaultdict(list)
    trials = trained(studies)
    for trial, key in zip(trials, settings_keys(trials), strict=True):
        if len(trial.intermediate_values) == curves.scores.shape[1]:
            repeats[key].append(curve_of(trial))
    again = [rows for rows in repeats.values() if len(rows) > 1]
    return Choosing(
        float(gains.mean()),
        float(gains.std(ddof=1) / np.sqrt(len(gains))),
        float(gains[ranked[:10]].mean()),
        len(again),
        pooled_deviation([[max(row) for row in rows] for rows in again]),
        pooled_deviation([[score_of(row) for row in rows] for rows in again]),
    )


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation within groups of two or more scores, in points; NaN without
    groups."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return float("nan")
    return float(100 * np.sqrt(sum(np.var(group) * len(group) for group in groups) / freedom))
