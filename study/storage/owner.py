"""Ownership of trials: which process runs which trial, and heartbeats."""

import json
import os
import socket
import sys
from collections.abc import Set
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from fer.machine import processor
from study.storage.records import CONTINUES, OWNER
from study.storage.tables import HEARTBEATS, REPORTS, TRIAL_SYSTEM, TRIAL_USER, TRIALS
from study.storage.writing import lock_study

HEARTBEAT_SECONDS = 60.0
GRACE = timedelta(minutes=5)  # without a heartbeat before a trial counts as abandoned

STANDING = (
    sa.select(
        TRIALS.c.number,
        TRIALS.c.state,
        TRIAL_SYSTEM.c.value_json,
        sa.select(sa.func.count())
        .where(REPORTS.c.trial_id == TRIALS.c.trial_id)
        .scalar_subquery()
        .label("reports"),
    )
    .outerjoin(
        TRIAL_SYSTEM,
        (TRIAL_SYSTEM.c.trial_id == TRIALS.c.trial_id) & (TRIAL_SYSTEM.c.key == OWNER),
    )
    .where(TRIALS.c.trial_id == sa.bindparam("trial"))
    .with_for_update(of=TRIALS)
)
ANYWHERE = (TRIAL_SYSTEM, TRIAL_USER)
"""Where an attribute may be: earlier versions stored their own as user attributes."""
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class TotalReached(Exception):
    """The study's total of finished and running trials is reached."""


class TrialWaiting(Exception):
    """A trial waits in the queue and must be started before a new one."""


class TakenOver(UpdateFinishedTrialError):
    """A trial was considered abandoned and now belongs to another process.

    If that process has already finished it, UpdateFinishedTrialError is raised instead.
    """


@dataclass(frozen=True)
class Owner:
    """The process that runs a trial, and its CPU."""

    host: str
    process: int
    started: float  # since boot; process ids are reused
    processor: str = ""
    boot: str = ""
    namespace: str = ""  # PID namespace: a container's differs from its host's

    @classmethod
    def this(cls) -> "Owner":
        """Return the owner for this process."""
        host, process = socket.gethostname(), os.getpid()
        return cls(host, process, _started(process), processor(), _boot(), _namespace())

    @classmethod
    def of(cls, stored: Any) -> "Owner | None":
        """Parse the owner stored with a trial; None if invalid."""
        try:
            found = cls(**stored)
        except TypeError:
            return None
        numbers = isinstance(found.process, int) and isinstance(found.started, int | float)
        return found if numbers and isinstance(found.host, str) else None

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    def is_here(self) -> bool:
        """Whether the process is on this machine, boot and PID namespace.

        Containers and cloned machines may share a host name. A rebooted machine cannot be told
        from a clone, so heartbeats decide whether its trials are abandoned.
        """
        here = (socket.gethostname(), _boot(), _namespace())
        return (self.host, self.boot, self.namespace) == here

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; always False for other machines."""
        if not self.is_here():
            return False
        try:
            dead = psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE
            return dead or _started(self.process) != self.started
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return True


def _started(process: int) -> float:
    """Return the start time of a process, unaffected by clock changes where possible."""
    if not sys.platform.startswith("linux"):
        return psutil.Process(process).create_time()
    # proc(5): field 22 is in ticks since boot; the name in field 2 may contain anything.
    return float(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])


def _boot() -> str:
    """Return the boot id, or "" if the system has none."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""


def _namespace() -> str:
    """Return the PID namespace, which differs between containers, or "" if unknown."""
    file = Path("/proc/self/ns/pid")
    try:
        return str(file.readlink())
    except OSError:
        return ""


def check_total(connection: sa.Connection, study_id: int, total: int | None) -> None:
    """Raise TotalReached if the study may start no further trial.

    Locks the study's row until the transaction ends, so that two processes cannot both start the
    last trial.
    """
    lock_study(connection, study_id)
    if total is None:
        return
    begun = TRIALS.c.state.in_(COUNTED)
    counted = sa.select(sa.func.count()).where(TRIALS.c.study_id == study_id, begun)
    if (connection.scalar(counted) or 0) >= total:
        raise TotalReached


