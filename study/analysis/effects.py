"""Scores of each value of a setting, by seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from study.analysis.masks import cases_of
from study.spec.identity import Identity
from study.storage.records import Ending, Result, scored

SHOWN = 2  # values shown next to the score; a pipeline lists the most informative first


@dataclass(frozen=True)
class Effect:
    """The trials of one value, by seed."""

    label: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    diverged: int = 0  # number of diverged trials; their scores before that count
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # other than the score
    right: tuple[str, ...] = ()  # masks of the validation cases, see `study.analysis.masks`
    holdout: tuple[float, ...] = ()  # scores on held-out cases, of the trials that have one
    cases: int = 0  # validation cases of a mask, 0 without masks

    @property
    def mean(self) -> float:
        """Mean score; NaN if nothing was trained."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean score over seeds; NaN for a single seed."""
        return standard_error(self.scores)


def standard_error(values: tuple[float, ...]) -> float:
    """Return the standard error of a mean; NaN for a single value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def effects(study: optuna.Study, identity: Identity) -> list[Effect]:
    """Return the effect of each variant of a comparison, in order, as far as it was trained."""
    return effects_in(scored(study), identity)


def effects_in(trials: Sequence[tuple[FrozenTrial, Result]], identity: Identity) -> list[Effect]:
    """Return the effects from some of the trials, each with a score."""
    found = []
    masks = not split_by_seed(identity)  # masks of different cases are not comparable
    for label, changes in identity["space_definition"]["variants"].items():
        ours = _with(trials, changes)
        results = [result for _, result in ours]
        names = results[0].values if results else ()
        found.append(
            Effect(
                label,
                tuple(trial.params["seed"] for trial, _ in ours),
                tuple(result.score or 0.0 for result in results),
                sum(result.ending == Ending.DIVERGED for result in results),
                {name: tuple(r.values.get(name, math.nan) for r in results) for name in names},
                tuple(result.right for result in results) if masks else (),
                tuple(result.holdout for result in results if result.holdout is not None),
                cases_of(*ours[0]) if ours and masks else 0,
            )
        )
    return found


def split_by_seed(identity: Identity) -> bool:
    """Whether runs with different seeds have different validation images."""
    return identity.get("split_seed") == "seed"


def trials_of(study: optuna.Study, changes: Mapping[str, Any]) -> list[tuple[FrozenTrial, Result]]:
    """Return the finished trials with these changes and a score, one per seed, ordered by seed."""
    return _with(scored(study), changes)


def _with(
    trials: Sequence[tuple[FrozenTrial, Result]], changes: Mapping[str, Any]
) -> list[tuple[FrozenTrial, Result]]:
    by_seed = {
        trial.params["seed"]: (trial, result)
        for trial, result in reversed(trials)
        if {**trial.params, **changes} == trial.params
    }
    return [by_seed[seed] for seed in sorted(by_seed)]
