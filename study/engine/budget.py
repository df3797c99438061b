"""What a search may spend: trials, epochs, or both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from study.engine.chances import due, to_train
from study.storage.records import CONTINUES, CONTINUES_FROM, FINISHED, kept


@dataclass(frozen=True)
class Budget:
    """A search ends with `trials` finished trials, and begins none that would take it beyond
    `limit` epochs. Processes that work on one study together may each begin one too many.

    A trial has `epochs` of them. After every proposed trial `rate` second chances are due, each
    of which is expected to train all but `earliest` epochs.
    """

    epochs: int
    trials: int | None = None
    limit: int | None = None
    rate: float = 0.0
    earliest: int = 0

    def affords(self, trials: Sequence[FrozenTrial], epochs: int) -> bool:
        """Whether so many epochs may be trained beside those that `trials` trained or will."""
        if self.limit is None:
            return True
        running = (each for each in trials if each.state == TrialState.RUNNING)
        promised = sum(to_train(each, self.epochs) for each in running)
        return spent(trials) + promised + epochs <= self.limit

    def chances(self, trials: Sequence[FrozenTrial]) -> int:
        """How many second chances may be given in all, by what is known so far."""
        if self.trials is None:
            return due(len(trials) + 1, self.rate)
        return next(n for n in range(self.trials + 1) if n >= due(self.trials - n, self.rate))

    def takes_up(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether it is time for second chances: what is left of the budget is theirs."""
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
        """How many trials are still to be finished if each trains `share` of its epochs."""
        done = sum(each.state in FINISHED for each in trials)
        left = [] if self.trials is None else [self.trials - done]
        if self.limit is not None:
            left.append(math.ceil((self.limit - spent(trials)) / (share * self.epochs)))
        return max(0, min(left))


def spent(trials: Sequence[FrozenTrial]) -> int:
    """Epochs that these trials trained; one that has the result of another one counts its epochs.

    Those with which a second chance began count once.
    """
    return sum(
        max(0, len(trial.intermediate_values) - kept(trial, CONTINUES_FROM, 0)) for trial in trials
    )
