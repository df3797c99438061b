"""What a process knows of a study's trials, so that reading them costs nothing."""

import copy
import time
from collections.abc import Container, Mapping, Set
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

REFRESH = 1.0  # seconds for which trials of other processes are not read again
ENDED = frozenset(state for state in TrialState if state.is_finished())


class KnownTrials:
    """The trials of one study by id, as far as they are known.

    A trial that changes is replaced by a changed copy: whoever was given the old one keeps what
    it saw.
    """

    def __init__(self) -> None:
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
        return self._open | {each for each in newer if each not in self._trials}

    def get(self, trial_id: int) -> FrozenTrial | None:
        """One of them, if it is known."""
        return self._trials.get(trial_id)

    def have_read(self, ids: Set[int], trials: Mapping[int, FrozenTrial], read_to: int) -> None:
        """Add what was found of the trials `ids` in the database just now, by id."""
        for trial_id, trial in trials.items():
            self.put(trial_id, trial)
        for trial_id in ids - trials.keys():  # the study was deleted
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

    def change(self, trial_id: int, **parts: Any) -> FrozenTrial:
        """Replace parts of a trial: a mapping is added to the one it has."""
        trial = copy.copy(self._trials[trial_id])
        for name, part in parts.items():
            mapping = isinstance(part, dict)
            setattr(trial, name, {**getattr(trial, name), **part} if mapping else part)
        self.put(trial_id, trial)
        return trial

    def forget(self, trial_id: int) -> None:
        """Know no more of an open trial than the database does, which is read at the next look."""
        self._read_at = -REFRESH
        if trial_id in self._open:
            self._trials.pop(trial_id, None)

    def listed(self, states: Container[TrialState] | None) -> list[FrozenTrial]:
        """The trials in the order of their ids, with `states` those in one of them."""
        if states is None:
            return list(self._trials.values())
        wanted = frozenset(state for state in TrialState if state in states)
        if wanted <= ENDED and wanted in self._lists:
            return list(self._lists[wanted])
        ids = self._trials.keys() if wanted & ENDED else sorted(self._open)
        found = [trial for each in ids if (trial := self._trials[each]).state in wanted]
        if wanted <= ENDED:
            self._lists[wanted] = list(found)
        return found
