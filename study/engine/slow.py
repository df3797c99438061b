"""Names the trial that later results have been waiting for, if for long."""

import time

from study.engine.trial import State, Trial

# How long later results wait for a trial before it is named: so long, and so many of its epochs.
SECONDS, EPOCHS = 30.0, 1.0


class SlowTrial:
    """Measures how long the trial whose result is due next has been in its epoch."""

    def __init__(self) -> None:
        self._due: tuple[int, int] | None = None  # trial and epoch
        self._since = 0.0

    def in_words(self, trial: Trial | None, pace: float | None) -> str:
        """Say that later results wait for `trial`, or return "" if not for long.

        `pace` is the usual number of seconds per epoch, used before the trial has one of its own.
        """
        epoch = 0 if trial is None else max(len(trial.epochs), trial.behind) + 1
        due = None if trial is None else (trial.number, epoch)
        if due != self._due:
            self._due, self._since = due, time.monotonic()
        if trial is None:
            return ""
        usual = trial.epochs[-1].seconds if trial.epochs else pace or 0.0
        if time.monotonic() - self._since <= max(SECONDS, EPOCHS * usual):
            return ""
        where = f"in epoch {epoch}" if trial.state == State.TRAINING else "to end"
        return f"trial {trial.number} is slow {where}; later results wait for it"
