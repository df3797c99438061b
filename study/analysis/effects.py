"""What the values of a setting reached, by seed."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from fer.files import write_figure
from study.spec.identity import Identity
from study.storage.records import Ending, Result, scored

SHOWN = 2  # of the values beside the score; a pipeline names the most telling first


@dataclass(frozen=True)
class Effect:
    """The trials of one value, by seed."""

    label: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    diverged: int = 0  # of them; what they reached before counts
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # beside the scores
    right: tuple[str, ...] = ()  # masks of the validation cases, see `study.analysis.images`
    holdout: tuple[float, ...] = ()  # scores on cases held out, of the trials that have one

    @property
    def mean(self) -> float:
        """Mean score; NaN where nothing was trained."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean score over seeds; NaN of a single one."""
        return standard_error(self.scores)


def standard_error(values: tuple[float, ...]) -> float:
    """Of the mean of some values; NaN of a single one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def effects(study: optuna.Study, identity: Identity) -> list[Effect]:
    """What each variant of a comparison reached, in their order, as far as it was trained."""
    found = []
    masks = not split_by_seed(identity)  # those of different cases cannot be compared
    for label, changes in identity["space_definition"]["variants"].items():
        trials = trials_of(study, changes)
        results = [result for _, result in trials]
        names = results[0].values if results else ()
        found.append(
            Effect(
                label,
                tuple(trial.params["seed"] for trial, _ in trials),
                tuple(result.score or 0.0 for result in results),
                sum(result.ending == Ending.DIVERGED for result in results),
                {name: tuple(r.values.get(name, math.nan) for r in results) for name in names},
                tuple(result.right for result in results) if masks else (),
                tuple(result.holdout for result in results if result.holdout is not None),
            )
        )
    return found


def split_by_seed(identity: Identity) -> bool:
    """Whether runs with different seeds have different validation images."""
    return identity.get("split_seed") == "seed"


def trials_of(study: optuna.Study, changes: Mapping[str, Any]) -> list[tuple[FrozenTrial, Result]]:
    """The finished trials with those changes that reached a score, one a seed, by seed."""
    by_seed = {
        trial.params["seed"]: (trial, result)
        for trial, result in reversed(scored(study))
        if {**trial.params, **changes} == trial.params
    }
    return [by_seed[seed] for seed in sorted(by_seed)]


def save_plot(found: list[Effect], title: str, control: str, path: Path) -> None:
    """Mean score against the value with its standard error, and every seed as a dot."""
    trained = [effect for effect in found if effect.scores]
    figure = Figure(figsize=(max(4.5, 0.9 * len(trained) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    for x, effect in enumerate(trained):
        colour = "tab:orange" if effect.label == control else "tab:blue"
        axes.plot([x] * len(effect.scores), effect.scores, ".", color=colour, alpha=0.4)
        error = 0.0 if math.isnan(effect.error) else effect.error
        axes.errorbar(x, effect.mean, error, fmt="o", color=colour, capsize=4)
    long = max(len(effect.label) for effect in trained) > (6 if len(trained) > 3 else 12)
    labels = [effect.label for effect in trained]
    axes.set_xticks(range(len(trained)), labels, rotation=30 if long else 0)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right" if long else "center")
    axes.set(xlabel=title, ylabel="score", xlim=(-0.5, len(trained) - 0.5))
    whose = f"orange: {control}; " if control else ""
    axes.set_title(f"{whose}bars: standard error over seeds", fontsize=8)
    axes.grid(alpha=0.3, axis="y")
    write_figure(figure, path)
