"""Other processes on the study: show them that this one is alive, requeue trials of dead ones."""

import time
from collections.abc import Callable

import optuna
from optuna.trial import TrialState

from study.storage.leases import show_life
from study.storage.owned import OwnedDatabase
from study.storage.owner import HEARTBEAT_SECONDS, Owner
from study.storage.records import OWNER, kept
from study.storage.studies import requeue_abandoned
from study.words import counted

SAID = 3  # ignored trials to print with their reasons
LOOK_SECONDS = 5.0  # between checks for trials whose process is gone


class Neighbours:
    """Processes and programs that use the study besides this one; `say` prints a line."""

    def __init__(
        self, study: optuna.Study, database: OwnedDatabase, say: Callable[[str], None]
    ) -> None:
        self._study, self._database, self._say = study, database, say
        self._study_id = database.get_study_id_from_name(study.study_name)
        self._looked = self._beaten = 0.0
        self._ignored: set[int] = set()  # trials already reported

    def running(self) -> str:
        """Return who runs trials, for the line that says what the study is waiting for."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        owners = {str(Owner.of(kept(trial, OWNER))) for trial in running}
        return ", ".join(sorted(owners)) or "other processes"

    def look(self) -> None:
        """Send a heartbeat, and requeue trials whose process is gone, each at its interval."""
        now = time.monotonic()
        if now - self._beaten > HEARTBEAT_SECONDS:
            self._beaten = now
            show_life(self._database)
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._report_ignored()
            lost = requeue_abandoned(self._study, self._database)
            if lost:
                self._say(f"       taking over {counted(lost, 'trial')} of a process that is gone")

    def _report_ignored(self) -> None:
        misfits = self._database.misfits(self._study_id)
        new = {trial.number: why for trial, why in misfits if trial.number not in self._ignored}
        self._ignored |= new.keys()
        for number, why in list(new.items())[:SAID]:
            self._say(f"trial {number}: added by another program, ignored: {why}")
        if len(new) > SAID:
            more = ", ".join(map(str, list(new)[SAID:]))
            self._say(f"also ignored: trials {more}")
