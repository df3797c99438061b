"""Detect whether another program has deleted, renamed, replaced or restored the open study."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import sqlalchemy as sa

from study.storage.known_trials import ENDED
from study.storage.tables import STUDIES, STUDY_SYSTEM, TRIALS
from study.storage.watched_file import FileGone, StudyGone, move_log_into_file, watched
from study.storage.writing import attribute, lock_study, write

UID = "uid"
"""System attribute that identifies a study uniquely: databases reuse ids."""

NAME_AND_UID = (
    sa.select(STUDIES.c.study_name, STUDY_SYSTEM.c.value_json)
    .outerjoin(
        STUDY_SYSTEM,
        (STUDY_SYSTEM.c.study_id == STUDIES.c.study_id) & (STUDY_SYSTEM.c.key == UID),
    )
    .where(STUDIES.c.study_id == sa.bindparam("study"))
)
COUNTS = sa.select(
    sa.func.count(), sa.func.coalesce(sa.func.sum(sa.case((TRIALS.c.state.in_(ENDED), 1))), 0)
).where(TRIALS.c.study_id == sa.bindparam("study"))


class Presence:
    """The study and the file that this process has opened.

    Once the study is gone, every check raises.
    """

    def __init__(self, url: str, connection: sa.Connection, study_id: int) -> None:
        """Give the study a UID if it has none."""
        lock_study(connection, study_id)
        write(connection, [attribute(STUDY_SYSTEM, study_id, UID, uuid4().hex)], replace=False)
        self._file = watched(url, connection)
        self.study_id = study_id
        self._name, self._uid = self._read(connection) or ("", "")
        self.gone: StudyGone | None = None

    def begin(self, engine: sa.Engine) -> None:
        """Write the file's mark to disk after the transaction."""
        if self._file is not None:
            with suppress(sqlite3.Error):  # disk full: a later commit writes the mark
                move_log_into_file(engine)
            self._file.written()

    def find(self) -> None:
        """Raise FileGone if the file was replaced or removed. Needs no open database."""
        with self._remembered():
            if self._file is not None:
                self._file.find()

    def check(self, connection: sa.Connection, begun: int, ended: int) -> None:
        """Raise StudyGone if the study is missing, was renamed, or has lost trials.

        It must have at least `begun` trials, `ended` of them finished.
        """
        with self._remembered():
            if self._file is not None and not self._file.check(connection):
                return
            try:
                found = self._read(connection)
            except sa.exc.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                found = None
            if found != (self._name, self._uid):
                renamed = found is not None and found[1] == self._uid
                raise StudyGone(
                    f"study {self._name!r} was "
                    + (f"renamed to {found[0]!r}" if renamed and found else "deleted")
                )
            if self._file is not None:  # restoring a server's database disconnects its clients
                self._check_trials(connection, begun, ended)

    def check_reports(self, found: int, stored: int) -> None:
        """Raise StudyGone if a trial has fewer reports than this process stored.

        Applies to files only: reports lost in a server crash are written again.
        """
        if self._file is not None and found < stored:
            with self._remembered():
                raise StudyGone(
                    f"study {self._name!r} was restored to an earlier state: epochs missing"
                )

    def written(self) -> None:
        """Record that this process has written to the file."""
        if self._file is not None:
            self._file.written()

    def close(self, engine: sa.Engine) -> bool:
        """Close a study that is gone; return False if it is not."""
        if self._file is not None and isinstance(self.gone, FileGone):
            self._file.leave(engine)
        elif self.gone is not None:
            engine.dispose()
        return self.gone is not None

    def closed(self) -> None:
        """Release the file after the database was closed."""
        if self._file is not None and self.gone is None:
            self._file.close()

    def _check_trials(self, connection: sa.Connection, begun: int, ended: int) -> None:
        found = connection.execute(COUNTS, {"study": self.study_id}).one()
        if found[0] < begun or found[1] < ended:
            raise StudyGone(
                f"study {self._name!r} was restored to an earlier state: it had {begun} "
                f"trials, {ended} of them finished; now {found[0]} and {found[1]}"
            )

    def _read(self, connection: sa.Connection) -> tuple[str, str] | None:
        row = connection.execute(NAME_AND_UID, {"study": self.study_id}).one_or_none()
        return None if row is None else (row[0], row[1])

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        if self.gone is not None:
            raise self.gone
        try:
            yield
        except StudyGone as gone:
            self.gone = gone
            raise
