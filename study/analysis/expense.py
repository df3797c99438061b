"""What a study's trials took, and what stopping some of them early saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import FrozenTrial

from study.storage.records import CONTINUES, CONTINUES_FROM, Ending, ending, kept, result_of


@dataclass(frozen=True)
class Expense:
    """Epochs that were trained, and those that pruned trials were spared, with their seconds.

    `seconds` are of training, summed over trials; `clock` is the time in which any trial ran.
    What was saved is estimated by each trial's own pace.
    """

    epochs: int
    seconds: float
    clock: float
    saved_epochs: int
    saved_seconds: float


def expense_of(trials: Sequence[FrozenTrial], epochs: int) -> Expense:
    """The expense of some trials, each of which has so many epochs if it is whole."""
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
    """Epochs that a trial trained itself: none that it repeats or continues from."""
    result = result_of(trial)
    if result is not None and result.repeats is not None:
        return 0
    begun_with = kept(trial, CONTINUES_FROM, 0)
    behind = begun_with if isinstance(begun_with, int) else 0
    return max(0, len(trial.intermediate_values) - behind)


def clock_of(trials: Sequence[FrozenTrial]) -> float:
    """Seconds in which at least one of the trials with a result ran."""
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
