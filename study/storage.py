"""The database of studies: opening it, and telling one study from another."""

import hashlib
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from fer.errors import UserError
from study.database import OWNER, Database

DEFAULT_URL = "sqlite:///studies.db"
ATTEMPTS = 20  # to open a database that another process is just making
BEGUN_BY_ANOTHER = ("already exists", "unique constraint", "duplicate key", "no such table")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

IDENTITY, CONFIG, RESULT, ORIGIN = "identity", "config", "result", "origin"
"""Names of what is stored beside a study (identity) and its trials (the others, and OWNER)."""

Identity = dict[str, Any]
"""What a study's numbers depend on; trials of two identities must not be mixed."""


def hidden(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def open_database(url: str) -> Database:
    """The database at an SQLAlchemy URL, made if it is missing, for this process's trials.

    Raises UserError if it is no database or cannot be written.
    """
    _check(url)
    owner = asdict(Owner.this())
    with _refusals(url):
        for _ in range(ATTEMPTS):
            try:
                return Database(url, owner)
            except (OperationalError, ProgrammingError, IntegrityError) as error:
                # Of two processes that begin together, one finds the other's tables half made.
                if not any(words in str(error).lower() for words in BEGUN_BY_ANOTHER):
                    raise
                time.sleep(0.2)
        return Database(url, owner)


def open_to_read(url: str) -> RDBStorage:
    """The storage at an SQLAlchemy URL. Raises UserError if there is none."""
    parsed = _check(url)
    if parsed.get_backend_name() == "sqlite":
        is_path = not str(parsed.database).startswith("file:")
        if is_path and not Path(str(parsed.database)).is_file():
            raise UserError(f"no such storage: {hidden(url)}; study.run makes one")
    with _refusals(url):
        return RDBStorage(url)


def _check(url: str) -> URL:
    """The URL's parts. Raises UserError if it is none, or if its database would be lost."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(
            f"--storage must be an SQLAlchemy URL such as {DEFAULT_URL}, got {url!r}"
        ) from None
    in_memory = not parsed.database or parsed.database == ":memory:"
    if parsed.get_backend_name() == "sqlite" and in_memory:
        raise UserError(f"--storage must name a file, a study in memory is lost: {url}")
    return parsed


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, ImportError, RuntimeError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise UserError(f"cannot use storage {hidden(url)}: {reason}") from None


def study_name(data: str, identity: Identity) -> str:
    """A name that differs where identities differ."""
    content = json.dumps(identity, sort_keys=True).encode()
    return f"{data}-{hashlib.sha256(content).hexdigest()[:6]}"


def open_study(storage: RDBStorage, name: str, identity: Identity) -> tuple[optuna.Study, bool]:
    """The study `name`, and whether it is new.

    Raises UserError naming what differs if it was begun with another identity.
    """
    try:
        new = name not in storage_names(storage)
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        if new:
            study.set_user_attr(IDENTITY, identity)
            return study, True
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(f"cannot write to storage {hidden(str(storage.url))}: {error}") from None
    stored = study.user_attrs.get(IDENTITY)
    if stored is None:
        raise UserError(f"study {name!r} was not begun by study.run; choose another --study")
    different = [
        f"{key} was {_short(stored.get(key))}, now {_short(identity.get(key))}"
        for key in {**stored, **identity}
        if stored.get(key) != identity.get(key)
    ]
    if different:
        raise UserError(
            f"study {name!r} cannot be continued: {'; '.join(different)}; "
            "choose another --study or the settings it was begun with"
        )
    return study, False


def storage_names(storage: RDBStorage) -> list[str]:
    """Names of the studies in `storage`."""
    return optuna.get_all_study_names(storage)


def load_study(url: str, name: str | None) -> optuna.Study:
    """The study `name`, or the one that was worked on last. Raises UserError if there is none."""
    storage = open_to_read(url)
    names = storage_names(storage)
    if name is None and names:
        studies = [optuna.load_study(study_name=each, storage=storage) for each in names]
        name = max(studies, key=_last_activity).study_name
    if name is None or name not in names:
        wanted = f"no study {name!r}" if name else "no study"
        has = f", it has {', '.join(names)}" if names else ""
        raise UserError(f"{wanted} in {hidden(url)}{has}")
    return optuna.load_study(study_name=name, storage=storage)


def _last_activity(study: optuna.Study) -> float:
    times = [
        moment.timestamp()
        for trial in study.get_trials(deepcopy=False)
        for moment in (trial.datetime_start, trial.datetime_complete)
        if moment is not None
    ]
    return max(times, default=0.0)


@dataclass(frozen=True)
class Owner:
    """The process that runs a trial."""

    host: str
    process: int
    started: float  # seconds since 1970; a process number alone may be used again

    @classmethod
    def this(cls) -> "Owner":
        """This process."""
        process = psutil.Process()
        return cls(socket.gethostname(), os.getpid(), process.create_time())

    def is_gone(self) -> bool:
        """Whether it is known to run no longer; of other machines nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            return abs(psutil.Process(self.process).create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True


def requeue_abandoned(study: optuna.Study) -> int:
    """Put trials whose process is gone back into the queue; how many."""
    abandoned = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if OWNER not in trial.user_attrs or Owner(**trial.user_attrs[OWNER]).is_gone()
    ]
    for trial in abandoned:
        requeue(study, trial._trial_id)
    return len(abandoned)


def requeue(study: optuna.Study, trial_id: int) -> None:
    """Let an interrupted trial wait for its turn again: same number, settings and seed.

    Its stored epochs stay: training repeats them from the seed and goes on from there.
    """
    # Optuna's public calls could only fail the trial and queue a copy behind all others.
    study._storage.set_trial_state_values(trial_id, state=TrialState.WAITING)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count toward a study's total: complete and pruned ones."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
