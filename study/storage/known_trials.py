"""What a process knows of a study's trials, so that reading them costs nothing."""

import copy
import time
from collections.abc import Callable, Container, Mapping, Set
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

REFRESH = 1.0  # seconds for which trials of other processes are not read again
ENDED = frozenset(state for state in TrialState if state.is_finished())
Misfit = Callable[[FrozenTrial], str | None]
"""Says in words what keeps a trial from being one of the study's; None if nothing does."""


class KnownTrials:
    """The trials of one study by id, as far as they are known.

    A trial that changes is replaced by a changed copy: whoever was given the old one keeps what
    it saw. One that other programs put in and that is a `misfit` is never listed.
    """

    def __init__(self, misfit: Misfit = lambda trial: None) -> None:
        self._misfit = misfit
        self.misfits: dict[int, tuple[FrozenTrial, str]] = {}
        """Those by id, each with the reason. What waits is judged by who asks for it."""
        self.complete: list[FrozenTrial] = []
        """The complete trials in the order in which this process learnt of them."""
        self.distributions: dict[str, BaseDistribution] = {}
        """Of each parameter, as the first trial that has it."""
        self._trials: dict[int, FrozenTrial] = {}
        self._open: set[int] = set()  # those that are not finished
        self._lists: dict[frozenset[TrialState], list[FrozenTrial]] = {}  # of finished trials
        self.read_to = -1
        """The id up to which all were read: they ascend, for numbers are given under a lock."""
        self._read_at = -REFRESH

    @property
    def fresh(self) -> bool:
        """Whether the trials of other processes were read just now."""
        return time.monotonic() - self._read_at < REFRESH

    def not_final(self, newer: Set[int]) -> set[int]:
        """Those among `newer` and the known ones that may be otherwise by now."""
        return self._open | (newer - self._trials.keys() - self.misfits.keys())

    def get(self, trial_id: int) -> FrozenTrial | None:
        """One of them, if it is known."""
        return self._trials.get(trial_id)

    def have_read(self, ids: Set[int], trials: Mapping[int, FrozenTrial], read_to: int) -> None:
        """Add what was found of the trials `ids` in the database just now, by id."""
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
        """Add a trial, or the present state of one."""
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
        """Replace parts of a trial: a mapping is added to the one it has."""
        trial = copy.copy(self._trials[trial_id])
        for name, part in parts.items():
            mapping = isinstance(part, dict)
            setattr(trial, name, {**getattr(trial, name), **part} if mapping else part)
        self.put(trial_id, trial)
        return trial

    def forget(self, trial_id: int) -> None:
        """Another process may have changed a trial: read it at the next look."""
        self._read_at = -REFRESH

    def all(self) -> list[FrozenTrial]:
        """All of them in the order of their numbers, misfits too."""
        misfits = [trial for trial, _ in self.misfits.values()]
        return sorted([*self._trials.values(), *misfits], key=lambda trial: trial.number)

    def count(self, *states: TrialState) -> int:
        """How many are in one of these states, misfits among them."""
        return len(self.listed(states)) + self.misfits_in(*states)

    def misfits_in(self, *states: TrialState) -> int:
        """How many misfits are in one of these states."""
        return sum(trial.state in states for trial, _ in self.misfits.values())

    def listed(self, states: Container[TrialState] | None) -> list[FrozenTrial]:
        """The trials in the order of their ids, with `states` those in one of them."""
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
