"""A verified copy of a database, even while studies run: `python -m study.copy --out copy.db`.

There is no `__init__.py` here on purpose: if a command is started by its path, as editors do,
study/ comes first on the module path, and only a folder without one does not shadow Python's own
`copy`.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

from fer import command
from fer.errors import UserError
from fer.files import check_file, part_of
from study.options import Stored


class Options(Stored):
    """Copy a consistent snapshot of every study of a database, which may be in use, into a new
    SQLite file, and the dashboard's artifacts into a folder next to it."""

    out: Path = Path("studies-copy.db")
    """SQLite file to write, which must be new."""


def main() -> None:
    options: Options = command.parse(Options, "study.copy")
    if options.out.exists():
        raise UserError(f"--out must be a new file, {options.out} exists")
    check_file("--out", options.out)

    from sqlalchemy.exc import SQLAlchemyError

    from study.storage import opening

    source = opening.open_to_read(options.storage)
    part = part_of(options.out)
    try:
        part.touch(exist_ok=False)  # SQLite itself would create it without group permissions
        rows = copy(source.engine, part)
        check(part, rows)
        part.replace(options.out)
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise UserError(f"cannot copy to {options.out}: {reason}") from None
    finally:
        for suffix in ("", "-wal", "-shm"):  # SQLite's auxiliary files
            part.with_name(part.name + suffix).unlink(missing_ok=True)
    pictures = copy_pictures(options.storage, options.out)
    print(
        f"{options.out}: studies: {rows['studies']}, trials: {rows['trials']}, checked{pictures}"
    )


def copy(source: Any, target: Path) -> dict[str, int]:
    """Copy Optuna's tables to a new SQLite file. Return the number of rows of each."""
    import sqlalchemy as sa

    from study.storage.database import Database
    from study.storage.tables import METADATA

    if source.name == "postgresql":
        source = source.execution_options(isolation_level="REPEATABLE READ")
    rows = {}
    # One read transaction: concurrent writes are neither seen nor blocked.
    with (
        closing(Database(str(sa.URL.create("sqlite", database=str(target))))) as storage,
        source.connect() as reading,
        storage.transaction() as writing,
    ):
        for table in METADATA.sorted_tables:
            writing.execute(table.delete())
            found = reading.execution_options(stream_results=True).execute(sa.select(table))
            rows[table.name] = 0
            for part in found.mappings().partitions(1000):
                writing.execute(table.insert(), [dict(row) for row in part])
                rows[table.name] += len(part)
    return rows


def copy_pictures(url: str, target: Path) -> str:
    """Copy the dashboard's artifacts. Return a summary, empty without artifacts."""
    import sqlalchemy as sa

    from study.storage.artifacts import copy_artifacts
    from study.storage.opening import artifacts_beside

    copied = artifacts_beside(str(sa.URL.create("sqlite", database=str(target))))
    try:
        count = copy_artifacts(artifacts_beside(url), copied)
    except OSError as error:
        return f"; its artifacts could not be copied to {copied}: {error.strerror or error}"
    return f"; artifacts: {count}, in {copied}" if count else ""


def check(path: Path, rows: dict[str, int]) -> None:
    """Raise OSError unless the file is intact, has the `rows` of each table and can be read."""
    import sqlalchemy as sa

    from study.storage.database import Database

    database = Database(str(sa.URL.create("sqlite", database=str(path))), writing=False)
    with database.engine.connect() as connection:
        verdict = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        if verdict != "ok":
            raise OSError(f"the copy is damaged: {verdict}")
        for name, count in rows.items():
            found = connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name)))
            if found != count:
                raise OSError(f"the copy has {found} rows of {name} instead of {count}")
    for study in database.get_all_studies():
        database.get_all_trials(database.get_study_id_from_name(study.study_name), deepcopy=False)


if __name__ == "__main__":
    command.run(main, lasting=True)
