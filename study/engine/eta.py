"""How long a study takes: from a short measurement before it, and from what is seen since."""

from dataclasses import dataclass, field

PRIOR_TRIALS = 5  # finished trials after which what was seen weighs as much as what was expected
PRIOR_EPOCHS = 10
RECENT = 15


@dataclass
class Forecast:
    """The time left of a study.

    `share` is the part of its epochs that a trial is expected to train before the pruner stops
    it, 1 without pruning; the first `protected` trials that are still to come are trained whole.
    """

    trials: int  # to go, the running ones included
    epochs: int  # of an unpruned trial
    workers: int
    epoch_seconds: float | None  # measured before the first trial
    share: float
    earliest: int  # the first epoch after which a trial may be pruned
    protected: int
    budget: int | None = None  # epochs that all trials to go may train together
    _spent: list[int] = field(default_factory=list)  # epochs of finished trials
    _seconds: list[float] = field(default_factory=list)  # of the epochs trained

    def epoch(self, seconds: float) -> None:
        """An epoch of some trial took that long."""
        self._seconds.append(seconds)

    def finished(self, epochs: int) -> None:
        """A trial ended after that many epochs."""
        self._spent.append(epochs)

    def spare(self, trials: int) -> None:
        """So many of the trials to go will not be trained."""
        self.trials -= trials

    def seconds_left(self, running: list[int]) -> float | None:
        """Seconds until the last trial ends; `running` has the epochs each one trained so far.

        None before any epoch was measured or trained.
        """
        seen = self._seconds
        if self.epoch_seconds is None and not seen:
            return None
        prior = 0 if self.epoch_seconds is None else PRIOR_EPOCHS
        expected_pace = (self.epoch_seconds or 0.0) * prior
        pace = (expected_pace + sum(seen)) / (prior + len(seen))
        # The recent ones: a sampler that learns proposes what the pruner spares.
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
        # At the end some workers have nothing left to do while the last trials go on.
        idle = typical * (self.workers - 1) / 2 if ahead else 0.0
        if self.budget is not None:
            work, idle = min(work, max(0, self.budget - len(seen))), 0.0
            longest = min(longest, work)
        return max((work + idle) / self.workers, longest) * pace

    def _total(self, place: int, epochs: int, typical: float) -> float:
        """Epochs expected of the trial at `place`, which has trained `epochs` of them."""
        if place < self.protected:
            return self.epochs
        if epochs < self.earliest:
            return typical
        # It was good enough so far: it may well go on to the end.
        return (epochs + self.epochs) / 2
