"""Is it still the study that was opened? Other programs delete, rename, replace and restore."""

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
"""The system attribute that tells a study from any other: databases use an id again."""

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
    """A study, and the file it is in, as this process has opened them.

    Once it is gone every check says so.
    """

    def __init__(self, url: str, connection: sa.Connection, study_id: int) -> None:
        """Gives the study a UID if it has none."""
        lock_study(connection, study_id)
        write(connection, [attribute(STUDY_SYSTEM, study_id, UID, uuid4().hex)], replace=False)
        self._file = watched(url, connection)
        self.study_id = study_id
        self._name, self._uid = self._read(connection) or ("", "")
        self.gone: StudyGone | None = None

    def begin(self, engine: sa.Engine) -> None:
        """The transaction is over: what marks the file goes into it."""
        if self._file is not None:
            with suppress(sqlite3.Error):  # a full disk: the mark follows with the next commits
                move_log_into_file(engine)
            self._file.written()

    def find(self) -> None:
        """Raise FileGone if there is another file, or none. For a database that is closed."""
        with self._remembered():
            if self._file is not None:
                self._file.find()

    def check(self, connection: sa.Connection, begun: int, ended: int) -> None:
        """Raise StudyGone if the study is not there, has another name, or has not so many trials
        that were `begun`, and of these `ended`."""
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
                    + (f"renamed {found[0]!r}" if renamed and found else "deleted")
                )
            if self._file is not None:  # who restores a server's database ends its clients
                self._check_trials(connection, begun, ended)

    def check_reports(self, found: int, stored: int) -> None:
        """Raise StudyGone if a trial has fewer reports than this process has stored.

        A server that crashed may have lost some, and gets them again.
        """
        if self._file is not None and found < stored:
            with self._remembered():
                raise StudyGone(f"study {self._name!r} was set back: epochs are missing in it")

    def written(self) -> None:
        """This process has written to the file."""
        if self._file is not None:
            self._file.written()

    def close(self, engine: sa.Engine) -> bool:
        """Close what is gone; False if it is there."""
        if self._file is not None and isinstance(self.gone, FileGone):
            self._file.leave(engine)
        elif self.gone is not None:
            engine.dispose()
        return self.gone is not None

    def closed(self) -> None:
        """The database is closed."""
        if self._file is not None and self.gone is None:
            self._file.close()

    def _check_trials(self, connection: sa.Connection, begun: int, ended: int) -> None:
        found = connection.execute(COUNTS, {"study": self.study_id}).one()
        if found[0] < begun or found[1] < ended:
            raise StudyGone(
                f"study {self._name!r} was set back: it had {begun} trials, {ended} of them "
                f"finished, and has {found[0]} and {found[1]}"
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
