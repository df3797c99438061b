"""Other programs delete, rename, replace or restore the database of a running study."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from fer.errors import UserError
from study.storage.opening import open_database
from study.storage.studies import begin_or_check, load_study
from study.storage.watched_file import FileGone, StudyGone, move_log_into_file
from study.workers.messages import Job, Message, OfTrial, Trained
from tests.conftest import Command
from tests.scripted import Change, Run, stored

URL = "sqlite:///studies.db"


def then(act: Callable[[], None], report: int = 20) -> Change:
    """Do something to the database before that report of a study."""
    reports = [0]

    def listen(job: Job, news: OfTrial) -> Message | None:
        if isinstance(news, Trained):
            reports[0] += 1
            if reports[0] == report:
                act()
        return None

    return listen


def sound(path: str) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def begun_before(run: Run) -> bytes:
    """A study of two trials in a file, and the file's content."""
    run(trials=2)
    return Path("studies.db").read_bytes()


def put_in_its_place() -> None:
    shutil.copy("backup.db", "other.db")
    Path("other.db").replace("studies.db")


def write_over() -> None:
    shutil.copyfile("backup.db", "studies.db")


def move_away() -> None:
    Path("studies.db").rename("moved.db")


def remove() -> None:
    Path("studies.db").unlink()


@pytest.mark.parametrize("act", [put_in_its_place, write_over, move_away, remove])
@pytest.mark.parametrize("report", [1, 22])
def test_a_file_that_is_taken_away_is_not_touched_and_the_study_is_saved_beside(
    act: Callable[[], None], report: int, run: Run
) -> None:
    begun_before(run)
    shutil.copy("studies.db", "backup.db")
    with pytest.raises(FileGone, match=r"^studies.db was .* --storage sqlite:///studies-saved-"):
        run(trials=12, change=then(act, report))
    if act in (put_in_its_place, write_over):
        assert Path("studies.db").read_bytes() == Path("backup.db").read_bytes()
    else:
        assert not Path("studies.db").exists()
    if act is move_away:
        assert sound("moved.db")
    assert not Path("studies.db-wal").exists() or not Path("studies.db-wal").stat().st_size
    (saved,) = Path().glob("studies-saved-*.db")
    assert sound(str(saved))
    Path("studies.db").unlink(missing_ok=True)
    saved.rename("studies.db")
    known = [trial for trial in stored() if trial.state.is_finished()]
    run(trials=12)
    trials = stored()
    assert [trials[trial.number] for trial in known] == known
    assert sum(trial.state != TrialState.FAIL for trial in trials) == len(trials) == 12


def delete() -> None:
    optuna.delete_study(study_name="small", storage=RDBStorage(URL))


def delete_and_begin_another() -> None:
    delete()
    optuna.create_study(study_name="small", storage=URL, direction="maximize")


def begin_another_of_its_id() -> None:
    delete()
    other = optuna.create_study(study_name="other", storage=URL)
    for _ in range(30):
        other.tell(other.ask(), 0.1)


def rename() -> None:
    with closing(sqlite3.connect("studies.db")) as connection, connection:
        connection.execute("UPDATE studies SET study_name = 'renamed'")


def drop_the_tables() -> None:
    with closing(sqlite3.connect("studies.db")) as connection, connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall():
            connection.execute(f"DROP TABLE {name}")


def restore() -> None:
    with (
        closing(sqlite3.connect("backup.db")) as source,
        closing(sqlite3.connect("studies.db")) as target,
    ):
        source.backup(target)


