"""What a process knows of a study's trials: its own in memory, the others' read now and then."""

import time
from collections import defaultdict
from collections.abc import Callable, Container
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from study.storage.owner import TRIAL
from study.storage.retry import patient

REFRESH = 1.0  # seconds for which trials of other processes are not read again

TRIALS = sa.select(TRIAL.c.trial_id, TRIAL.c.state).where(
    TRIAL.c.study_id == sa.bindparam("study"),
    (TRIAL.c.trial_id > sa.bindparam("after"))
    | TRIAL.c.trial_id.in_(sa.bindparam("ids", expanding=True)),
)


class KnownTrials(RDBStorage):
    """The reading half of the database: trials of this process cost nothing to read."""

    complete: dict[int, list[FrozenTrial]]
    """The complete trials of each study, in the order in which this process learnt of them."""

    def __init__(self, url: str, on_wait: Callable[[str, float], None], **settings: Any) -> None:
        super().__init__(url, engine_kwargs=settings)
        self.complete = defaultdict(list)
        self._on_wait = on_wait  # told why and for how many seconds the database is waited for
        self._own: dict[int, FrozenTrial] = {}  # the trials this process runs, by id
        # By study, the trials that Optuna's cache does not know to be finished.
        self._open: dict[int, dict[int, FrozenTrial]] = defaultdict(dict)
        self._read_at: dict[int, float] = defaultdict(lambda: -REFRESH)
        self._doubtful = False  # whether a commit may have succeeded without saying so

    def waiting(self, reason: str, seconds: float) -> None:
        self._doubtful = True
        self.engine.dispose()  # connections to a server that was restarted are dead
        self._on_wait(reason, seconds)

    @patient
    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return super().get_study_system_attrs(study_id)

    @patient
    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self._own.get(trial_id)
        return super().get_trial(trial_id) if trial is None else trial

    @patient
    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        known = self._open[study_id]
        afresh = not included_trial_ids and trial_id_greater_than == -1
        if afresh:  # by a caller that keeps nothing yet
            complete = (trial for trial in known.values() if trial.state == TrialState.COMPLETE)
            self.complete[study_id][:] = complete
        if afresh or time.monotonic() - self._read_at[study_id] >= REFRESH:
            self._read_others(study_id, included_trial_ids, trial_id_greater_than)
            self._read_at[study_id] = time.monotonic()
        trials = [known[trial_id] for trial_id in sorted(known)]
        for trial in trials:
            if trial.state.is_finished():  # the caller keeps these
                del known[trial._trial_id]
        return trials

    def _read_others(self, study_id: int, ids: set[int], after: int) -> None:
        """Read trials that another process began, changed or finished; no others."""
        known = self._open[study_id]
        with self.engine.connect() as connection:
            rows = connection.execute(TRIALS, {"study": study_id, "after": after, "ids": ids})
            changed = {
                row.trial_id
                for row in rows
                if row.trial_id not in self._own
                and (
                    row.trial_id not in known
                    or row.state == TrialState.RUNNING
                    or row.state != known[row.trial_id].state
                )
            }
        if not changed:
            return
        for trial in super()._get_trials(study_id, None, changed, max(changed)):
            if trial._trial_id not in changed:  # it reads all newer ones as well
                continue
            known[trial._trial_id] = trial
            if trial.state == TrialState.COMPLETE:
                self.complete[study_id].append(trial)
