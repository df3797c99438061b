"""The database of a running study: each trial has an owner, and the study a total."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.storage.cached_database import CachedDatabase
from study.storage.owner import (
    COUNTED,
    TrialWaiting,
    beat,
    check_own,
    check_total,
    disown,
    first_waiting,
    is_continued,
    owner_of,
    running,
)
from study.storage.reading import read_trial
from study.storage.records import CONTINUES, OWNER
from study.storage.retry import patient, say_nothing
from study.storage.tables import TRIAL_SYSTEM
from study.storage.writing import (
    attribute,
    change_state,
    id_of,
    insert_trial,
    lock_study,
    lock_trial,
    write,
)


class OwnedDatabase(CachedDatabase):
    """A database in which this process, identified by `owner`, runs trials.

    The process owns the trials it asks for: `owner` is stored in the transaction that starts the
    trial. Another process must take a trial over before finishing it; finishing it here then
    raises TakenOver. Starting a trial raises TotalReached if `total` trials of all processes are
    finished or running. Starting a new one raises TrialWaiting if one is in the queue, where
    another process may just have put it back.
    """

    def __init__(
        self,
        url: str,
        owner: dict[str, Any],
        total: int | None = None,
        on_wait: Callable[[str, float], None] = say_nothing,
    ) -> None:
        self._total = total
        self._doubtful = False  # whether a commit may have succeeded despite an error
        super().__init__(url, owner, on_wait)

    def waiting(self, reason: str, seconds: float) -> None:
        super().waiting(reason, seconds)
        self._doubtful = True

    @patient
    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None:
            return super().create_new_trial(study_id, template_trial)
        known = self._known[study_id]
        with self.transaction(durable=True) as connection:
            lock_study(connection, study_id)
            lost: set[int] = set()
            if self._doubtful:
                lost = running(connection, study_id, self.owner) - self._own.keys()
            if lost:
                trial_id = lost.pop()
                trial = read_trial(connection, trial_id)
            else:
                self._check_total(connection, study_id)
                waiting = first_waiting(connection, study_id)
                if waiting is not None:
                    self._changed(study_id, waiting)
                    raise TrialWaiting
                mine = create_trial(state=TrialState.RUNNING, system_attrs={OWNER: self.owner})
                trial_id, trial = insert_trial(connection, study_id, mine)
            beat(connection, {trial_id})
        self._doubtful = False
        self._take(trial_id, trial, known)
        return trial_id

    def _check_total(self, connection: sa.Connection, study_id: int) -> None:
        total = self._total
        if total is not None:
            total += self._known[study_id].misfits_in(*COUNTED)
        check_total(connection, study_id, total)

    @patient
    def queue_second_chance(self, study_id: int, trial: FrozenTrial) -> bool:
        """Queue `trial`, which continues another one.

        Returns False, and changes nothing, if any trial waits in the queue or another one already
        continues that one. Raises TotalReached if the study has its total.
        """
        first = trial.system_attrs[CONTINUES]
        with self.transaction(durable=True) as connection:
            self._check_total(connection, study_id)
            waiting = first_waiting(connection, study_id)
            changed = id_of(connection, study_id, first) if waiting is None else waiting
            queued = waiting is None and not is_continued(connection, study_id, first)
            if queued:
                changed, _ = insert_trial(connection, study_id, trial)
        self._changed(study_id, changed)  # make a faster process's trial visible
        return queued

    @patient
    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state == TrialState.RUNNING:
            return self._begin(trial_id)
        now = datetime.now()
        with self._own_trial(trial_id), self.transaction(durable=True) as connection:
            row = lock_trial(connection, trial_id)
            if not self._is_stored(connection, trial_id, state, values):
                check_own(connection, trial_id, self.owner)
                change_state(connection, trial_id, state, now, values)
        known = self._own.pop(trial_id, None)
        if known is None:
            self._known[row.study_id].forget(trial_id)
        else:
            told = {} if values is None else {"values": list(values)}
            known.change(trial_id, state=state, datetime_complete=now, **told)
        return True

    def _is_stored(
        self,
        connection: sa.Connection,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> bool:
        """Whether a commit that seemed to fail has already finished an own trial like this."""
        if not self._doubtful or trial_id not in self._own:
            return False
        stored = read_trial(connection, trial_id)
        return stored is not None and (stored.state, stored.values) == (
            state,
            None if values is None else list(values),
        )

    def _begin(self, trial_id: int) -> bool:
        """Take ownership of a waiting trial; return whether it was still available."""
        with self.transaction(durable=True) as connection:
            row = lock_trial(connection, trial_id)
            if row.state.is_finished():
                raise UpdateFinishedTrialError(f"trial {row.number} is finished")
            known = self._known[row.study_id]
            committed = (  # an earlier commit succeeded despite an error
                self._doubtful
                and row.state == TrialState.RUNNING
                and trial_id not in self._own
                and owner_of(connection, trial_id) == self.owner
            )
            if not committed:
                if row.state != TrialState.WAITING:
                    return False
                self._check_total(connection, row.study_id)
                change_state(connection, trial_id, TrialState.RUNNING, datetime.now())
                owner = attribute(TRIAL_SYSTEM, trial_id, OWNER, self.owner)
                write(connection, [owner], replace=True)
                beat(connection, {trial_id})
            trial = read_trial(connection, trial_id)
        self._take(trial_id, trial, known)
        return True

    @patient
    def requeue(self, study_id: int, number: int, owner: Any) -> bool:
        """Put a trial run by `owner` back into the queue with the same number and stored epochs.

        Returns False if the owner no longer has it. Optuna itself can only fail the trial and
        queue a copy behind all others.
        """
        with self.transaction(durable=True) as connection:
            trial_id = id_of(connection, study_id, number)
            row = lock_trial(connection, trial_id)
            theirs = bool(
                owner_of(connection, trial_id) == owner and row.state == TrialState.RUNNING
            )
            if theirs:
                change_state(connection, trial_id, TrialState.WAITING, datetime.now())
                disown(connection, trial_id)
        self._forget(trial_id)
        return theirs
