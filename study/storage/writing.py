"""Write trials to Optuna's tables, and the locks that protect the writes."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from study.storage.sql import insert_or_keep, insert_or_replace
from study.storage.tables import (
    PARAMETERS,
    REPORTS,
    STUDIES,
    TRIAL_SYSTEM,
    TRIAL_USER,
    TRIALS,
    VALUES,
    split,
    to_utc,
)

Row = tuple[sa.Table, dict[str, Any]]
"""A table and a row for it."""


def parameter(trial_id: int, name: str, value: float, distribution: BaseDistribution) -> Row:
    """Return the row of a parameter; `value` is its internal representation."""
    text = distribution_to_json(distribution)
    named = {"trial_id": trial_id, "param_name": name}
    return PARAMETERS, {**named, "param_value": value, "distribution_json": text}


def report(trial_id: int, step: int, value: float) -> Row:
    """Return the row of an intermediate value."""
    number, kind = split(value)
    row = {"trial_id": trial_id, "step": step}
    return REPORTS, {**row, "intermediate_value": number, "intermediate_value_type": kind}


def objective(trial_id: int, number: int, value: float) -> Row:
    """Return the row of a finished trial's value; `number` counts objectives from 0."""
    finite, kind = split(value)
    row = {"trial_id": trial_id, "objective": number}
    return VALUES, {**row, "value": finite, "value_type": kind}


def attribute(table: sa.Table, belongs_to: int, key: str, value: Any) -> Row:
    """Return the row of an attribute of a study or trial; `value` must be JSON-serialisable."""
    owner = "trial_id" if "trial_id" in table.c else "study_id"
    return table, {owner: belongs_to, "key": key, "value_json": json.dumps(value)}


def belongings(trial_id: int, trial: FrozenTrial) -> Iterator[Row]:
    """Yield all rows that belong to a trial, except its own."""
    for name, distribution in trial.distributions.items():
        value = distribution.to_internal_repr(trial.params[name])
        yield parameter(trial_id, name, value, distribution)
    for key, value in trial.user_attrs.items():
        yield attribute(TRIAL_USER, trial_id, key, value)
    for key, value in trial.system_attrs.items():
        yield attribute(TRIAL_SYSTEM, trial_id, key, value)
    for step, value in trial.intermediate_values.items():
        yield report(trial_id, step, value)
    for number, value in enumerate(trial.values or ()):
        yield objective(trial_id, number, value)


def write(connection: sa.Connection, rows: Iterable[Row], replace: bool) -> None:
    """Insert rows; existing ones are updated with `replace`, else kept."""
    insert = insert_or_replace if replace else insert_or_keep
    for table, group in groupby(rows, itemgetter(0)):
        connection.execute(insert(connection.dialect.name, table), [row for _, row in group])


def insert_trial(
    connection: sa.Connection, study_id: int, trial: FrozenTrial
) -> tuple[int, FrozenTrial]:
    """Append a copy of `trial` to a locked study; return its id and the copy with its number."""
    count = sa.select(sa.func.count()).where(TRIALS.c.study_id == study_id)
    number = connection.scalar(count) or 0
    inserted = connection.execute(
        TRIALS.insert(),
        {
            "study_id": study_id,
            "number": number,
            "state": trial.state,
            "datetime_start": to_utc(trial.datetime_start),
            "datetime_complete": to_utc(trial.datetime_complete),
        },
    )
    (trial_id,) = inserted.inserted_primary_key or (None,)
    assert trial_id is not None
    write(connection, belongings(trial_id, trial), replace=False)
    return trial_id, FrozenTrial(
        number=number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=dict(trial.params),
        distributions=dict(trial.distributions),
        user_attrs=dict(trial.user_attrs),
        system_attrs=dict(trial.system_attrs),
        intermediate_values=dict(trial.intermediate_values),
        trial_id=trial_id,
    )


def id_of(connection: sa.Connection, study_id: int, number: int) -> int:
    """Return the id of a trial. Raise KeyError if there is none."""
    where = (TRIALS.c.study_id == study_id, TRIALS.c.number == number)
    trial_id = connection.scalar(sa.select(TRIALS.c.trial_id).where(*where))
    if trial_id is None:
        raise KeyError(f"no trial {number} in study {study_id}")
    return int(trial_id)


def lock_study(connection: sa.Connection, study_id: int) -> None:
    """Lock a study's trials and attributes until the transaction ends.

    Raises KeyError if there is no such study. Optuna's own storage takes the same lock.
    """
    study = sa.select(STUDIES.c.study_id).where(STUDIES.c.study_id == study_id)
    if connection.scalar(study.with_for_update()) is None:
        raise KeyError(f"no study with id {study_id}")


def lock_trial(connection: sa.Connection, trial_id: int) -> Any:
    """Lock a trial until the transaction ends, and return its row.

    Raises KeyError if there is no such trial.
    """
    row = connection.execute(
        sa.select(TRIALS).where(TRIALS.c.trial_id == trial_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise KeyError(f"no trial with id {trial_id}")
    return row


def change_state(
    connection: sa.Connection,
    trial_id: int,
    state: TrialState,
    now: datetime,
    values: Sequence[float] | None = None,
) -> None:
    """Set a trial's state, its start or end time, and its values."""
    row: dict[str, Any] = {"state": state}
    if state == TrialState.RUNNING:
        row["datetime_start"] = to_utc(now)
    elif state.is_finished():
        row["datetime_complete"] = to_utc(now)
    connection.execute(TRIALS.update().where(TRIALS.c.trial_id == trial_id).values(row))
    rows = [objective(trial_id, number, value) for number, value in enumerate(values or ())]
    write(connection, rows, replace=True)
