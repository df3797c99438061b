"""Optuna's storage tests, run on our storage."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from study.storage.database import Database
from study.storage.owned import OwnedDatabase
from study.storage.owner import Owner


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database of either kind."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path_factory.mktemp('storage')}/studies.db"
    server: str = request.getfixturevalue("server").url
    return server


@pytest.fixture(scope="module")
def plain(address: str) -> Iterator[Database]:
    """A database, opened once: making its tables takes longer than a test."""
    with closing(Database(address)) as database:
        yield database


@pytest.fixture(scope="module")
def owned(address: str) -> Iterator[OwnedDatabase]:
    """A database as a running study has it, opened once."""
    another = address.replace("studies.db", "owned.db")  # SQLite gives ids again
    with closing(OwnedDatabase(another, asdict(Owner.this()))) as database:
        yield database


def emptied(database: Database) -> None:
    for study in database.get_all_studies():
        database.delete_study(database.get_study_id_from_name(study.study_name))


class TestDatabase(StorageTestCase):
    @pytest.fixture
    def storage(self, plain: Database) -> Iterator[Database]:
        yield plain
        emptied(plain)


class TestOwnedDatabase(StorageTestCase):
    @pytest.fixture
    def storage(self, owned: OwnedDatabase) -> Iterator[OwnedDatabase]:
        yield owned
        emptied(owned)

    # What the rules of a running study forbid: a trial has its owner among its system attributes,
    # and another owner's trial is not finished here.
    test_create_new_trial = None  # type: ignore[assignment]
    test_set_trial_system_attr = None  # type: ignore[assignment]
    test_get_all_trials_not_modified = None  # type: ignore[assignment]
