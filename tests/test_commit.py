"""The Git commit of the code that trained a study."""

import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest

from study.options import DEFAULT_URL
from study.storage.studies import COMMIT
from tests.conftest import process

SOURCE = "from tests.blobs import Blobs\nclass Mine(Blobs):\n    extra = 1\npipeline = Mine()\n"
RUN = ("--pipeline", "mine:pipeline", "--trials", 2, "--workers", 1, "--study", "small")


def git(*arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    line = ["git", *who, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def commit(url: str = DEFAULT_URL) -> Any:
    """What the study has as its commit, read with plain Optuna."""
    storage = optuna.storages.RDBStorage(url)
    study_id = storage.get_study_id_from_name("small")
    found = storage.get_study_system_attrs(study_id).get(COMMIT)
    storage.engine.dispose()
    return found


@pytest.fixture
def head() -> str:
    """The commit of a pipeline of one's own, in the working folder."""
    Path("mine.py").write_text(SOURCE)
    git("init", "-q")
    git("add", "mine.py")
    git("commit", "-qm", "first")
    return git("rev-parse", "HEAD")


def test_a_study_keeps_the_commit_of_its_code_and_a_page_checks_it_out(head: str) -> None:
    assert process("study.run", *RUN).code == 0
    assert commit() == head
    done = process("study.report", "--out", "page.html")
    assert done.code == 0, done
    assert f"git checkout {head}" in Path("page.html").read_text()


def test_changed_code_is_refused_with_the_commit_that_continues_the_study(head: str) -> None:
    assert process("study.run", *RUN).code == 0
    Path("mine.py").write_text(SOURCE.replace("extra = 1", "extra = 2"))
    done = process("study.run", *RUN)
    assert done.code == 2
    assert f"or check out commit {head}" in done.err
    assert done.err.count("\n") == 1


def test_changed_and_unknown_files_are_reported_and_have_no_commit(head: str) -> None:
    Path("mine.py").write_text(SOURCE.replace("extra = 1", "extra = 2"))
    assert process("study.run", *RUN).code == 0
    assert commit() == f"{head} with uncommitted changes"
    git("rm", "--cached", "-q", "mine.py")
    assert process("study.run", *RUN, "--storage", "sqlite:///other.db").code == 0
    assert commit("sqlite:///other.db") is None
