"""In-memory cache of a study's trials."""

import copy
import time
from collections.abc import Callable, Container, Mapping, Set
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

REFRESH = 1.0  # seconds before trials of other processes are read again
ENDED = frozenset(state for state in TrialState if state.is_finished())
Misfit = Callable[[FrozenTrial], str | None]
"""Returns why a trial does not fit the study, or None."""


class KnownTrials:
    """The known trials of one study by id.

    A changed trial is replaced by a copy, so earlier references stay unchanged. Trials added by
    other programs that are a `misfit` are never listed.
    """

    def __init__(self, misfit: Misfit = lambda trial: None) -> None:
        self._misfit = misfit
        self.misfits: dict[int, tuple[FrozenTrial, str]] = {}
        """Misfits by id, each with the reason. Waiting trials are checked when they are asked
        for."""
        self.complete: list[FrozenTrial] = []
        """Complete trials in the order in which this process read them."""
        self.distributions: dict[str, BaseDistribution] = {}
        """Distribution of each parameter in the first trial that has it."""
        self._trials: dict[int, FrozenTrial] = {}
        self._open: set[int] = set()  # unfinished trials
        self._lists: dict[frozenset[TrialState], list[FrozenTrial]] = {}  # finished, by states
        self.read_to = -1
        """Highest id up to which all trials were read. Ids ascend: they are assigned under a
        lock."""
        self._read_at = -REFRESH

    @property
    def fresh(self) -> bool:
        """Whether the trials of other processes were read less than REFRESH seconds ago."""
        return time.monotonic() - self._read_at < REFRESH

    def not_final(self, newer: Set[int]) -> set[int]:
        """Return the ids, of `newer` and of known trials, that may have changed since."""
        return self._open | (newer - self._trials.keys() - self.misfits.keys())

    def get(self, trial_id: int) -> FrozenTrial | None:
        """Return a trial if it is known."""
        return self._trials.get(trial_id)

    def have_read(self, ids: Set[int], trials: Mapping[int, FrozenTrial], read_to: int) -> None:
        """Add the `trials` just found in the database when looking for `ids`."""
        for trial_id, trial in trials.items():
            reason = None if trial.state == TrialState.WAITING else self._misfit(trial)
            if reason is None:
                self.misfits.pop(trial_id, None)
                self.put(trial_id, trial)
            else:
                self._leave_out(trial_id, trial, reason)
        for trial_id in ids - trials.keys():  # the study was deleted
            self.misfits.pop(trial_id, None)
            self._open.discard(trial_id)
            self._trials.pop(trial_id, None)
        self.read_to, self._read_at = read_to, time.monotonic()

    def put(self, trial_id: int, trial: FrozenTrial) -> None:
        """Add or update a trial."""
        in_order = trial_id in self._trials or trial_id > next(reversed(self._trials), -1)
        self._trials[trial_id] = trial
        if not in_order:
            self._trials = dict(sorted(self._trials.items()))
        for name, distribution in trial.distributions.items():
            self.distributions.setdefault(name, distribution)
        if not trial.state.is_finished():
            self._open.add(trial_id)
            return
        self._open.discard(trial_id)
        self._lists.clear()
        if trial.state == TrialState.COMPLETE:
            self.complete.append(trial)

    def _leave_out(self, trial_id: int, trial: FrozenTrial, reason: str) -> None:
        self.misfits[trial_id] = trial, reason
        self._trials.pop(trial_id, None)
        (self._open.discard if trial.state.is_finished() else self._open.add)(trial_id)

    def change(self, trial_id: int, **parts: Any) -> FrozenTrial:
        """Replace attributes of a trial; mappings are merged with the existing ones."""
        trial = copy.copy(self._trials[trial_id])
        for name, part in parts.items():
            mapping = isinstance(part, dict)
            setattr(trial, name, {**getattr(trial, name), **part} if mapping else part)
        self.put(trial_id, trial)
        return trial

    def forget(self, trial_id: int) -> None:
        """Read a trial again next time: another process may have changed it."""
        self._read_at = -REFRESH

    def all(self) -> list[FrozenTrial]:
        """Return all trials, including misfits, ordered by number."""
        misfits = [trial for trial, _ in self.misfits.values()]
        return sorted([*self._trials.values(), *misfits], key=lambda trial: trial.number)

    def count(self, *states: TrialState) -> int:
        """Return how many trials, including misfits, are in one of these states."""
        return len(self.listed(states)) + self.misfits_in(*states)

    def misfits_in(self, *states: TrialState) -> int:
        """Return how many misfits are in one of these states."""
        return sum(trial.state in states for trial, _ in self.misfits.values())

    def listed(self, states: Container[TrialState] | None) -> list[FrozenTrial]:
        """Return the trials ordered by id, with `states` only those in one of them."""
        if states is None:
            return list(self._trials.values())
        wanted = frozenset(state for state in TrialState if state in states)
        if wanted <= ENDED and wanted in self._lists:
            return list(self._lists[wanted])
        ids = self._trials.keys() if wanted & ENDED else sorted(self._open)
        known = (self._trials[each] for each in ids if each in self._trials)
        found = [trial for trial in known if trial.state in wanted]
        if wanted <= ENDED:
            self._lists[wanted] = list(found)
        return found
