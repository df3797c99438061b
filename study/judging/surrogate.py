"""A model of the final score given the settings, fitted to complete trials, to test samplers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from optuna.distributions import (
    CategoricalDistribution,
)
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold

from study.pipeline import Only, Settings, Space
from study.spec.space import place

TREES = 100
FOLDS = 10


def places(settings: Settings, space: Space) -> list[float]:
    """Return settings as numbers 0..1: positions in their ranges, choices one-hot.

    A setting with a range for each value of another one, such as the learning rate, is its
    position in the range that applies.
    """
    found: list[float] = []
    shared: dict[str, float] = {}
    for name, kind in space.items():
        if isinstance(kind, Only):
            shared.setdefault(kind.setting, 0.5)
            if kind.applies(settings) and kind.setting in settings:
                shared[kind.setting] = place(settings[kind.setting], kind.distribution)
        elif isinstance(kind, CategoricalDistribution):
            found += [float(settings.get(name) == choice) for choice in kind.choices]
        else:
            found.append(place(settings[name], kind))
    return [*found, *shared.values()]


@dataclass(frozen=True)
class Surrogate:
    """A random forest (Breiman 2001) over `places`."""

    trees: RandomForestRegressor
    space: Space

    def score(self, settings: Sequence[Settings]) -> NDArray[np.float64]:
        """Return expected final scores."""
        rows = [places(each, self.space) for each in settings]
        found: NDArray[np.float64] = self.trees.predict(np.array(rows))
        return found


def fit(
    settings: Sequence[Settings],
    scores: NDArray[np.float64],
    space: Space,
    generator: Generator,
) -> Surrogate:
    """Fit a surrogate to trials with these settings and scores."""
    seed = int(generator.integers(2**31))
    trees = RandomForestRegressor(TREES, max_features=0.5, random_state=seed)
    rows = np.array([places(each, space) for each in settings])
    return Surrogate(trees.fit(rows, scores), space)


@dataclass(frozen=True)
class HeldOut:
    """Accuracy of the surrogate on held-out settings."""

    error: float  # root mean square, points
    deviation: float  # of the scores themselves, points
    rank: float  # Spearman


def held_out(
    settings: Sequence[Settings],
    scores: NDArray[np.float64],
    space: Space,
    generator: Generator,
) -> HeldOut:
    """Cross-validate the surrogate."""
    told = np.empty_like(scores)
    folds = KFold(FOLDS, shuffle=True, random_state=int(generator.integers(2**31)))
    for rest, left in folds.split(scores):
        model = fit([settings[i] for i in rest], scores[rest], space, generator)
        told[left] = model.score([settings[i] for i in left])
    return HeldOut(
        float(100 * np.sqrt(np.mean((told - scores) ** 2))),
        float(100 * scores.std(ddof=1)),
        float(stats.spearmanr(told, scores).statistic),
    )
