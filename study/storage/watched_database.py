"""A database that notices when its study is changed or removed by another program."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from study.storage.database import Database
from study.storage.known_trials import ENDED, KnownTrials, Misfit
from study.storage.presence import Presence
from study.storage.retry import patient, say_nothing


class WatchedDatabase(Database):
    """A database that watches one study, from the call of `work_on` on."""

    def __init__(self, url: str, on_wait: Callable[[str, float], None] = say_nothing) -> None:
        self._presence: Presence | None = None
        super().__init__(url, on_wait)

    @patient
    def work_on(self, study_id: int, misfit: Misfit) -> None:
        """From now on raise StudyGone and write nothing if this study is gone.

        Trials added by other programs that are a `misfit` are ignored.
        """
        with self.transaction() as connection:
            presence = Presence(self.url, connection, study_id)
        presence.begin(self.engine)
        self._presence = presence
        self._known[study_id] = KnownTrials(misfit)

    def check_presence(self, connection: sa.Connection | None = None) -> None:
        if (presence := self._presence) is None:
            return
        presence.find()  # before SQLite creates a new file of that name
        known = self._known[presence.study_id]
        counts = known.count(*TrialState), known.count(*ENDED)
        if connection is not None:
            presence.check(connection, *counts)
            return
        with suppress(DBAPIError), self.engine.connect() as another:
            presence.check(another, *counts)

    def known(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials of a study read by this process, including misfits, by number."""
        return self._known[study_id].all()

    def misfits(self, study_id: int) -> list[tuple[FrozenTrial, str]]:
        """Return the ignored trials of other programs, each with the reason."""
        return list(self._known[study_id].misfits.values())

    def complete(self, study_id: int) -> list[FrozenTrial]:
        """Return the live list of complete trials, to which later ones are appended."""
        return self._known[study_id].complete

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[sa.Connection]:
        if self._presence is not None:
            self._presence.find()
        with super().transaction(durable) as connection:
            self.check_presence(connection)
            yield connection
        if self._presence is not None:
            self._presence.written()

    def close(self) -> None:
        if self._presence is not None and self._presence.close(self.engine):
            return
        super().close()
        if self._presence is not None:
            self._presence.closed()
