"""Optuna's own tests of storages, on ours."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from study.storage.database import Database


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database of either kind; making its tables takes longer than a test."""
    if request.param == "SQLite":
        url = f"sqlite:///{tmp_path_factory.mktemp('storage')}/studies.db"
    else:
        url = request.getfixturevalue("server").url
    with closing(Database(url)) as database:
        yield database


class TestDatabase(StorageTestCase):
    @pytest.fixture
    def storage(self, opened: Database) -> Iterator[Database]:
        """An empty one."""
        yield opened
        for study in opened.get_all_studies():
            opened.delete_study(opened.get_study_id_from_name(study.study_name))