def content() -> list[str]:
    with closing(sqlite3.connect("studies.db")) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (delete, "deleted"),
        (delete_and_begin_another, "deleted"),
        (begin_another_of_its_id, "deleted"),
        (rename, "renamed to 'renamed'"),
        (drop_the_tables, "deleted"),
        (restore, "restored to an earlier state"),
    ],
)
@pytest.mark.parametrize("report", [1, 21])
def test_a_study_that_is_taken_away_is_noticed_before_the_next_write(
    act: Callable[[], None], words: str, report: int, run: Run
) -> None:
    begun_before(run)
    shutil.copy("studies.db", "backup.db")
    after: list[str] = []

    def act_and_look() -> None:
        act()
        after.extend(content())

    with pytest.raises(StudyGone, match=f"study 'small' was {words}"):
        run(trials=12, change=then(act_and_look, report))
    assert content() == after
    assert not list(Path().glob("studies-saved-*"))


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED])
def test_a_running_trial_told_from_outside_is_left_alone_and_the_study_continues(
    state: TrialState, run: Run
) -> None:
    told: list[int] = []

    def tell() -> None:
        study = optuna.load_study(study_name="small", storage=URL)
        (number, *_) = [each.number for each in study.trials if each.state == TrialState.RUNNING]
        study.tell(number, 0.25 if state == TrialState.COMPLETE else None, state)
        told.append(number)

    trials = run(trials=8, pruner="none", change=then(tell, 10))
    (number,) = told
    assert trials[number].state == state
    if state == TrialState.COMPLETE:
        assert trials[number].value == 0.25
    done = [each.state in (TrialState.COMPLETE, TrialState.PRUNED) for each in trials]
    assert sum(done) == 8
    assert not [each for each in trials if each.state == TrialState.RUNNING]


def test_a_running_trial_that_is_set_back_to_waiting_is_trained_once_more(run: Run) -> None:
    def set_back() -> None:
        with closing(sqlite3.connect("studies.db")) as connection, connection:
            connection.execute("UPDATE trials SET state = 'WAITING' WHERE state = 'RUNNING'")

    trials = run(trials=8, pruner="none", change=then(set_back, 10))
    assert [each.state for each in trials] == [TrialState.COMPLETE] * 8
    assert all(len(each.intermediate_values) == 4 for each in trials)


def test_a_copy_without_its_log_says_what_was_left_behind(run: Run, tmp_path: Path) -> None:
    def copy() -> None:
        shutil.copy("studies.db", "copied.db")

    run(trials=8, change=then(copy, 12))
    lost = "if it is a copy, copied.db-wal with the latest trials was left behind"
    with pytest.raises(UserError, match=f"no study 'other' in .*; {lost}"):
        load_study("sqlite:///copied.db", "other")
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE a (b)")
    with pytest.raises(UserError, match=r"no study in .*empty.db; if it is a copy, empty.db-wal"):
        load_study(f"sqlite:///{tmp_path}/empty.db", None)
    with pytest.raises(UserError, match=r"studies.db, it has small$"):
        load_study(URL, "other")


def test_another_default_database_is_named_by_the_environment(
    command: Command, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    run("elsewhere", trials=2)
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///elsewhere/studies.db")
    assert command("study.report").code == 0
    monkeypatch.setenv("OPTUNA_STORAGE", "nothing")
    refused = command("study.report")
    assert refused.code == 2
    assert refused.err.startswith("error: OPTUNA_STORAGE must be an SQLAlchemy URL")
    assert not Path("studies.db").exists()


def test_what_a_link_points_to_is_not_touched_either(run: Run) -> None:
    Path("real").mkdir()
    Path("studies.db").symlink_to("real/studies.db")
    begun_before(run)
    shutil.copy("studies.db", "backup.db")
    with pytest.raises(FileGone, match="overwritten"):
        run(trials=12, change=then(write_over, 12))
    assert Path("real/studies.db").read_bytes() == Path("backup.db").read_bytes()


def test_runs_that_start_together_are_no_reason_for_an_alarm() -> None:
    with closing(open_database(URL)) as one, closing(open_database(URL)) as other:
        other.owner["process"] = 1
        for database in (one, other):
            study_id, _ = begin_or_check(database, "small", {}, [])
            database.work_on(study_id, lambda trial: None)
        for _ in range(5):
            other.create_new_trial(study_id)
        move_log_into_file(other.engine)
        one.create_new_trial(study_id)
        one.engine.dispose()  # as after a database that was away
        other.create_new_trial(study_id)
        move_log_into_file(other.engine)
        one.create_new_trial(study_id)
    assert sound("studies.db")
    assert len(optuna.load_study(study_name="small", storage=URL).trials) == 8
