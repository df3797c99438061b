"""Engines for concurrent writers, and INSERT statements that tolerate existing rows."""

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from study.storage.tables import UNIQUE

LOCK_SECONDS = 10.0  # that an attempt waits for another writer on SQLite
WRITES = {"study_writes": True}
"""Execution option of transactions that write."""
BACKENDS = ("sqlite", "postgresql", "mysql", "mariadb")


def arguments(url: str) -> dict[str, Any]:
    """Return the arguments of `sqlalchemy.create_engine` in addition to the URL.

    No ping before use: a broken connection must raise, because the server may have crashed and
    lost unflushed data.
    """
    match make_url(url).get_backend_name():
        case "sqlite":
            return {"connect_args": {"timeout": LOCK_SECONDS}}
        case "postgresql":
            return {}
    # Otherwise a transaction would count trials as of its start.
    return {"isolation_level": "READ COMMITTED"}


def make_engine(url: str, writing: bool) -> sa.Engine:
    """Create an engine for Optuna's tables at `url`.

    Without `writing`, an SQLite file keeps its journal mode and no connection is kept open.
    """
    engine = sa.create_engine(
        url, **arguments(url), **({} if writing else {"poolclass": NullPool})
    )
    if engine.name == "sqlite":
        sa.event.listen(engine, "connect", _write_ahead if writing else _begin_explicitly)
        sa.event.listen(engine, "begin", _begin)
    elif engine.name == "postgresql":
        sa.event.listen(engine, "connect", _commit_without_waiting)
    return engine


def _begin_explicitly(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would issue BEGIN too late


def _write_ahead(connection: Any, _record: object) -> None:
    # Readers and a writer do not block each other, and a commit does not flush to disk: a power
    # failure may lose the last epochs, a kill loses nothing.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _commit_without_waiting(connection: Any, _record: object) -> None:
    # The same for PostgreSQL, whose default flushes at every commit. Starting or ending a trial
    # does flush, see Database.transaction.
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO off")
        cursor.execute("SET TIME ZONE 'UTC'")  # heartbeats are stored without a time zone
    connection.commit()


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads and then writes would fail at once if another one wrote in between.
    writes = WRITES.keys() <= connection.get_execution_options().keys()
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@cache
def insert_or_keep(dialect: str, table: sa.Table) -> sa.Insert:
    """Return an INSERT that keeps existing rows."""
    match dialect:
        case "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        case "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
    return mysql.insert(table).prefix_with("IGNORE")


@cache
def insert_or_replace(dialect: str, table: sa.Table) -> sa.Insert:
    """Return an INSERT that updates existing rows."""
    keys = UNIQUE[table]
    others = [column.name for column in table.c if not column.primary_key]
    others = [name for name in others if name not in keys]
    if dialect in ("mysql", "mariadb"):
        of_mysql = mysql.insert(table)
        return of_mysql.on_duplicate_key_update({name: of_mysql.inserted[name] for name in others})
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    new = {name: insert.excluded[name] for name in others}
    return insert.on_conflict_do_update(index_elements=keys, set_=new)
