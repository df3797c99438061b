"""Save a study to a new file if its file disappears while it runs."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from fer.command import given
from study.storage.artifacts import copy_artifacts
from study.storage.leases import begin_study
from study.storage.notes import renumbered
from study.storage.opening import artifacts_beside
from study.storage.owned import OwnedDatabase
from study.storage.records import OWNER
from study.storage.watched_file import FileGone


@contextmanager
def saved_if_lost(study: optuna.Study, database: OwnedDatabase) -> Iterator[None]:
    """Save what this process knows of a study if its file disappears while the block runs.

    A backup that replaced the file may lack it.
    """
    study_id = database.get_study_id_from_name(study.study_name)
    system, user = database.get_study_system_attrs(study_id), study.user_attrs
    try:
        yield
    except FileGone as gone:
        trials = database.known(study_id)
        saved = save_beside(database.url, study.study_name, system, user, trials)
        raise FileGone(f"{gone}; {saved}") from None


def save_beside(
    url: str,
    name: str,
    system: Mapping[str, Any],
    user: Mapping[str, Any],
    trials: Sequence[FrozenTrial],
) -> str:
    """Save a study next to the SQLite file at `url`; return a message about the outcome."""
    lost = Path(str(make_url(url).database))
    moment = time.strftime("%Y%m%d-%H%M%S")
    path = lost.with_name(f"{lost.stem}-saved-{moment}-{os.getpid()}{lost.suffix}")
    saved = sa.URL.create("sqlite", database=str(path)).render_as_string()
    try:
        with closing(OwnedDatabase(saved, owner={})) as database:
            ids = {trial._trial_id: number for number, trial in enumerate(trials, 1)}
            notes = renumbered(system, ids)  # an empty database numbers from 1
            begin_study(database, name, notes, user, [_paused(trial) for trial in trials])
        with suppress(OSError):
            copy_artifacts(artifacts_beside(url), artifacts_beside(saved))
    except (SQLAlchemyError, OSError) as error:
        path.unlink(missing_ok=True)
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        return f"the study as this run last saw it could not be saved: {reason}"
    return f"the study was saved as this run last saw it; continue with {given('storage', saved)}"


def _paused(trial: FrozenTrial) -> FrozenTrial:
    """Return the trial, waiting if it was running: no process runs it in the new file."""
    if trial.state != TrialState.RUNNING:
        return trial
    resting = copy(trial)
    resting.state = TrialState.WAITING
    for part in ("system_attrs", "user_attrs"):
        attributes = {key: each for key, each in getattr(trial, part).items() if key != OWNER}
        setattr(resting, part, attributes)
    return resting
