"""Optuna's tables, for many writers and with few, short transactions."""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

OWNER = "owner"
"""The trial attribute that names the process running it."""
REFRESH = 1.0  # seconds for which trials of other processes are not read again

READ_ONLY = {"study_reads_only": True}  # execution option of a transaction that will not write

PARAMETER = models.TrialParamModel.__table__
REPORT = models.TrialIntermediateValueModel.__table__
TRIAL = models.TrialModel.__table__
TRIALS = sa.select(TRIAL.c.trial_id, TRIAL.c.state).where(
    TRIAL.c.study_id == sa.bindparam("study"),
    (TRIAL.c.trial_id > sa.bindparam("after"))
    | TRIAL.c.trial_id.in_(sa.bindparam("ids", expanding=True)),
)


class Database(RDBStorage):
    """An Optuna storage whose tables are Optuna's and whose transactions are its own.

    Trials that this process runs are kept in memory as well, so that reading them costs nothing;
    those of other processes are read when a second has passed. Parameters wait for the next
    write of an attribute, a report or a state, and go with it in one transaction; Optuna asks no
    more of a storage than that nothing is missing once a state is written. A report is committed
    before the call returns.

    Not safe for threads: one process, one loop. `owner` is stored with a trial in the very
    transaction that makes it this process's.
    """

    complete: dict[int, list[FrozenTrial]]
    """The complete trials of each study, in the order in which this process learnt of them."""

    def __init__(self, url: str, owner: dict[str, Any]) -> None:
        backend = make_url(url).get_backend_name()
        sqlite = backend == "sqlite"
        # Several writers wait for each other instead of failing.
        settings = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
        super().__init__(url, engine_kwargs=settings)
        self._owner = owner
        self.complete = defaultdict(list)
        self._own: dict[int, FrozenTrial] = {}  # the trials this process runs, by id
        # By study, the trials that Optuna's cache does not know to be finished.
        self._open: dict[int, dict[int, FrozenTrial]] = defaultdict(dict)
        self._read_at: dict[int, float] = defaultdict(lambda: -REFRESH)
        self._waiting: list[tuple[Any, dict[str, Any]]] = []  # statements for the next commit
        if sqlite:
            sa.event.listen(self.engine, "connect", _write_ahead)
            sa.event.listen(self.engine, "begin", _begin)
        elif backend == "postgresql":
            sa.event.listen(self.engine, "connect", _commit_without_waiting)
        self.engine.dispose()  # the connection that made the tables has none of it
        with self.engine.connect():
            pass  # what can't be written fails here

    def close(self) -> None:
        """Write what waits and close every connection. Leaves one plain file on SQLite."""
        if self._waiting:
            with self._transaction():
                pass
        if self.engine.name == "sqlite":
            # Refused while another process has the database open; the last one does it then.
            connection: Any = self.engine.raw_connection()
            with suppress(sqlite3.OperationalError), closing(connection):
                connection.execute("PRAGMA busy_timeout=0")
                connection.execute("PRAGMA journal_mode=DELETE")
        self.engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """What waits and what the block does, in one transaction."""
        with self.engine.begin() as connection:
            for statement, values in self._waiting:
                connection.execute(statement, values)
            yield connection
        self._waiting.clear()

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        mine = template_trial is None
        if template_trial is None:
            template_trial = create_trial(
                state=TrialState.RUNNING, user_attrs={OWNER: self._owner}
            )
        trial = super()._create_new_trial(study_id, template_trial)
        self._open[study_id][trial._trial_id] = trial
        # The next read must know of every older one: Optuna asks for newer ones alone after it.
        self._read_at[study_id] = -REFRESH
        if mine:
            self._own[trial._trial_id] = trial
        return trial

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        trial = self._own.get(trial_id)
        if trial is None or previous_distribution is None:
            super()._set_trial_param(
                trial_id, param_name, param_value_internal, distribution, previous_distribution
            )
        else:
            row = {
                "trial_id": trial_id,
                "param_name": param_name,
                "param_value": param_value_internal,
                "distribution_json": distribution_to_json(distribution),
            }
            self._waiting.append((PARAMETER.insert(), row))
        if trial is not None:
            trial.params[param_name] = distribution.to_external_repr(param_value_internal)
            trial.distributions[param_name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attribute(models.TrialUserAttributeModel, trial_id, key, value)
        if (trial := self._own.get(trial_id)) is not None:
            trial.user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attribute(models.TrialSystemAttributeModel, trial_id, key, value)
        if (trial := self._own.get(trial_id)) is not None:
            trial.system_attrs[key] = value

    def _set_attribute(self, model: Any, trial_id: int, key: str, value: Any) -> None:
        with self._transaction() as connection, Session(connection) as session:
            self._set_trial_attr_without_commit(session, model, trial_id, key, value)
            session.flush()

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        trial = self._own.get(trial_id)
        if trial is None or step in trial.intermediate_values:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        else:
            stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(
                intermediate_value
            )
            row = {
                "trial_id": trial_id,
                "step": step,
                "intermediate_value": stored[0],
                "intermediate_value_type": stored[1],
            }
            with self._transaction() as connection:
                connection.execute(REPORT.insert(), row)
        if trial is not None:
            trial.intermediate_values[step] = intermediate_value

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        now = datetime.now()
        with self._transaction() as connection, Session(connection) as session:
            row: Any = session.get(models.TrialModel, trial_id, with_for_update=True)
            if row is None:
                raise KeyError(models.NOT_FOUND_MSG)
            if state == TrialState.RUNNING and row.state != TrialState.WAITING:
                return False
            self.check_trial_is_updatable(trial_id, row.state)
            for objective, value in enumerate(values or ()):
                self._set_trial_value_without_commit(session, row, objective, value)
            row.state = state
            if state == TrialState.RUNNING:
                row.datetime_start = now
                self._set_trial_attr_without_commit(
                    session, models.TrialUserAttributeModel, trial_id, OWNER, self._owner
                )
            if state.is_finished():
                row.datetime_complete = now
            session.flush()
            study_id = row.study_id
        if state == TrialState.RUNNING:
            self._own[trial_id] = self._open[study_id][trial_id] = super().get_trial(trial_id)
        elif (trial := self._open[study_id].get(trial_id)) is not None:
            self._own.pop(trial_id, None)
            trial.state = state
            if values is not None:
                trial.values = list(values)
            if state.is_finished():
                trial.datetime_complete = now
            if state == TrialState.COMPLETE:
                self.complete[study_id].append(trial)
        return True

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        # Optuna's own reads the trial for its message, here inside a transaction that writes.
        if trial_state.is_finished():
            raise UpdateFinishedTrialError(f"trial with id {trial_id} is finished")

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self._own.get(trial_id)
        return super().get_trial(trial_id) if trial is None else trial

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        known = self._open[study_id]
        afresh = not included_trial_ids and trial_id_greater_than == -1
        if afresh:  # by a caller that keeps nothing yet
            complete = (trial for trial in known.values() if trial.state == TrialState.COMPLETE)
            self.complete[study_id][:] = complete
        if afresh or time.monotonic() - self._read_at[study_id] >= REFRESH:
            self._read_others(study_id, included_trial_ids, trial_id_greater_than)
            self._read_at[study_id] = time.monotonic()
        trials = [known[trial_id] for trial_id in sorted(known)]
        for trial in trials:
            if trial.state.is_finished():  # the caller keeps these
                del known[trial._trial_id]
        return trials

    def _read_others(self, study_id: int, ids: set[int], after: int) -> None:
        """Read trials that another process began, changed or finished; no others."""
        known = self._open[study_id]
        with self.engine.connect().execution_options(**READ_ONLY) as connection:
            rows = connection.execute(TRIALS, {"study": study_id, "after": after, "ids": ids})
            changed = {
                row.trial_id
                for row in rows
                if row.trial_id not in self._own
                and (
                    row.trial_id not in known
                    or row.state == TrialState.RUNNING
                    or row.state != known[row.trial_id].state
                )
            }
        if not changed:
            return
        for trial in super()._get_trials(study_id, None, changed, max(changed)):
            if trial._trial_id not in changed:  # it reads all newer ones as well
                continue
            known[trial._trial_id] = trial
            if trial.state == TrialState.COMPLETE:
                self.complete[study_id].append(trial)


def _write_ahead(connection: Any, _record: object) -> None:
    # Readers and a writer do not wait for each other, and a commit is no disk flush: after a
    # power failure the last epochs may be missing, after a kill nothing is.
    connection.isolation_level = None  # the driver's own BEGIN would come too late
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _commit_without_waiting(connection: Any, _record: object) -> None:
    # The same on PostgreSQL: its own default waits for the disk at every epoch.
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO off")
    connection.commit()


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once where another wrote between.
    reading = READ_ONLY.keys() <= connection.get_execution_options().keys()
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
