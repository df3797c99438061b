"""What a search may spend: trials, epochs, or both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from study.engine.chances import due, to_train
from study.storage.records import CONTINUES, CONTINUES_FROM, FINISHED, kept


@dataclass(frozen=True)
class Budget:
    """Ends a search after `trials` finished trials, and starts none that would exceed `limit`
    epochs. Processes that share a study may each start one trial too many.

    A trial has `epochs` epochs. Each proposed trial adds `rate` second chances, each expected to
    train all but `earliest` epochs.
    """

    epochs: int
    trials: int | None = None
    limit: int | None = None
    rate: float = 0.0
    earliest: int = 0

    def affords(self, trials: Sequence[FrozenTrial], epochs: int) -> bool:
        """Whether this many epochs may be trained in addition to those of `trials`."""
        if self.limit is None:
            return True
        running = (each for each in trials if each.state == TrialState.RUNNING)
        promised = sum(to_train(each, self.epochs) for each in running)
        return spent(trials) + promised + epochs <= self.limit

    def chances(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many second chances may be given in total, as far as known now."""
        if self.trials is None:
            return due(len(trials) + 1, self.rate)
        return next(n for n in range(self.trials + 1) if n >= due(self.trials - n, self.rate))

    def takes_up(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether it is time for second chances: the rest of the budget is reserved for them."""
        if not self.rate:
            return False
        begun = [each for each in trials if each.state in (*FINISHED, TrialState.RUNNING)]
        proposed = sum(kept(each, CONTINUES) is None for each in begun)
        if self.trials is not None and len(begun) >= self.trials:
            return False
        if self.trials is not None and proposed + due(proposed, self.rate) >= self.trials:
            return True
        chances = max(0, due(proposed + 1, self.rate) - (len(begun) - proposed))
        return not self.affords(trials, self.epochs + chances * (self.epochs - self.earliest))

    def trials_left(self, trials: Sequence[FrozenTrial], share: float) -> int:
        """Return how many trials are left to finish if each trains `share` of its epochs."""
        done = sum(each.state in FINISHED for each in trials)
        left = [] if self.trials is None else [self.trials - done]
        if self.limit is not None:
            left.append(math.ceil((self.limit - spent(trials)) / (share * self.epochs)))
        return max(0, min(left))


def spent(trials: Sequence[FrozenTrial]) -> int:
    """Return the epochs trained by these trials; a trial that reuses a result counts its epochs.

    Epochs that a second chance resumed from are counted once.
    """
    return sum(
        max(0, len(trial.intermediate_values) - kept(trial, CONTINUES_FROM, 0)) for trial in trials
    )
