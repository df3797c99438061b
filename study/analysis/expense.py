"""The cost of a study's trials, and the savings from pruning."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import FrozenTrial

from study.storage.records import CONTINUES, CONTINUES_FROM, Ending, ending, kept, result_of


@dataclass(frozen=True)
class Expense:
    """Epochs and seconds of training, and those saved by pruning.

    `seconds` is training time summed over trials; `clock` is wall-clock time during which at
    least one trial ran. Savings are estimated from each trial's own pace.
    """

    epochs: int
    seconds: float
    clock: float
    saved_epochs: int
    saved_seconds: float


def expense_of(trials: Sequence[FrozenTrial], epochs: int) -> Expense:
    """Return the expense of trials that have `epochs` epochs each if complete."""
    taken_up = {kept(trial, CONTINUES) for trial in trials}
    saved_epochs, saved_seconds, seconds = 0, 0.0, 0.0
    for trial in trials:
        result = result_of(trial)
        if result is None:
            continue
        seconds += result.seconds
        spared = epochs - result.epochs
        stopped = ending(trial) == Ending.PRUNED and trial.number not in taken_up
        if stopped and result.repeats is None and spared > 0:
            saved_epochs += spared
            saved_seconds += spared * result.seconds / max(1, epochs_trained(trial))
    trained = sum(map(epochs_trained, trials))
    return Expense(trained, seconds, clock_of(trials), saved_epochs, saved_seconds)


def epochs_trained(trial: FrozenTrial) -> int:
    """Return the epochs a trial trained itself, without those it repeats or continues from."""
    result = result_of(trial)
    if result is not None and result.repeats is not None:
        return 0
    begun_with = kept(trial, CONTINUES_FROM, 0)
    behind = begun_with if isinstance(begun_with, int) else 0
    return max(0, len(trial.intermediate_values) - behind)


def clock_of(trials: Sequence[FrozenTrial]) -> float:
    """Return the seconds during which at least one trial with a result ran."""
    spans = sorted(
        (trial.datetime_start, trial.datetime_complete)
        for trial in trials
        if trial.datetime_start and trial.datetime_complete and result_of(trial) is not None
    )
    seconds, until = 0.0, datetime.min
    for begin, end in spans:
        if end > until:
            seconds += (end - max(begin, until)).total_seconds()
            until = end
    return seconds
