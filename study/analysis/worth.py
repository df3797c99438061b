"""Estimate the gain from more trials, from a study's own trials."""

import numpy as np
import optuna
from numpy.random import Generator
from numpy.typing import NDArray
from optuna.trial import TrialState
from scipy.special import gammaln

from study.spec.identity import IDENTITY
from study.storage.records import ORIGIN, Ending, ending, kept, scored
from study.storage.studies import current

LEAST = 20  # minimum number of independent trials to estimate an expected best
RESAMPLES = 1000
INDEPENDENT = (Ending.COMPLETE, Ending.PRUNED)


def more_trials(study: optuna.Study) -> str:
    """Return a sentence on the expected gain from more trials, or why it is unknown."""
    scores = 100 * independent_scores(study)
    if len(scores) < LEAST:
        return (
            f"More trials: their benefit is unknown. An estimate takes {LEAST} trials drawn "
            f"independently of others (--sampler random); this study has {len(scores)}"
            f"{latest_improvement(study)}."
        )
    generator = np.random.default_rng(kept(study, IDENTITY)["seed"])
    gain, low, high = gain_of_doubling(scores, generator)
    return (
        f"More trials: the last doubling, from {len(scores) // 2} to {len(scores)} random "
        f"settings, raised the expected best by {gain:.2f} points [{low:.2f}, {high:.2f}], "
        "selection bias included; the next doubling rarely brings more."
    )


def independent_scores(study: optuna.Study) -> NDArray[np.float64]:
    """Return the scores of trials whose settings were drawn independently of other trials.

    Pruned trials count with the scores they had: below the best, they hardly affect it. Of an
    adaptive sampler only the initial random trials are independent.
    """
    sampler = (current(study) or {}).get("sampler", {})
    first = float("inf") if sampler.get("name") == "random" else sampler.get("n_startup_trials", 0)
    found = [
        result.score
        for trial, result in scored(study)
        if trial.number < first
        and ORIGIN not in trial.user_attrs
        and result.repeats is None
        and ending(trial) in INDEPENDENT
    ]
    return np.array(found, np.float64)


def gain_of_doubling(
    scores: NDArray[np.float64], generator: Generator
) -> tuple[float, float, float]:
    """Return by how much the expected best of independent scores exceeds that of half as many,
    and the ends of its 95% interval (percentiles over resamples)."""
    gains = [_gain(scores)]
    for _ in range(RESAMPLES):
        gains.append(_gain(generator.choice(scores, len(scores))))
    low, high = np.percentile(gains[1:], [2.5, 97.5])
    return gains[0], float(low), float(high)


def _gain(scores: NDArray[np.float64]) -> float:
    return float(scores.max()) - expected_best(scores, len(scores) // 2)


def expected_best(scores: NDArray[np.float64], count: int) -> float:
    """Return the exact mean of the maximum of `count` scores drawn without replacement."""
    ranks = np.arange(count, len(scores) + 1)  # possible ranks of the maximum

    def choose(of: NDArray[np.int64] | int, some: int) -> NDArray[np.float64]:
        log = gammaln(np.add(of, 1)) - gammaln(some + 1) - gammaln(np.subtract(of, some - 1))
        return np.asarray(log, np.float64)

    chances = np.exp(choose(ranks - 1, count - 1) - choose(len(scores), count))
    return float(np.sort(scores)[count - 1 :] @ chances)


def latest_improvement(study: optuna.Study) -> str:
    """Report which trial was the best."""
    complete = [each for each in scored(study) if each[0].state == TrialState.COMPLETE]
    if not complete:
        return ""
    best = max(complete, key=lambda each: each[1].score or 0.0)[0].number
    return f"; the best was trial {best} of {len(study.get_trials(deepcopy=False))}"
