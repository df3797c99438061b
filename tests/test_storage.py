"""Optuna's own tests of storages, on ours."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from study.storage.database import Database


class TestDatabase(StorageTestCase):
    @pytest.fixture
    def storage(self, url: str) -> Iterator[Database]:
        with closing(Database(url)) as database:
            yield database
