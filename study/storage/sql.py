"""Connections that many writers can share, and INSERT statements for rows that may be there."""

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from study.storage.tables import UNIQUE

LOCK_SECONDS = 10.0  # for which one attempt waits for another writer on SQLite
WRITES = {"study_writes": True}
"""Execution option of a transaction that will write."""
BACKENDS = ("sqlite", "postgresql", "mysql", "mariadb")


def arguments(url: str) -> dict[str, Any]:
    """What `sqlalchemy.create_engine` is told beside the URL.

    No ping before use: a connection that broke must raise, for the server may have crashed and
    lost what it had not put on its disk.
    """
    match make_url(url).get_backend_name():
        case "sqlite":
            return {"connect_args": {"timeout": LOCK_SECONDS}}
        case "postgresql":
            return {}
    # Else a transaction counts trials as they were when it began.
    return {"isolation_level": "READ COMMITTED"}


def make_engine(url: str, writing: bool) -> sa.Engine:
    """An engine for Optuna's tables at `url`.

    One that is not for writing leaves an SQLite file in the journal mode it has, and keeps no
    connection beyond the statement it was made for.
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
    connection.isolation_level = None  # the driver's own BEGIN would come too late


def _write_ahead(connection: Any, _record: object) -> None:
    # Readers and a writer do not wait for each other, and a commit is no disk flush: after a
    # power failure the last epochs may be missing, after a kill nothing is.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _commit_without_waiting(connection: Any, _record: object) -> None:
    # The same on PostgreSQL: its own default waits for the disk at every epoch. What begins or
    # ends a trial does wait, see Database.transaction.
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO off")
        cursor.execute("SET TIME ZONE 'UTC'")  # heartbeats are stored without a zone
    connection.commit()


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once where another wrote between.
    writes = WRITES.keys() <= connection.get_execution_options().keys()
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@cache
def insert_or_keep(dialect: str, table: sa.Table) -> sa.Insert:
    """An INSERT that leaves a row alone which is there already."""
    match dialect:
        case "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        case "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
    return mysql.insert(table).prefix_with("IGNORE")


@cache
def insert_or_replace(dialect: str, table: sa.Table) -> sa.Insert:
    """An INSERT that gives a row which is there already the new values."""
    keys = UNIQUE[table]
    others = [column.name for column in table.c if not column.primary_key]
    others = [name for name in others if name not in keys]
    if dialect in ("mysql", "mariadb"):
        of_mysql = mysql.insert(table)
        return of_mysql.on_duplicate_key_update({name: of_mysql.inserted[name] for name in others})
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    new = {name: insert.excluded[name] for name in others}
    return insert.on_conflict_do_update(index_elements=keys, set_=new)
