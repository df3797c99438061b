"""Which settings of a search mattered, with their uncertainty."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.random import Generator
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, create_trial

from fer.files import write_figure
from study.spec.space import condition_of, place
from study.storage.records import CONFIG, kept

RESAMPLES = 12
TREES = 16  # of a draw's forest; 64 move neither medians nor ranges, in five times the time
LEAST = 10  # complete trials
HOW = (
    "Share of the variance of the score that each setting explains by itself, without "
    f"interactions: fANOVA over complete trials, median and range of {RESAMPLES} draws of those "
    "trials with replacement. A setting with a range for each value of another one, such as the "
    "learning rate, counts once, by the relative position in its range; settings that only some "
    "trials have are left out. An adaptive sampler concentrates on good regions, so a setting "
    "that it fixed early seems to matter less."
)
TOO_FEW = f"Which settings mattered is unknown: that takes {LEAST} complete trials that differ."

Range = tuple[float, float, float]


def varied(trials: list[FrozenTrial]) -> list[str]:
    """Return the names of the parameters with more than one value in `trials`, sorted."""
    names = sorted({name for trial in trials for name in trial.params})
    return [
        name
        for name in names
        if len({trial.params[name] for trial in trials if name in trial.params}) > 1
    ]


def pooled(trials: list[FrozenTrial], space: Mapping[str, Any]) -> list[FrozenTrial]:
    """Return the trials with conditional parameters of the same setting merged into one.

    `space` is a study's stored definition; it may have one learning rate per optimizer, for
    example. Such ranges may differ, so the merged parameter is the position of the value in its
    own range, 0..1.
    """
    places: list[dict[str, float]] = []
    for trial in trials:
        found = {}
        settings = kept(trial, CONFIG, {})
        for name, value in trial.params.items():
            only, within = condition_of(name, space, settings), trial.distributions[name]
            if only and isinstance(within, FloatDistribution | IntDistribution):
                found[only["setting"]] = place(value, within)
        places.append(found)
    everywhere = set[str]().union(*places).intersection(*places)
    unit = FloatDistribution(0.0, 1.0)
    return [
        create_trial(
            value=trial.value,
            params={**trial.params, **{name: found[name] for name in everywhere}},
            distributions={**trial.distributions, **dict.fromkeys(everywhere, unit)},
        )
        for trial, found in zip(trials, places, strict=True)
    ]


def importances(
    trials: list[FrozenTrial], space: Mapping[str, Any], generator: Generator
) -> dict[str, Range]:
    """Return minimum, median and maximum of each parameter's importance, 0..1, largest first.

    Functional ANOVA with random forests (Hutter, Hoos, Leyton-Brown 2014) over complete trials
    drawn with replacement, so the range shows what a few trials more or less would change.
    Parameters that are constant or missing in some trial are left out, except settings that every
    trial gets from one parameter or another (see `pooled`). Empty with fewer than LEAST trials or
    if all scores are equal.
    """
    # It loads scikit-learn, a second that no command should spend before it needs it.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    # The draws go by position: the same ones whatever order a caller has.
    trials = pooled(sorted(trials, key=lambda trial: trial.number), space)
    names = [name for name in varied(trials) if all(name in trial.params for trial in trials)]
    if not names or len(trials) < LEAST or len({trial.value for trial in trials}) < 2:
        return {}
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(RESAMPLES):
        drawn = [trials[i] for i in generator.integers(len(trials), size=len(trials))]
        resampled = optuna.create_study(direction="maximize")
        resampled.add_trials(drawn)
        known = [name for name in varied(drawn) if name in found]
        shares: dict[str, float] = {}
        if known and len({trial.value for trial in drawn}) > 1:
            seed = int(generator.integers(2**31))
            evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # normalize
                shares = get_param_importances(
                    resampled, evaluator=evaluator, params=known, normalize=False
                )
        for name in names:
            found[name].append(float(shares.get(name, 0.0)))
    ranges = {
        name: (min(shares), float(np.median(shares)), max(shares))
        for name, shares in found.items()
    }
    return dict(sorted(ranges.items(), key=lambda item: -item[1][1]))


def save_plot(ranges: dict[str, Range], path: Path) -> None:
    """Plot a bar with its range for each parameter, the largest on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.26 * len(ranges) + 1), layout="constrained")
    axes = figure.subplots()
    low, middle, high = np.array(list(ranges.values())).T
    axes.barh(list(ranges), middle, xerr=(middle - low, high - middle), capsize=2)
    axes.invert_yaxis()
    axes.set(xlabel="share of the variance of the score, alone", xlim=(0, None))
    axes.grid(alpha=0.3, axis="x")
    write_figure(figure, path)
