"""An Optuna storage on Optuna's own tables that uses few and short transactions."""

import copy
import json
import sqlite3
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence, Set
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from study.storage.known_trials import KnownTrials
from study.storage.reading import distribution_in, read_trial, read_trials
from study.storage.retry import patient, say_nothing, waits_while, why_busy
from study.storage.sql import WRITES, arguments, make_engine
from study.storage.tables import (
    DIRECTIONS,
    SCHEMA,
    STUDIES,
    STUDY_SYSTEM,
    STUDY_USER,
    TRIAL_SYSTEM,
    TRIAL_USER,
    TRIALS,
)
from study.storage.writing import (
    Row,
    attribute,
    change_state,
    insert_trial,
    lock_study,
    lock_trial,
    parameter,
    report,
    write,
)


class Database(BaseStorage):
    """An Optuna storage that uses the tables of `optuna.storages.RDBStorage`.

    Both can use the same database at the same time. Trials of other processes are refreshed after
    one second. While the database is unreachable, methods retry, call `on_wait` with the reason
    and the seconds waited, and finally raise DatabaseAway. Without `writing` an SQLite file keeps
    its journal mode.

    Thread-safe. A pickled copy opens its own connections.
    """

    def __init__(
        self,
        url: str,
        on_wait: Callable[[str, float], None] = say_nothing,
        writing: bool = True,
    ) -> None:
        self.url, self._writing = url, writing
        self.lock = threading.RLock()
        self.engine = make_engine(url, writing)
        weakref.finalize(self, self.engine.dispose)  # for copies that are never closed
        self._writer = self.engine.execution_options(**WRITES)
        self._on_wait = on_wait
        self._known: defaultdict[int, KnownTrials] = defaultdict(KnownTrials)
        self._tables = self._make_tables()
        if writing:
            self._check_writable()

    def __reduce__(self) -> Any:
        return Database, (self.url, say_nothing, self._writing)

    @waits_while(why_busy)
    def _make_tables(self) -> RDBStorage:
        """Open Optuna's own storage, which creates missing tables.

        Raises RuntimeError if their schema has another version.
        """
        settings = {**arguments(self.url), "poolclass": NullPool}
        opened = partial(
            RDBStorage, self.url, engine_kwargs=settings, skip_table_creation=not self._writing
        )
        # Optuna's own check reads all of Alembic's scripts: only if it has something to say.
        tables = opened(skip_compatibility_check=True)
        version = tables.get_current_version()
        if version != SCHEMA:
            opened()  # raises with the way to upgrade, unless a later Optuna made the tables
            raise RuntimeError(
                f"its tables have Optuna's schema {version}, this program supports {SCHEMA}"
            )
        return tables

    @waits_while(why_busy)
    def _check_writable(self) -> None:
        with self.transaction():
            pass

    def close(self) -> None:
        """Close all connections. An SQLite database is left as a single file."""
        if self.engine.name == "sqlite" and self._writing:
            # Fails while another process has the database open; the last one will do it.
            with suppress(sqlite3.OperationalError, OperationalError):
                connection: Any = self.engine.raw_connection()
                with closing(connection):
                    connection.execute("PRAGMA busy_timeout=0")
                    connection.execute("PRAGMA journal_mode=DELETE")
        self.engine.dispose()

    def waiting(self, reason: str, seconds: float) -> None:
        """Called by `patient` before each retry."""
        self.engine.dispose()  # connections to a restarted server are dead
        self._on_wait(reason, seconds)

    def check_presence(self, connection: sa.Connection | None = None) -> None:
        """Raise StudyGone if the study that this process works on is gone."""

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[sa.Connection]:
        """Run the block in one transaction.

        With `durable`, a server has flushed it and everything before it to disk when the block
        ends.
        """
        with self._writer.begin() as connection:
            if durable and self.engine.name == "postgresql":
                connection.execute(sa.text("SET LOCAL synchronous_commit TO on"))
            yield connection

    # Studies

    @patient
    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        return self._tables.create_new_study(directions, study_name)

    @patient
    def delete_study(self, study_id: int) -> None:
        self._tables.delete_study(study_id)
        self._known.pop(study_id, None)

    @patient
    def get_all_studies(self) -> list[Any]:
        return self._tables.get_all_studies()

    @patient
    def get_study_id_from_name(self, study_name: str) -> int:
        return int(self._one(STUDIES.c.study_id, STUDIES.c.study_name == study_name))

    @patient
    def get_study_name_from_id(self, study_id: int) -> str:
        return str(self._one(STUDIES.c.study_name, STUDIES.c.study_id == study_id))

    @patient
    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        chosen = sa.select(DIRECTIONS.c.direction).where(DIRECTIONS.c.study_id == study_id)
        with self.engine.connect() as connection:
            directions = list(connection.scalars(chosen.order_by(DIRECTIONS.c.objective)))
        if not directions:
            raise KeyError(f"no study with id {study_id}")
        return directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._study_attributes(STUDY_USER, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._study_attributes(STUDY_SYSTEM, study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._set_study_attribute(STUDY_USER, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._set_study_attribute(STUDY_SYSTEM, study_id, key, value)

    @patient
    def _study_attributes(self, table: sa.Table, study_id: int) -> dict[str, Any]:
        self._one(STUDIES.c.study_id, STUDIES.c.study_id == study_id)
        chosen = sa.select(table.c.key, table.c.value_json).where(table.c.study_id == study_id)
        with self.engine.connect() as connection:
            return {key: json.loads(text) for key, text in connection.execute(chosen)}

    @patient
    def _set_study_attribute(self, table: sa.Table, study_id: int, key: str, value: Any) -> None:
        with self.transaction() as connection:
            lock_study(connection, study_id)
            write(connection, [attribute(table, study_id, key, value)], replace=True)

    def _one(self, column: sa.Column[Any], condition: sa.ColumnElement[bool]) -> Any:
        """Return a column of the study that meets a condition. Raise KeyError if none does."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(column).where(condition)).all()
        if not rows:
            raise KeyError("no such study")
        return rows[0][0]

    # Trials

    @patient
    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial = template_trial or create_trial(state=TrialState.RUNNING)
        with self.transaction(durable=True) as connection:
            lock_study(connection, study_id)
            trial_id, _ = insert_trial(connection, study_id, trial)
        self._changed(study_id, trial_id)
        return trial_id

    @patient
    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        with self._open_trial(trial_id) as (connection, _):
            known = distribution_in(connection, trial_id, param_name)
            if known is not None:
                check_distribution_compatibility(known, distribution)
            row = parameter(trial_id, param_name, param_value_internal, distribution)
            write(connection, [row], replace=True)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set(trial_id, attribute(TRIAL_USER, trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set(trial_id, attribute(TRIAL_SYSTEM, trial_id, key, value))

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        self._set(trial_id, report(trial_id, step, intermediate_value))

    @patient
    def _set(self, trial_id: int, row: Row) -> None:
        with self._open_trial(trial_id) as (connection, _):
            write(connection, [row], replace=True)

    @patient
    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        with self._open_trial(trial_id, durable=True) as (connection, trial):
            if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
                return False
            change_state(connection, trial_id, state, datetime.now(), values)
        return True

    @contextmanager
    def _open_trial(
        self, trial_id: int, durable: bool = False
    ) -> Iterator[tuple[sa.Connection, Any]]:
        """Open a transaction to change an unfinished trial, and yield it with the trial's row.

        Raises KeyError if there is no such trial, UpdateFinishedTrialError if it is finished.
        """
        with self.transaction(durable) as connection:
            trial = lock_trial(connection, trial_id)
            if trial.state.is_finished():
                raise UpdateFinishedTrialError(f"trial {trial.number} is finished")
            yield connection, trial
        self._changed(trial.study_id, trial_id)

    @patient
    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self.engine.connect() as connection:
            trial = read_trial(connection, trial_id)
        if trial is None:
            raise KeyError(f"no trial with id {trial_id}")
        return trial

    @patient
    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        known = self._known[study_id]
        if not known.fresh:
            self._read_others(study_id, known)
        trials = known.listed(states)
        return copy.deepcopy(trials) if deepcopy else trials

    def _read_others(self, study_id: int, known: KnownTrials) -> None:
        """Read only trials that another process may have added, changed or finished."""
        if known.read_to < 0:
            self._one(STUDIES.c.study_id, STUDIES.c.study_id == study_id)
        newer = sa.and_(TRIALS.c.study_id == study_id, TRIALS.c.trial_id > known.read_to)
        with self.engine.connect() as connection:
            self.check_presence(connection)
            ids = set(connection.scalars(sa.select(TRIALS.c.trial_id).where(newer)))
            may_have_changed = known.not_final(ids) - self._mine()
            found = read_trials(connection, study_id, may_have_changed)
        known.have_read(may_have_changed, found, max(ids, default=known.read_to))

    def _changed(self, study_id: int, trial_id: int) -> None:
        """Mark a written trial to be read again."""
        self._known[study_id].forget(trial_id)

    def _mine(self) -> Set[int]:
        """Return the ids of trials for which this process is up to date."""
        return set()
