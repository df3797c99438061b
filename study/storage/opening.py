"""Databases by their URL: check and open one, and the folders that belong to it."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from optuna.exceptions import StorageInternalError
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from fer.errors import UserError
from study.options import DEFAULT_URL, STORAGE
from study.storage.database import Database
from study.storage.owned import OwnedDatabase
from study.storage.owner import Owner
from study.storage.retry import say_nothing, why_busy
from study.storage.sql import BACKENDS


def hidden(url: str) -> str:
    """Return the URL with all passwords hidden."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        return re.sub(r":[^/@][^@]*($|@)", r":***\1", url)
    secret = {
        key: "***"
        for key, value in parsed.query.items()
        if any(word in f"{key} {value}".lower() for word in ("pass", "pwd"))
    }
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


def check_storage(url: str) -> None:
    """Raise UserError if no database can be used at an SQLAlchemy URL; makes none.

    One that is busy may be used later.
    """
    parsed = _check(url)
    with _refusals(url):
        engine = create_engine(url, poolclass=NullPool)
        path = Path(str(parsed.database))
        is_path = engine.name == "sqlite" and not str(path).startswith("file:")
        if is_path and not path.exists():  # it will be made
            if not path.absolute().parent.is_dir():
                raise UserError(f"no folder for storage {hidden(url)}: {path.parent}")
            return
        try:
            inspect(engine).get_table_names()
        except DBAPIError as error:
            if why_busy(error) is None:
                raise


def open_database(
    url: str,
    total: int | None = None,
    on_wait: Callable[[str, float], None] = say_nothing,
) -> OwnedDatabase:
    """Open the database at an SQLAlchemy URL to run trials; create it if missing.

    For `total` and `on_wait` see OwnedDatabase. Raises UserError if it is not a database or not
    writable.
    """
    _check(url)
    with _refusals(url):
        return OwnedDatabase(url, asdict(Owner.this()), total, on_wait)


def open_to_read(url: str) -> Database:
    """Open the database at an SQLAlchemy URL read-only. Raise UserError if there is none."""
    parsed = _check(url)
    if parsed.get_backend_name() == "sqlite":
        is_path = not str(parsed.database).startswith("file:")
        if is_path and not Path(str(parsed.database)).is_file():
            raise UserError(f"no such storage: {hidden(url)}; study.run creates one")
    with _refusals(url):
        found = inspect(create_engine(url, poolclass=NullPool)).get_table_names()
        if not {"studies", "version_info"} <= set(found):  # not Optuna's database
            hint = without_log(url) or "study.run creates one"
            raise UserError(f"no study in {hidden(url)}; {hint}")
        return Database(url, writing=False)


def without_log(url: str) -> str | None:
    """Return a hint if an SQLite file may have been copied without its log, else None."""
    path = Path(os.path.realpath(str(make_url(url).database)))  # a link's log is at its target
    log = path.with_name(f"{path.name}-wal")
    if make_url(url).get_backend_name() != "sqlite" or log.exists() or not path.is_file():
        return None
    with path.open("rb") as file:  # sqlite.org/fileformat.html, byte 18: 2 is write-ahead logging
        if file.read(19)[18:] != b"\x02":
            return None
    return (
        f"if it is a copy, {log.name} with the latest trials was left behind: copy both, or use "
        "python -m study.copy"
    )


def _check(url: str) -> URL:
    """Parse the URL. Raise UserError if it is invalid or names an in-memory database."""
    option = STORAGE if url == os.environ.get(STORAGE) else "--storage"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(
            f"{option} must be an SQLAlchemy URL such as {DEFAULT_URL}, got {hidden(url)!r}"
        ) from None
    if parsed.get_backend_name() not in BACKENDS:
        raise UserError(
            f"{option} must be SQLite, PostgreSQL or MySQL, got {parsed.get_backend_name()}"
        )
    in_memory = not parsed.database or parsed.database == ":memory:"
    if parsed.get_backend_name() == "sqlite" and in_memory:
        raise UserError(f"{option} must name a file, not an in-memory database: {hidden(url)}")
    return parsed


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    try:
        yield
    except (
        SQLAlchemyError,
        StorageInternalError,
        sqlite3.Error,
        ImportError,
        RuntimeError,
    ) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        reason = str(getattr(cause, "orig", None) or cause).strip().partition("\n")[0]
        if getattr(error, "name", None) == "psycopg":
            reason += "; pip install -e '.[postgresql]'"
        raise UserError(f"cannot use storage {hidden(url)}: {reason}") from None


def checkpoints_beside(url: str) -> Path:
    """Return the checkpoint folder: next to an SQLite file, else in the working directory."""
    parsed = _check(url)
    if parsed.get_backend_name() == "sqlite" and not str(parsed.database).startswith("file:"):
        return Path(f"{parsed.database}.checkpoints")
    return Path("studies.checkpoints")


def artifacts_beside(url: str) -> Path:
    """Return the folder of the artifacts that the dashboard shows."""
    return checkpoints_beside(url).with_suffix(".artifacts")
