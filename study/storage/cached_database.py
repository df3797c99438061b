"""A database that keeps the trials of this process in memory."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import OperationalError

from study.storage.known_trials import KnownTrials
from study.storage.owner import check_own
from study.storage.reading import distribution_in
from study.storage.retry import patient, say_nothing
from study.storage.tables import TRIAL_SYSTEM, TRIAL_USER
from study.storage.watched_database import WatchedDatabase
from study.storage.watched_file import StudyGone
from study.storage.writing import Row, attribute, belongings, parameter, report, write


class CachedDatabase(WatchedDatabase):
    """A database in which this process, identified by `owner`, has trials of its own.

    These are cached in memory. Their parameters are written in one transaction with the next
    attribute, report or state. Reports are committed before the call returns. Writing to one that
    another process has taken over raises TakenOver. Not thread-safe.
    """

    def __init__(
        self,
        url: str,
        owner: dict[str, Any],
        on_wait: Callable[[str, float], None] = say_nothing,
    ) -> None:
        self.owner = owner
        self._own: dict[int, KnownTrials] = {}  # cache of the trial's study, by trial id
        self._unwritten: dict[int, list[Row]] = defaultdict(list)  # pending, by trial id
        super().__init__(url, on_wait)

    @property
    def own(self) -> frozenset[int]:
        """Ids of the trials that this process runs."""
        return frozenset(self._own)

    def owns(self, study_id: int, number: int) -> bool:
        """Whether this process runs trial `number` of the study."""
        trials = map(self._known[study_id].get, self._own)
        return any(trial is not None and trial.number == number for trial in trials)

    def close(self) -> None:
        """Write pending rows and close all connections."""
        if self._unwritten:
            with suppress(OperationalError, StudyGone), self.transaction():
                pass
        super().close()

    def waiting(self, reason: str, seconds: float) -> None:
        super().waiting(reason, seconds)
        # A crashed server may have lost the last reports it confirmed.
        self._unwritten.clear()
        for trial_id, known in self._own.items():
            if (trial := known.get(trial_id)) is not None:
                self._unwritten[trial_id] = list(belongings(trial_id, trial))

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[sa.Connection]:
        """Write pending rows and run the block in one transaction."""
        with super().transaction(durable) as connection:
            for trial_id, rows in list(self._unwritten.items()):
                with suppress(UpdateFinishedTrialError):  # another process has it now
                    check_own(connection, trial_id, self.owner)
                    write(connection, rows, replace=False)
            yield connection
        self._unwritten.clear()

    def delete_study(self, study_id: int) -> None:
        known = self._known[study_id]
        super().delete_study(study_id)
        for trial_id in [each for each, its_study in self._own.items() if its_study is known]:
            self._forget(trial_id)

    def _take(self, trial_id: int, trial: FrozenTrial | None, known: KnownTrials) -> None:
        assert trial is not None
        self._own[trial_id] = known
        known.put(trial_id, trial)

    @contextmanager
    def _own_trial(self, trial_id: int) -> Iterator[None]:
        try:
            yield
        except UpdateFinishedTrialError:  # also TakenOver
            self._forget(trial_id)
            raise

    def _forget(self, trial_id: int) -> None:
        """Drop local state of a trial that belongs to another process."""
        self._own.pop(trial_id, None)
        self._unwritten.pop(trial_id, None)
        for known in self._known.values():
            known.forget(trial_id)

    # What belongs to a trial

    @patient
    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        known, trial = self._own.get(trial_id), self._own_or_none(trial_id)
        if known is None or trial is None:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
            return
        row = parameter(trial_id, param_name, param_value_internal, distribution)
        before = known.distributions.get(param_name)
        if before is None and self._presence:  # the space is known
            before = distribution
        if before is None or param_name in trial.params:
            with self._own_trial(trial_id), self.transaction() as connection:
                check_own(connection, trial_id, self.owner)
                # Another process may already have set it with another distribution.
                before = distribution_in(connection, trial_id, param_name)
                if before is not None:
                    check_distribution_compatibility(before, distribution)
                write(connection, [row], replace=True)
        else:
            check_distribution_compatibility(before, distribution)
            self._unwritten[trial_id].append(row)
        value = distribution.to_external_repr(param_value_internal)
        known.change(
            trial_id, params={param_name: value}, distributions={param_name: distribution}
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id in self._own:
            self.set_trial_attributes(trial_id, user={key: value})
        else:
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id in self._own:
            self.set_trial_attributes(trial_id, system={key: value})
        else:
            super().set_trial_system_attr(trial_id, key, value)

    @patient
    def set_trial_attributes(
        self,
        trial_id: int,
        system: Mapping[str, Any] | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> None:
        """Set attributes of an own trial in one transaction."""
        # Normalise to JSON, as when read back: tuples become lists, keys text.
        new = [json.loads(json.dumps(dict(each or {}))) for each in (system, user)]
        rows = [
            attribute(table, trial_id, key, value)
            for table, each in zip((TRIAL_SYSTEM, TRIAL_USER), new, strict=True)
            for key, value in each.items()
        ]
        known = self._own.get(trial_id)
        with self._own_trial(trial_id), self.transaction() as connection:
            check_own(connection, trial_id, self.owner)
            write(connection, rows, replace=True)
        if known is not None:
            known.change(trial_id, system_attrs=new[0], user_attrs=new[1])

    @patient
    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        trial = self._own_or_none(trial_id)
        if trial is None:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            return
        with self._own_trial(trial_id), self.transaction() as connection:
            reports = check_own(connection, trial_id, self.owner)
            if self._presence is not None:
                self._presence.check_reports(reports, len(trial.intermediate_values))
            row = report(trial_id, step, intermediate_value)
            write(connection, [row], replace=step in trial.intermediate_values)
        self._own[trial_id].change(trial_id, intermediate_values={step: intermediate_value})

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._own_or_none(trial_id) or super().get_trial(trial_id)

    def _own_or_none(self, trial_id: int) -> FrozenTrial | None:
        known = self._own.get(trial_id)
        return None if known is None else known.get(trial_id)

    def _changed(self, study_id: int, trial_id: int) -> None:
        if trial_id not in self._own:
            super()._changed(study_id, trial_id)

    def _mine(self) -> Set[int]:
        return self._own.keys()
