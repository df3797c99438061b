"""Detect whether the open SQLite file was moved, replaced or overwritten."""

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

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
MARK_AT = 60  # offset of the user version (4 bytes) in the header of an SQLite file


class StudyGone(UserError):
    """Another program removed the study. This process writes nothing more to it."""


class FileGone(StudyGone):
    """Another program removed the file. What this process knows may be the only copy."""


class WatchedFile:
    """An open SQLite file in WAL mode. SQLite would keep using it even if it was moved.

    A mark in its header tells it from earlier backups.
    """

    def __init__(self, path: Path, connection: sa.Connection) -> None:
        self._path = path
        self._beside = os.path.realpath(path)  # SQLite's log is next to this
        self._file = self._identity()
        # Closed after SQLite's own, because closing it drops all locks
        # (sqlite.org/howtocorrupt.html).
        self._descriptor = os.open(path, os.O_RDONLY)
        self._last: tuple[int, int] | None = None
        connection.exec_driver_sql(f"PRAGMA user_version = {uuid4().int % 2**31}")
        self.written()

    def find(self) -> None:
        """Raise FileGone if the file was replaced or removed."""
        if self._identity() not in (self._file, None):
            raise FileGone(f"{self._path} was replaced by another file")

    def check(self, connection: sa.Connection) -> bool:
        """Whether another connection may have written to the file since the last check.

        Raises FileGone if it is no longer the file that was opened.
        """
        self.find()
        version = connection.exec_driver_sql("PRAGMA data_version").scalar()
        before = connection.info.get("data_version")  # None on a new connection
        connection.info["data_version"] = version
        moved = _written_at(self._path) != self._last
        # Without a new commit, either another process checkpointed the log into the file, or the
        # file was overwritten.
        if moved and before in (None, version):
            marked = before is None or self._is_marked(connection)
            if not marked or not self._is_sound():
                raise FileGone(f"{self._path} was overwritten")
        self._last, self._mark = _written_at(self._path), self._read_mark()
        return bool(version != before)

    def _is_marked(self, connection: sa.Connection) -> bool:
        """Whether the header has the mark that SQLite sees, or still the previous one."""
        mark = connection.exec_driver_sql("PRAGMA user_version").scalar()
        return self._read_mark() in (mark, self._mark)

    def written(self) -> None:
        """Record that this process has written to the file."""
        self._last, self._mark = _written_at(self._path), self._read_mark()
        self._logs = {file: _inode(file) for file in self._log_files()}

    def leave(self, engine: sa.Engine) -> None:
        """Close the database without writing to another file of the same name."""
        try:
            self.find()
        except FileGone:  # move the log into the open file, wherever it is now
            with suppress(sqlite3.Error, sa.exc.DBAPIError):
                move_log_into_file(engine)
        ours = [file for file, inode in self._logs.items() if inode and inode == _inode(file)]
        log, _ = self._log_files()
        if log in ours:  # closing would write it into the wrong file
            os.truncate(log, 0)
        engine.dispose()
        for file in ours:
            with suppress(OSError):
                file.unlink()
        self.close()

    def _log_files(self) -> tuple[Path, Path]:
        return Path(f"{self._beside}-wal"), Path(f"{self._beside}-shm")

    def close(self) -> None:
        """Release the file after SQLite has closed it."""
        os.close(self._descriptor)

    def _read_mark(self) -> int:
        return int.from_bytes(os.pread(self._descriptor, 4, MARK_AT), "big")

    def _identity(self) -> tuple[int, int] | None:
        """Return device and inode of the file; None if unknown at the moment."""
        try:
            found = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FileGone(f"{self._path} was moved or removed") from None
        except OSError:  # SQLite will fail too, and is retried
            return None
        return found.st_dev, found.st_ino

    def _is_sound(self) -> bool:
        """Whether SQLite finds no damage or cannot check, for example if the file is locked."""
        try:
            with closing(sqlite3.connect(self._path)) as connection:
                verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.Error as error:
            return error.sqlite_errorcode & 0xFF not in DAMAGED
        return bool(verdict == ("ok",))


def watched(url: str, connection: sa.Connection) -> WatchedFile | None:
    """Watch the file of the SQLite database at a URL; None for a server."""
    parsed = make_url(url)
    name = str(parsed.database)
    is_file = parsed.get_backend_name() == "sqlite" and not name.startswith("file:")
    return WatchedFile(Path(name), connection) if is_file else None


def _written_at(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of a file; None if unknown."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _inode(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def move_log_into_file(engine: sa.Engine) -> None:
    """Let SQLite checkpoint its log into the file it has open."""
    # Requires an open connection: a new one would open whatever has the name now.
    if isinstance(engine.pool, QueuePool) and engine.pool.checkedin():
        connection: Any = engine.raw_connection()
        with closing(connection):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
