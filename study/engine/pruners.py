"""How bad trials are stopped early, and what that saves."""

import bisect
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

STARTUP_TRIALS = 5  # complete trials that the median pruner compares with at least
MINIMUM_AT_STEP = 4  # of these, those that must have a value at the step

REDUCTION = {"halving": 4, "hyperband": 3}

# What a trial trains of the epochs in which it may be pruned, on average. Measured on studies of
# 30 to 100 trials of 5 and 6 epochs, on demo faces and on FER-2013.
SURVIVAL = {"median": 0.2, "halving": 0.2, "hyperband": 0.4, "none": 1.0}


def describe_pruner(name: str, epochs: int, curves_by: Sequence[str]) -> dict[str, Any]:
    """The pruner called `name` with its settings, as it is stored with a study."""
    if name == "none":
        return {"name": name}
    settings: dict[str, Any] = {"name": name, "earliest": earliest_pruning(name, epochs)}
    if name == "median":
        settings |= {"startup": STARTUP_TRIALS, "at_step": MINIMUM_AT_STEP}
        settings |= {"within": list(curves_by)} if curves_by else {}
    else:
        settings["reduction_factor"] = REDUCTION[name]
    return settings


class MedianPruner(optuna.pruners.BasePruner):
    """Optuna's MedianPruner for a study that is maximised, at a cost that does not grow with it.

    Prunes a trial whose best value so far is below the median of the complete trials' values at
    the same step, among those with the same values of the parameters `curves_by`: a learning
    rate schedule that gains at its end is behind until then. `complete` is a list to which trials
    are added as they are told; at least STARTUP_TRIALS must be in it, and MINIMUM_AT_STEP of those
    compared with have a value at the step.
    """

    def __init__(
        self, complete: list[FrozenTrial], warmup_steps: int, curves_by: Sequence[str] = ()
    ) -> None:
        self._complete, self._warmup_steps = complete, warmup_steps
        self._curves_by = curves_by
        self._read = 0  # how many of them are in
        # By kind of curve and step, in order.
        self._values: dict[tuple[Any, int], list[float]] = defaultdict(list)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        for other in self._complete[self._read :]:
            kind = self._kind(other)
            for step, value in other.intermediate_values.items():
                if not math.isnan(value):
                    bisect.insort(self._values[kind, step], value)
        self._read = len(self._complete)
        last = trial.last_step
        if self._read < STARTUP_TRIALS or last is None or last < self._warmup_steps:
            return False
        if math.isnan(best := max(trial.intermediate_values.values(), key=_or_least)):
            return True
        values = self._values[self._kind(trial), last]
        return len(values) >= MINIMUM_AT_STEP and best < statistics.median(values)

    def _kind(self, trial: FrozenTrial) -> tuple[Any, ...]:
        return tuple(trial.params.get(name) for name in self._curves_by)


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def make_pruner(
    name: str, epochs: int, complete: list[FrozenTrial], curves_by: Sequence[str] = ()
) -> optuna.pruners.BasePruner:
    """The pruner called `name`, for trials of at most `epochs` epochs.

    `complete` are the study's complete trials; more may be added to it.
    """
    earliest = earliest_pruning(name, epochs)
    match name:
        case "median":
            return MedianPruner(complete, earliest, curves_by)
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(earliest, REDUCTION[name])
        case "hyperband":
            return optuna.pruners.HyperbandPruner(earliest, epochs, REDUCTION[name])
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


def protected_trials(name: str, kinds: int) -> int:
    """Complete trials before the pruner stops any, with that many kinds of curves to compare."""
    # The median pruner waits for some complete trials, the others spare the control.
    return max(STARTUP_TRIALS, MINIMUM_AT_STEP * kinds) if name == "median" else 1
