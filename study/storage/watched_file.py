"""Is it still the SQLite file that was opened? Others move, replace and overwrite it."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from fer.errors import UserError

MARK_AT = 60  # of the user version in the header of an SQLite file, four bytes


class StudyGone(UserError):
    """Another program took the study away. Nothing was written since."""


class FileGone(StudyGone):
    """Likewise the whole file. What this process knows of the study may be nowhere else."""


class WatchedFile:
    """An open SQLite file in WAL mode. SQLite would go on in it wherever it is by now.

    Its header gets a mark, which no backup from before has.
    """

    def __init__(self, path: Path, connection: sa.Connection) -> None:
        self._path = path
        self._file = self._identity()
        # Closed after SQLite's own, for it drops the locks of all (sqlite.org/howtocorrupt.html).
        self._descriptor = os.open(path, os.O_RDONLY)
        self._mark = uuid4().int % 2**31
        connection.exec_driver_sql(f"PRAGMA user_version = {self._mark}")
        self._stored_mark = self._read_mark()
        self._last = self._state()

    def find(self) -> None:
        """Raise FileGone if there is another file of that name, or none."""
        if self._identity() != self._file:
            raise FileGone(f"{self._path} was replaced by another file")

    def check(self, connection: sa.Connection) -> bool:
        """Whether another connection has written to it since this one asked last.

        Raises FileGone if it is no longer the file that was opened.
        """
        self.find()
        version = connection.exec_driver_sql("PRAGMA data_version").scalar()
        changed = version != connection.info.setdefault("data_version", version)
        connection.info["data_version"] = version
        state = self._state()
        if changed:  # perhaps another process marked it
            self._mark = mark_of(connection)
        # Nobody committed: another process moved commits from the log into the file, or it was
        # overwritten.
        elif state != self._last and not (self._is_marked(connection) and self._is_sound()):
            raise FileGone(f"{self._path} was overwritten")
        self._last, self._stored_mark = state, self._read_mark()
        return changed

    def _is_marked(self, connection: sa.Connection) -> bool:
        mark = mark_of(connection)
        return mark == self._mark and self._read_mark() in (mark, self._stored_mark)

    def written(self) -> None:
        """This process has written to it."""
        self._last, self._stored_mark = self._state(), self._read_mark()

    def leave(self, engine: sa.Engine) -> None:
        """Close the database without a trace in another file of that name."""
        log = Path(f"{self._path}-wal")
        with suppress(FileNotFoundError, NotADirectoryError):
            try:
                self.find()
            except FileGone:  # the file that is open has what is in the log, wherever it is now
                with suppress(sqlite3.Error, sa.exc.DBAPIError):
                    move_log_into_file(engine)
            os.truncate(log, 0)  # else closing would write it into a file that is not its own
        engine.dispose()
        for rest in (log, Path(f"{self._path}-shm")):
            with suppress(OSError):
                rest.unlink()
        self.close()

    def close(self) -> None:
        """For when SQLite has closed it."""
        os.close(self._descriptor)

    def _read_mark(self) -> int:
        return int.from_bytes(os.pread(self._descriptor, 4, MARK_AT), "big")

    def _identity(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FileGone(f"{self._path} was moved or removed") from None
        return found.st_dev, found.st_ino

    def _state(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_size, found.st_mtime_ns

    def _is_sound(self) -> bool:
        try:
            with closing(sqlite3.connect(self._path)) as connection:
                verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.Error:
            return False
        return bool(verdict == ("ok",))


def watched(url: str, connection: sa.Connection) -> WatchedFile | None:
    """The file of an SQLite database at an SQLAlchemy URL; None on a server."""
    parsed = make_url(url)
    name = str(parsed.database)
    is_file = parsed.get_backend_name() == "sqlite" and not name.startswith("file:")
    return WatchedFile(Path(name), connection) if is_file else None


def mark_of(connection: sa.Connection) -> int:
    """The mark of the file, as SQLite sees it."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar() or 0)


def move_log_into_file(engine: sa.Engine) -> None:
    """Let SQLite write its log into the file that it has open."""
    if (
        isinstance(engine.pool, QueuePool) and engine.pool.checkedin()
    ):  # else it would open whatever has the name now
        connection: Any = engine.raw_connection()
        with closing(connection):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
