"""Processes that share a study: creating it once, session numbers, heartbeats."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy.exc import IntegrityError

from study.storage import owner
from study.storage.database import Database
from study.storage.owned import OwnedDatabase
from study.storage.retry import patient
from study.storage.tables import DIRECTIONS, STUDIES, STUDY_SYSTEM, STUDY_USER
from study.storage.writing import attribute, insert_trial, lock_study, write

SESSIONS = "sessions"
"""System attribute of a study that counts the processes that have worked on it."""


@patient
def begin_study(
    database: OwnedDatabase,
    name: str,
    system: Mapping[str, Any],
    user: Mapping[str, Any],
    queue: Sequence[FrozenTrial],
) -> bool:
    """Create a study to maximise, with its attributes and first trials, in one transaction.

    Returns False if there already is one of that name.
    """
    try:
        with database.transaction(durable=True) as connection:
            named = sa.select(STUDIES.c.study_id).where(STUDIES.c.study_name == name)
            if connection.scalar(named) is not None:
                return False
            made = connection.execute(STUDIES.insert(), {"study_name": name})
            (study_id,) = made.inserted_primary_key or (0,)
            direction = {"direction": StudyDirection.MAXIMIZE, "study_id": study_id}
            connection.execute(DIRECTIONS.insert(), {**direction, "objective": 0})
            for table, attributes in ((STUDY_SYSTEM, system), (STUDY_USER, user)):
                rows = [attribute(table, study_id, *each) for each in attributes.items()]
                write(connection, rows, replace=False)
            for trial in queue:
                insert_trial(connection, study_id, trial)
    except IntegrityError:  # another process was faster
        return False
    return True


def next_session(database: OwnedDatabase, study_id: int) -> int:
    """Return a number, from 0, that is unique among the processes working on the study."""
    return int(change_attribute(database, study_id, SESSIONS, lambda count: (count or 0) + 1)) - 1


@patient
def change_attribute(
    database: OwnedDatabase, study_id: int, key: str, change: Callable[[Any], Any]
) -> Any:
    """Set a system attribute of a study to `change` of its current value (None if missing).

    Atomic across processes. If a commit succeeds although the client saw an error, `change` is
    applied twice.
    """
    with database.transaction() as connection:
        lock_study(connection, study_id)
        stored = connection.scalar(
            sa.select(STUDY_SYSTEM.c.value_json).where(
                STUDY_SYSTEM.c.study_id == study_id, STUDY_SYSTEM.c.key == key
            )
        )
        value = change(None if stored is None else json.loads(stored))
        write(connection, [attribute(STUDY_SYSTEM, study_id, key, value)], replace=True)
    return value


@patient
def keep_apart(database: OwnedDatabase, study_id: int, names: Sequence[str]) -> None:
    """Move the program's own attributes from a study's user to its system attributes.

    Earlier versions stored them as user attributes.
    """
    with database.transaction() as connection:
        lock_study(connection, study_id)
        old = sa.and_(STUDY_USER.c.study_id == study_id, STUDY_USER.c.key.in_(names))
        found = connection.execute(sa.select(STUDY_USER.c.key, STUDY_USER.c.value_json).where(old))
        rows = [attribute(STUDY_SYSTEM, study_id, key, json.loads(text)) for key, text in found]
        if rows:
            write(connection, rows, replace=False)
            connection.execute(STUDY_USER.delete().where(old))


@patient
def show_life(database: OwnedDatabase) -> None:
    """Send a heartbeat for the trials of this process, for other machines to see."""
    with database.transaction() as connection:
        owner.beat(connection, database.own)


@patient
def silent_trials(database: Database, study_id: int) -> set[int]:
    """Return the numbers of running trials whose process, on any machine, sends no heartbeats."""
    with database.engine.connect() as connection:
        return owner.silent(connection, study_id)
