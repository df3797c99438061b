"""Whose trial is it: the processes that run trials, and what the database knows of them."""

import json
import os
import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from fer.machine import processor

OWNER = "owner"
"""The trial attribute that names the process running it."""
HEARTBEAT_SECONDS = 60.0
GRACE = timedelta(minutes=5)  # without a heartbeat, after which a trial is abandoned

TRIAL: Any = models.TrialModel.__table__
ATTRIBUTE: Any = models.TrialUserAttributeModel.__table__
HEARTBEAT: Any = models.TrialHeartbeatModel.__table__
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class TotalReached(Exception):
    """As many trials are finished or running as the study is to have."""


class TakenOver(UpdateFinishedTrialError):
    """A trial was given up for lost and belongs to another process now.

    If that has finished it already, Optuna's own UpdateFinishedTrialError says so.
    """


@dataclass(frozen=True)
class Owner:
    """The process that runs a trial, and the processor it runs on."""

    host: str
    process: int
    started: float  # since the boot; a process number alone may be used again
    processor: str = ""
    boot: str = ""

    @classmethod
    def this(cls) -> "Owner":
        """This process."""
        host, process = socket.gethostname(), os.getpid()
        return cls(host, process, _started(process), processor(), _boot())

    @classmethod
    def of(cls, stored: Any) -> "Owner | None":
        """The owner that was stored with a trial; None if it is none."""
        try:
            return cls(**stored)
        except TypeError:
            return None

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def is_gone(self) -> bool:
        """Whether it is known to run no longer; of other machines nothing is known."""
        if not self.is_here():
            return False
        if self.boot != _boot():
            return True
        try:
            dead = psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE
            return dead or _started(self.process) != self.started
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return True


def _started(process: int) -> float:
    """When a process began, in a time that does not move when the clock is set."""
    if not sys.platform.startswith("linux"):
        return psutil.Process(process).create_time()
    # proc(5): field 22 counts ticks since the boot; the name in field 2 may hold anything.
    return float(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])


def _boot() -> str:
    """Changes with every boot, where the system says so."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""


def check_total(session: Session, study_id: int, total: int | None) -> None:
    """Raise TotalReached if no further trial of the study may begin.

    The study's row is locked until the transaction ends, so that no two processes begin the
    same last one.
    """
    models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
    if total is None:
        return
    counted = sa.select(sa.func.count()).where(
        TRIAL.c.study_id == study_id, TRIAL.c.state.in_(COUNTED)
    )
    if (session.scalar(counted) or 0) >= total:
        raise TotalReached


def owner_of(session: Session, trial_id: int) -> Any:
    """The owner stored with a trial, as plain types; None without one."""
    text = session.scalar(
        sa.select(ATTRIBUTE.c.value_json).where(
            ATTRIBUTE.c.trial_id == trial_id, ATTRIBUTE.c.key == OWNER
        )
    )
    return None if text is None else json.loads(text)


def running(session: Session, study_id: int, owner: dict[str, Any]) -> set[int]:
    """The trials that the database believes `owner` to run."""
    theirs = sa.select(TRIAL.c.trial_id).where(
        TRIAL.c.study_id == study_id,
        TRIAL.c.state == TrialState.RUNNING,
        TRIAL.c.trial_id == ATTRIBUTE.c.trial_id,
        ATTRIBUTE.c.key == OWNER,
        ATTRIBUTE.c.value_json == json.dumps(owner),
    )
    return set(session.scalars(theirs))


def beat(session: Session, trial_ids: set[int]) -> None:
    """Note that these trials run now, by the database's clock."""
    session.execute(sa.delete(HEARTBEAT).where(HEARTBEAT.c.trial_id.in_(trial_ids)))
    if trial_ids:
        session.execute(HEARTBEAT.insert(), [{"trial_id": each} for each in trial_ids])


def silent(session: Session, study_id: int) -> set[int]:
    """Running trials of which nothing was heard for longer than GRACE."""
    now = session.execute(sa.select(sa.func.now())).scalar_one().replace(tzinfo=None)
    beats = sa.select(HEARTBEAT.c.trial_id, HEARTBEAT.c.heartbeat).where(
        TRIAL.c.study_id == study_id,
        TRIAL.c.state == TrialState.RUNNING,
        TRIAL.c.trial_id == HEARTBEAT.c.trial_id,
    )
    return {row.trial_id for row in session.execute(beats) if now - row.heartbeat > GRACE}
