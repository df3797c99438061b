"""Processes that work on one study: who begins it, the number of each, and signs of life."""

import json
from collections.abc import Sequence
from typing import Any

from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from study import ownership
from study.database import Database
from study.patience import patient

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


@patient
def next_session(database: Database, study_id: int) -> int:
    """A number, from 0, that no other process working on the study has."""
    with database.transaction() as session:
        study = models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        kind = models.StudyUserAttributeModel
        count: Any = kind.find_by_study_and_key(study, SESSIONS, session)
        if count is None:
            count = kind(study_id=study_id, key=SESSIONS, value_json="0")
            session.add(count)
        number = int(count.value_json)
        count.value_json = str(number + 1)
    return number


@patient
def show_life(database: Database) -> None:
    """Let other machines know that this process runs its trials."""
    with database.transaction() as session:
        ownership.beat(session, database.own)


@patient
def silent_trials(database: Database, study_id: int) -> set[int]:
    """Running trials whose process, on whatever machine, shows no life any more."""
    with Session(database.engine) as session:
        return ownership.silent(session, study_id)
