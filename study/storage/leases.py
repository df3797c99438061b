"""Processes that work on one study: who begins it, the number of each, and signs of life."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from study.storage import owner
from study.storage.database import Database
from study.storage.retry import patient

SESSIONS = "sessions"
"""The study attribute that counts the processes which worked on it."""


@patient
def begin_study(
    database: Database, name: str, attributes: dict[str, Any], queue: Sequence[FrozenTrial]
) -> bool:
    """Make a study that is maximised, with its attributes and its first trials.

    All or nothing of it is stored. False if there is one of that name.
    """
    try:
        with database.transaction(durable=True) as session:
            if models.StudyModel.find_by_name(name, session) is not None:
                return False
            direction = models.StudyDirectionModel(direction=StudyDirection.MAXIMIZE, objective=0)
            study: Any = models.StudyModel(study_name=name, directions=[direction])
            session.add(study)
            session.flush()
            for key, value in attributes.items():
                attribute = models.StudyUserAttributeModel(
                    study_id=study.study_id, key=key, value_json=json.dumps(value)
                )
                session.add(attribute)
            for trial in queue:
                database._get_prepared_new_trial(study.study_id, trial, session)
    except IntegrityError:  # another process was faster
        return False
    return True


def next_session(database: Database, study_id: int) -> int:
    """A number, from 0, that no other process working on the study has."""
    return int(change_attribute(database, study_id, SESSIONS, lambda count: (count or 0) + 1)) - 1


@patient
def change_attribute(
    database: Database, study_id: int, key: str, change: Callable[[Any], Any]
) -> Any:
    """Give a study attribute the value that `change` makes of its present one (None without one).

    No other process changes it meanwhile. A commit may succeed although the client saw an error,
    and `change` is then applied twice.
    """
    with database.transaction() as session:
        study = models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        kind = models.StudyUserAttributeModel
        row: Any = kind.find_by_study_and_key(study, key, session)
        value = change(None if row is None else json.loads(row.value_json))
        if row is None:
            row = kind(study_id=study_id, key=key)
            session.add(row)
        row.value_json = json.dumps(value)
    return value


@patient
def show_life(database: Database) -> None:
    """Let other machines know that this process runs its trials."""
    with database.transaction() as session:
        owner.beat(session, database.own)


@patient
def silent_trials(database: Database, study_id: int) -> set[int]:
    """Running trials whose process, on whatever machine, shows no life any more."""
    with Session(database.engine) as session:
        return owner.silent(session, study_id)
