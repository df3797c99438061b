"""Time left of a study, from a short measurement at the start and from its epochs so far."""

from dataclasses import dataclass, field

PRIOR_TRIALS = 5  # weight of the expected share, in finished trials
PRIOR_EPOCHS = 10  # weight of the measured pace, in epochs
RECENT = 15  # finished trials to average over


@dataclass
class Forecast:
    """Estimates the time left of a study.

    `share` is the share of its epochs that a trial is expected to train before the pruner stops
    it, 1 without pruning. The next `protected` trials are not pruned.
    """

    trials: int  # left, including running ones
    epochs: int  # of an unpruned trial
    workers: int
    epoch_seconds: float | None  # measured before the first trial
    share: float
    earliest: int  # the first epoch after which a trial may be pruned
    protected: int
    budget: int | None = None  # total epochs that the trials left may train
    _spent: list[int] = field(default_factory=list)  # epochs of finished trials
    _seconds: list[float] = field(default_factory=list)  # of the epochs trained

    def epoch(self, seconds: float) -> None:
        """Record the duration of an epoch."""
        self._seconds.append(seconds)

    def finished(self, epochs: int) -> None:
        """Record how many epochs a finished trial trained."""
        self._spent.append(epochs)

    def spare(self, trials: int) -> None:
        """Record that this many of the trials left will not be trained."""
        self.trials -= trials

    def seconds_left(self, running: list[int]) -> float | None:
        """Return the seconds until the last trial ends, given the epochs of each running trial.

        None before any epoch was measured or trained.
        """
        seen = self._seconds
        if self.epoch_seconds is None and not seen:
            return None
        prior = 0 if self.epoch_seconds is None else PRIOR_EPOCHS
        expected_pace = (self.epoch_seconds or 0.0) * prior
        pace = (expected_pace + sum(seen)) / (prior + len(seen))
        # Recent trials only: as the sampler learns, it proposes trials that the pruner keeps.
        prunable = self._spent[self.protected :][-RECENT:]
        expected = PRIOR_TRIALS * self.share * self.epochs + sum(prunable)
        typical = expected / (PRIOR_TRIALS + len(prunable))
        done = len(self._spent)
        work, longest = 0.0, 0.0
        for i, epochs in enumerate(running):
            remaining = max(self._total(done + i, epochs, typical) - epochs, 0.5)
            work += remaining
            longest = max(longest, remaining)
        ahead = range(done + len(running), self.trials)
        work += sum(self._total(i, 0, typical) for i in ahead)
        # At the end some workers are idle while the last trials finish.
        idle = typical * (self.workers - 1) / 2 if ahead else 0.0
        if self.budget is not None:
            work, idle = min(work, max(0, self.budget - len(seen))), 0.0
            longest = min(longest, work)
        return max((work + idle) / self.workers, longest) * pace

    def _total(self, place: int, epochs: int, typical: float) -> float:
        """Return the expected total epochs of the trial at `place`, which has trained `epochs`."""
        if place < self.protected:
            return self.epochs
        if epochs < self.earliest:
            return typical
        # It has survived the pruner so far and may well complete.
        return (epochs + self.epochs) / 2