def first_waiting(connection: sa.Connection, study_id: int) -> int | None:
    """Return the id of the first trial in the study's queue, or None.

    To be called after `check_total`, which counts a trial requeued in between as running.
    """
    waiting = TRIALS.c.study_id == study_id, TRIALS.c.state == TrialState.WAITING
    found: int | None = connection.scalar(
        sa.select(sa.func.min(TRIALS.c.trial_id)).where(*waiting)
    )
    return found


def is_continued(connection: sa.Connection, study_id: int, number: int) -> bool:
    """Whether a non-failed trial continues trial `number`."""
    return any(
        connection.scalar(
            sa.select(sa.func.count())
            .select_from(TRIALS)
            .join(table, table.c.trial_id == TRIALS.c.trial_id)
            .where(
                TRIALS.c.study_id == study_id,
                TRIALS.c.state != TrialState.FAIL,
                table.c.key == CONTINUES,
                table.c.value_json == json.dumps(number),
            )
        )
        for table in ANYWHERE
    )


def owner_of(connection: sa.Connection, trial_id: int) -> Any:
    """Return the owner stored with a trial, in plain types, or None."""
    for table in ANYWHERE:
        mine = (table.c.trial_id == trial_id, table.c.key == OWNER)
        text = connection.scalar(sa.select(table.c.value_json).where(*mine))
        if text is not None:
            return json.loads(text)
    return None


def check_own(connection: sa.Connection, trial_id: int, owner: dict[str, Any]) -> int:
    """Check that `owner` runs a trial, and return its number of reports.

    Raises UpdateFinishedTrialError if it is finished, TakenOver if another process runs it. Locks
    the trial until the transaction ends.
    """
    row = connection.execute(STANDING, {"trial": trial_id}).one_or_none()
    if row is None:
        raise KeyError(f"no trial with id {trial_id}")
    if row.state.is_finished():
        raise UpdateFinishedTrialError(f"trial {row.number} is finished")
    if row.state != TrialState.RUNNING or row.value_json != json.dumps(owner):
        raise TakenOver
    return int(row.reports)


def disown(connection: sa.Connection, trial_id: int) -> None:
    """Remove the owner of a trial."""
    for table in ANYWHERE:
        mine = (table.c.trial_id == trial_id, table.c.key == OWNER)
        connection.execute(table.delete().where(*mine))


def running(connection: sa.Connection, study_id: int, owner: dict[str, Any]) -> set[int]:
    """Return the ids of the trials that `owner` runs according to the database."""
    theirs = sa.select(TRIALS.c.trial_id).where(
        TRIALS.c.study_id == study_id,
        TRIALS.c.state == TrialState.RUNNING,
        TRIALS.c.trial_id == TRIAL_SYSTEM.c.trial_id,
        TRIAL_SYSTEM.c.key == OWNER,
        TRIAL_SYSTEM.c.value_json == json.dumps(owner),
    )
    return set(connection.scalars(theirs))


def beat(connection: sa.Connection, trial_ids: Set[int]) -> None:
    """Store a heartbeat for these trials, using the database's clock."""
    if trial_ids:
        connection.execute(HEARTBEATS.delete().where(HEARTBEATS.c.trial_id.in_(trial_ids)))
        connection.execute(HEARTBEATS.insert(), [{"trial_id": each} for each in trial_ids])


def silent(connection: sa.Connection, study_id: int) -> set[int]:
    """Return the numbers of running trials without a heartbeat for longer than GRACE."""
    now = connection.execute(sa.select(sa.func.now())).scalar_one().replace(tzinfo=None)
    beats = sa.select(TRIALS.c.number, HEARTBEATS.c.heartbeat).where(
        TRIALS.c.study_id == study_id,
        TRIALS.c.state == TrialState.RUNNING,
        TRIALS.c.trial_id == HEARTBEATS.c.trial_id,
    )
    return {row.number for row in connection.execute(beats) if now - row.heartbeat > GRACE}
