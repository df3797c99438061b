"""Connections by kind of database, and statements that leave alone what is there."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy.dialects import postgresql, sqlite

from study.storage.owner import ATTRIBUTE

LOCK_SECONDS = 10  # that one try waits for another writer on SQLite
WRITES = {"study_writes": True}
"""Execution option of a transaction that will write."""


def arguments(backend: str) -> dict[str, Any]:
    """What SQLAlchemy needs to know to make an engine for `backend`."""
    if backend == "sqlite":
        return {"connect_args": {"timeout": LOCK_SECONDS}}
    return {"pool_pre_ping": True}


def set_up(engine: sa.Engine) -> None:
    """Let every new connection of `engine` be one that many writers can share."""
    if engine.name == "sqlite":
        sa.event.listen(engine, "connect", _write_ahead)
        sa.event.listen(engine, "begin", _begin)
    elif engine.name == "postgresql":
        sa.event.listen(engine, "connect", _commit_without_waiting)
    engine.dispose()  # the connection that made the tables has none of it


def insert_new(engine: sa.Engine, table: Any) -> Any:
    """An INSERT that leaves a row alone which is there already."""
    match engine.name:
        case "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        case "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
    return table.insert().prefix_with("IGNORE", dialect="mysql")


def _write_ahead(connection: Any, _record: object) -> None:
    # Readers and a writer do not wait for each other, and a commit is no disk flush: after a
    # power failure the last epochs may be missing, after a kill nothing is.
    connection.isolation_level = None  # the driver's own BEGIN would come too late
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _commit_without_waiting(connection: Any, _record: object) -> None:
    # The same on PostgreSQL: its own default waits for the disk at every epoch. What begins or
    # ends a trial does wait, see Database.transaction.
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO off")
    connection.commit()


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once where another wrote between.
    writes = WRITES.keys() <= connection.get_execution_options().keys()
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


Statement = tuple[Any, dict[str, Any]]
"""An INSERT and its row."""

PARAMETER: Any = models.TrialParamModel.__table__
REPORT: Any = models.TrialIntermediateValueModel.__table__


def parameter(
    engine: sa.Engine, trial_id: int, name: str, value: float, distribution: BaseDistribution
) -> Statement:
    """A parameter, `value` as Optuna stores it."""
    row = {
        "trial_id": trial_id,
        "param_name": name,
        "param_value": value,
        "distribution_json": distribution_to_json(distribution),
    }
    return insert_new(engine, PARAMETER), row


def report(engine: sa.Engine, trial_id: int, step: int, score: float) -> Statement:
    """The score of an epoch."""
    kind = models.TrialIntermediateValueModel
    value, value_type = kind.intermediate_value_to_stored_repr(score)
    row = {
        "trial_id": trial_id,
        "step": step,
        "intermediate_value": value,
        "intermediate_value_type": value_type,
    }
    return insert_new(engine, REPORT), row


def everything(engine: sa.Engine, trial_id: int, trial: FrozenTrial) -> Iterator[Statement]:
    """All that a process knows of a trial it runs."""
    for name, distribution in trial.distributions.items():
        value = distribution.to_internal_repr(trial.params[name])
        yield parameter(engine, trial_id, name, value, distribution)
    for key, attribute in trial.user_attrs.items():
        row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(attribute)}
        yield insert_new(engine, ATTRIBUTE), row
    for step, score in trial.intermediate_values.items():
        yield report(engine, trial_id, step, score)
