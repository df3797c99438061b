"""Optuna's tables, for many writers, with few and short transactions, and with patience."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from study.storage.known_trials import REFRESH, KnownTrials
from study.storage.owner import (
    OWNER,
    TakenOver,
    beat,
    check_total,
    owner_of,
    running,
)
from study.storage.retry import patient
from study.storage.sql import WRITES, Statement, arguments, everything, parameter, report, set_up


class Database(KnownTrials):
    """An Optuna storage whose tables are Optuna's and whose transactions are its own.

    Trials that this process runs are kept in memory as well, so that reading them costs nothing;
    those of other processes are read when a second has passed. Parameters wait for the next
    write of an attribute, a report or a state, and go with it in one transaction; Optuna asks no
    more of a storage than that nothing is missing once a state is written. A report is committed
    before the call returns.

    `owner` is stored with a trial in the very transaction that makes it this process's. No trial
    begins beyond `total` finished and running ones (TotalReached), whoever runs them. A trial
    that another process has taken over is not finished here (TakenOver). While the database is
    away its methods wait, telling `on_wait` why and for how long, and end in DatabaseAway.

    Not safe for threads: one process, one loop.
    """

    def __init__(
        self,
        url: str,
        owner: dict[str, Any],
        total: int | None,
        on_wait: Callable[[str, float], None],
    ) -> None:
        super().__init__(url, on_wait, **arguments(make_url(url).get_backend_name()))
        self.owner, self._total = owner, total
        self._waiting: list[Statement] = []  # statements for the next commit
        set_up(self.engine)
        self._writer = self.engine.execution_options(**WRITES)
        with self._writer.begin():
            pass  # what can't be written fails here

    def close(self) -> None:
        """Write what waits and close every connection. Leaves one plain file on SQLite."""
        if self._waiting:
            with suppress(OperationalError), self.transaction():
                pass
        if self.engine.name == "sqlite":
            # Refused while another process has the database open; the last one does it then.
            with suppress(sqlite3.OperationalError, OperationalError):
                connection: Any = self.engine.raw_connection()
                with closing(connection):
                    connection.execute("PRAGMA busy_timeout=0")
                    connection.execute("PRAGMA journal_mode=DELETE")
        self.engine.dispose()

    def waiting(self, reason: str, seconds: float) -> None:
        super().waiting(reason, seconds)
        # A server that crashed may have lost the last reports it said it had.
        self._waiting = [
            statement
            for trial_id, trial in self._own.items()
            for statement in everything(self.engine, trial_id, trial)
        ]

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[Session]:
        """What waits and what the block does, in one transaction.

        With `durable` a server has it on its disk, and all before it, when the block ends.
        """
        with Session(self._writer) as session, session.begin():
            if durable and self.engine.name == "postgresql":
                session.execute(text("SET LOCAL synchronous_commit TO on"))
            for statement, values in self._waiting:
                session.execute(statement, values)
            yield session
        self._waiting.clear()

    @patient
    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        mine = template_trial is None
        with self.transaction(durable=True) as session:
            lost: set[int] = set()
            if mine:
                template_trial = create_trial(
                    state=TrialState.RUNNING, user_attrs={OWNER: self.owner}
                )
                if self._doubtful:
                    lost = running(session, study_id, self.owner) - self._own.keys()
                if not lost:
                    check_total(session, study_id, self._total)
            row: Any
            if lost:
                row = session.get_one(models.TrialModel, lost.pop())
            else:
                row = self._get_prepared_new_trial(study_id, template_trial, session)
            session.flush()
            if mine:
                beat(session, {row.trial_id})
            trial = self._build_frozen_trial_from_trial_model(row)
        self._doubtful = False
        self._open[study_id][trial._trial_id] = trial
        # The next read must know of every older one: Optuna asks for newer ones alone after it.
        self._read_at[study_id] = -REFRESH
        if mine:
            self._own[trial._trial_id] = trial
        return trial

    @patient
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
            with suppress(IntegrityError), self.transaction() as session:
                self._set_trial_param_without_commit(
                    session,
                    trial_id,
                    param_name,
                    param_value_internal,
                    distribution,
                    previous_distribution,
                )
        else:
            self._waiting.append(
                parameter(self.engine, trial_id, param_name, param_value_internal, distribution)
            )
        if trial is not None:
            trial.params[param_name] = distribution.to_external_repr(param_value_internal)
            trial.distributions[param_name] = distribution

    @patient
    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._own_trial(trial_id), self.transaction() as session:
            if trial_id in self._own and owner_of(session, trial_id) != self.owner:
                raise TakenOver
            self._set_trial_attr_without_commit(
                session, models.TrialUserAttributeModel, trial_id, key, value
            )
        if (trial := self._own.get(trial_id)) is not None:
            trial.user_attrs[key] = value

    @patient
    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self.transaction() as session:
            self._set_trial_attr_without_commit(
                session, models.TrialSystemAttributeModel, trial_id, key, value
            )
        if (trial := self._own.get(trial_id)) is not None:
            trial.system_attrs[key] = value

    @patient
    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        trial = self._own.get(trial_id)
        if trial is None or step in trial.intermediate_values:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        else:
            with self.transaction() as session:
                session.execute(*report(self.engine, trial_id, step, intermediate_value))
        if trial is not None:
            trial.intermediate_values[step] = intermediate_value

    @patient
    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        now = datetime.now()
        with self._own_trial(trial_id), self.transaction(durable=True) as session:
            row: Any = session.get(models.TrialModel, trial_id)
            if row is None:
                raise KeyError(models.NOT_FOUND_MSG)
            study_id = row.study_id
            if state == TrialState.RUNNING:
                begun = self._begin_trial(session, row, now)
            else:
                begun = self._end_trial(session, row, state, values, now)
        if state == TrialState.RUNNING:
            if begun:
                self._own[trial_id] = self._open[study_id][trial_id] = super().get_trial(trial_id)
            return begun
        self._own.pop(trial_id, None)
        if (trial := self._open[study_id].get(trial_id)) is not None:
            trial.state = state
            if values is not None:
                trial.values = list(values)
            trial.datetime_complete = now
            if state == TrialState.COMPLETE:
                self.complete[study_id].append(trial)
        return True

    def _begin_trial(self, session: Session, row: Any, now: datetime) -> bool:
        """Make a waiting trial this process's; whether it was there to be had."""
        session.refresh(row, with_for_update=True)
        unsaid = (
            row.state == TrialState.RUNNING
            and row.trial_id not in self._own
            and owner_of(session, row.trial_id) == self.owner
        )
        if unsaid:  # a commit that succeeded without saying so
            return True
        if row.state != TrialState.WAITING:
            return False
        check_total(session, row.study_id, self._total)
        row.state, row.datetime_start = TrialState.RUNNING, now
        self._set_trial_attr_without_commit(
            session, models.TrialUserAttributeModel, row.trial_id, OWNER, self.owner
        )
        beat(session, {row.trial_id})
        session.flush()
        return True

    def _end_trial(
        self,
        session: Session,
        row: Any,
        state: TrialState,
        values: Sequence[float] | None,
        now: datetime,
    ) -> bool:
        """Finish a trial that this process runs."""
        session.refresh(row, with_for_update=True)
        mine = owner_of(session, row.trial_id) == self.owner
        if mine and row.state == state:  # a commit that succeeded without saying so
            return True
        self.check_trial_is_updatable(row.trial_id, row.state)
        if not mine or row.state != TrialState.RUNNING:
            raise TakenOver
        for objective, value in enumerate(values or ()):
            self._set_trial_value_without_commit(session, row, objective, value)
        row.state, row.datetime_complete = state, now
        session.flush()
        return True

    @patient
    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        kind = models.StudySystemAttributeModel
        with self.transaction() as session:
            study = models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            attribute: Any = kind.find_by_study_and_key(study, key, session)
            if attribute is None:
                attribute = kind(study_id=study_id, key=key)
                session.add(attribute)
            attribute.value_json = json.dumps(value)

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        # Optuna's own reads the trial for its message, here inside a transaction that writes.
        if trial_state.is_finished():
            raise UpdateFinishedTrialError(f"trial with id {trial_id} is finished")

    @contextmanager
    def _own_trial(self, trial_id: int) -> Iterator[None]:
        try:
            yield
        except UpdateFinishedTrialError:  # also TakenOver
            self._forget(trial_id)
            raise

    def _forget(self, trial_id: int) -> None:
        """Know no more of a trial that is another process's than the database does."""
        self._own.pop(trial_id, None)
        for known in self._open.values():
            known.pop(trial_id, None)

    @property
    def own(self) -> set[int]:
        """The trials that this process runs."""
        return set(self._own)

    @patient
    def requeue(self, trial_id: int, owner: Any) -> bool:
        """Let a trial wait for its turn again that was `owner`'s: same number, settings and
        stored epochs. False if it is no longer that owner's.

        Optuna's public calls could only fail the trial and queue a copy behind all others.
        """
        with self.transaction(durable=True) as session:
            row: Any = session.get_one(models.TrialModel, trial_id, with_for_update=True)
            theirs = owner_of(session, trial_id) == owner
            if row.state != TrialState.RUNNING or not theirs:
                self._forget(trial_id)
                return False
            row.state = TrialState.WAITING
            study_id = row.study_id
        self._own.pop(trial_id, None)
        if (trial := self._open[study_id].get(trial_id)) is not None:
            trial.state = TrialState.WAITING
        return True
