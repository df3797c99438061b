"""Optuna's samplers and pruners by the names of the options, set up for studies of this kind."""

import bisect
import math
import statistics
import warnings
from collections import defaultdict
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

STARTUP_TRIALS = 5  # complete trials that the median pruner compares with at least
MINIMUM_AT_STEP = 4  # of these, those that must have a value at the step

# What a trial trains of the epochs in which it may be pruned, on average. Measured on studies of
# 30 to 100 trials of 5 and 6 epochs, on demo faces and on FER-2013.
SURVIVAL = {"median": 0.2, "halving": 0.2, "hyperband": 0.4, "none": 1.0}


def make_sampler(name: str, seed: int, trials_before: int) -> optuna.samplers.BaseSampler:
    """The sampler called `name`. A continued study does not draw the same proposals again."""
    seed = (seed * 1_000_003 + trials_before) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            case "qmc":
                return optuna.samplers.QMCSampler(
                    seed=seed, scramble=True, warn_independent_sampling=False
                )
    return optuna.samplers.RandomSampler(seed=seed)


class RowSampler(optuna.samplers.BaseSampler):
    """Proposes the first of `rows`, parameters each, that least trials have which did not fail."""

    def __init__(self, rows: list[dict[str, Any]], space: dict[str, BaseDistribution]) -> None:
        self._rows, self._space = rows, space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        others = study._storage.get_all_trials(study._study_id, deepcopy=False)
        tried = [
            other.params or other.system_attrs.get("fixed_params", {})
            for other in others
            if other.state != TrialState.FAIL and other._trial_id != trial._trial_id
        ]
        return min(self._rows, key=tried.count)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise NotImplementedError(f"{param_name} is in no row")


class MedianPruner(optuna.pruners.BasePruner):
    """Optuna's MedianPruner for a study that is maximised, at a cost that does not grow with it.

    Prunes a trial whose best value so far is below the median of the complete trials' values at
    the same step, where the learning rate's schedule is searched those with the same one: a
    schedule that gains at its end is behind until then. `complete` is a list to which trials are
    added as they are told; at least STARTUP_TRIALS must be in it, and MINIMUM_AT_STEP of those
    compared with have a value at the step.
    """

    def __init__(self, complete: list[FrozenTrial], warmup_steps: int) -> None:
        self._complete, self._warmup_steps = complete, warmup_steps
        self._read = 0  # how many of them are in
        # By schedule and step, in order.
        self._values: dict[tuple[str | None, int], list[float]] = defaultdict(list)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        for other in self._complete[self._read :]:
            schedule = other.params.get("schedule")
            for step, value in other.intermediate_values.items():
                if not math.isnan(value):
                    bisect.insort(self._values[schedule, step], value)
        self._read = len(self._complete)
        last = trial.last_step
        if self._read < STARTUP_TRIALS or last is None or last < self._warmup_steps:
            return False
        if math.isnan(best := max(trial.intermediate_values.values(), key=_or_least)):
            return True
        values = self._values[trial.params.get("schedule"), last]
        return len(values) >= MINIMUM_AT_STEP and best < statistics.median(values)


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def make_pruner(name: str, epochs: int, complete: list[FrozenTrial]) -> optuna.pruners.BasePruner:
    """The pruner called `name`, for trials of at most `epochs` epochs.

    `complete` are the study's complete trials; more may be added to it.
    """
    earliest = earliest_pruning(name, epochs)
    match name:
        case "median":
            return MedianPruner(complete, earliest)
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=earliest)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=earliest, max_resource=epochs)
    return optuna.pruners.NopPruner()


def earliest_pruning(name: str, epochs: int) -> int:
    """The first epoch after which the pruner may stop a trial; past the last if it stops none."""
    if name == "none":
        return epochs + 1
    return max(2, epochs // 10) if name == "median" else max(1, epochs // 9)


def expected_share(name: str, epochs: int) -> float:
    """The part of its epochs that a trial is expected to train with that pruner."""
    least = min(1.0, earliest_pruning(name, epochs) / epochs)
    return least + SURVIVAL[name] * (1 - least)
