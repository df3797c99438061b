"""The database stores what Optuna's storage does, faster and in fewer transactions."""

import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from bench.harness import SPEC, grow, open_study, run_trial
from fer.errors import UserError
from study.engine.asking import ask
from study.engine.chances import second_chance
from study.engine.trial import put_back
from study.storage import database as module
from study.storage import known_trials, records, retry, sql
from study.storage import owner as ownership
from study.storage import studies as store
from study.storage.opening import open_database, open_to_read
from study.storage.owned import OwnedDatabase
from study.storage.owner import TakenOver, TotalReached, TrialWaiting
from tests.conftest import trials

END_ALL_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


def begin(database: OwnedDatabase, name: str = "a") -> optuna.Study:
    return open_study(database, name, seed=1)


def test_optuna_reads_back_all_that_a_study_knew(url: str) -> None:
    with closing(open_database(url)) as database:
        study = begin(database)
        study.enqueue_trial({"batch_size": 64, "sgd_lr": 0.5, "optimizer": "sgd"})
        for number in range(7):
            run_trial(study, np.random.default_rng(number))
        known = study.get_trials()
    back = trials(url, "a")
    assert len(back) == 7
    assert back[0].params["sgd_lr"] == 0.5
    for mine, theirs in zip(known, back, strict=True):
        parts = ("state", "params", "distributions", "intermediate_values")
        for part in (*parts, "user_attrs", "system_attrs"):
            assert getattr(mine, part) == getattr(theirs, part), part
        assert mine.state == TrialState.PRUNED or mine.value == theirs.value
        assert theirs.datetime_start is not None
        assert theirs.datetime_complete is not None


def test_a_report_is_in_the_database_before_the_next_epoch(url: str) -> None:
    with closing(open_database(url)) as database:
        run = ask(begin(database), SPEC)
        run.handle.report(0.25, 1)
        (trial,) = trials(url, "a")
        assert trial.state == TrialState.RUNNING
        assert trial.intermediate_values == {1: 0.25}
        assert trial.params == run.handle.params
        assert records.kept(trial, records.CONFIG) == run.settings
        assert records.kept(trial, records.OWNER) == database.owner


def test_a_trial_of_thirty_reports_takes_few_transactions() -> None:
    with closing(open_database("sqlite:///studies.db")) as database:
        study = begin(database)
        commits: list[Any] = []
        sa.event.listen(database.engine, "commit", commits.append)
        run_trial(study, np.random.default_rng(0))
    assert 30 <= len(commits) <= 45


def test_trials_of_other_processes_are_seen(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_trials, "REFRESH", 0.0)
    with (
        closing(open_database(url)) as ours,
        closing(open_database(url)) as theirs,
    ):
        mine, other = begin(ours), begin(theirs)
        run_trial(mine, np.random.default_rng(0))
        trial = other.ask()
        assert trial.number == 1
        assert [each.state for each in mine.get_trials()] == [
            TrialState.COMPLETE,
            TrialState.RUNNING,
        ]
        trial.report(0.1, 1)
        assert mine.get_trials()[1].intermediate_values == {1: 0.1}
        other.tell(trial, 0.4)
        assert mine.get_trials()[1].value == 0.4
        # The pruner of each learns of the other's complete trials, and of each once.
        study_id = mine._study_id
        other.get_trials()
        for database in (ours, theirs):
            assert sorted(t.number for t in database.complete(study_id)) == [0, 1]


def test_a_slow_trial_of_another_process_hides_nothing_and_counts_nothing_twice(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(open_database(url)) as ours,
        closing(open_database(url)) as theirs,
    ):
        mine, other = begin(ours), begin(theirs)
        first = mine.ask()
        slow = other.ask()
        assert ask(mine, SPEC).number == 2
        for number in range(3):
            run_trial(mine, np.random.default_rng(number))
        other.get_trials()
        first.report(0.2, 1)
        first.report(0.3, 2)
        monkeypatch.setattr(known_trials, "REFRESH", 0.0)
        for _ in range(3):
            assert mine.get_trials()[0].intermediate_values == {1: 0.2, 2: 0.3}
        other.tell(slow, 0.4)
        trials = mine.get_trials()
        assert [trial.number for trial in trials] == list(range(6))
        assert trials[1].value == 0.4
        counted = sorted(trial.number for trial in ours.complete(mine._study_id))
        assert counted == [trial.number for trial in trials if trial.state == TrialState.COMPLETE]


def test_a_finished_trial_is_not_written_again(url: str) -> None:
    with closing(open_database(url)) as database:
        study = begin(database)
        trial = study.ask()
        study.tell(trial, 0.5)
        assert not database.requeue(study._study_id, trial.number, database.owner)
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            database.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def test_an_abandoned_trial_is_the_next_one_asked_for(url: str) -> None:
    with closing(open_database(url)) as gone:
        abandoned = ask(begin(gone), SPEC)
        abandoned.handle.report(0.3, 1)
        with closing(open_database(url)) as database:
            study = begin(database)
            assert study.get_trials()[0].state == TrialState.RUNNING
            assert database.requeue(study._study_id, 0, gone.owner)
            run = ask(study, SPEC)
            assert run.number == 0
            assert run.settings == abandoned.settings
            assert run.known == {1}


def test_a_closed_sqlite_database_is_one_plain_file() -> None:
    with closing(open_database("sqlite:///studies.db")) as database:
        run_trial(begin(database), np.random.default_rng(0))
        assert Path("studies.db-wal").exists()
    assert [path.name for path in Path().iterdir()] == ["studies.db"]


def test_the_benchmark_grows_a_study_to_a_size_optuna_can_read(url: str) -> None:
    with closing(open_database(url)) as database:
        study = begin(database)
        for number in range(3):
            run_trial(study, np.random.default_rng(number))
        grow(database.engine, 12)
    with closing(open_database(url)) as database:
        run_trial(begin(database), np.random.default_rng(9))
    stored = trials(url, "a")
    assert [trial.number for trial in stored] == list(range(13))
    assert stored[4].params == stored[1].params
    assert stored[4].intermediate_values == stored[1].intermediate_values


def test_a_database_with_another_schema_is_refused_by_name(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_database(url)) as database, database.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v9'"))
    with pytest.raises(UserError, match=r"cannot use storage .*: The runtime optuna version"):
        open_database(url)
    with closing(sa.create_engine(url).connect()) as connection, connection.begin():
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v3.2.0.a'"))
    connection.engine.dispose()
    # As when a later Optuna has made the tables, and knows them.
    monkeypatch.setattr(module, "SCHEMA", "v3")
    with pytest.raises(UserError, match=r"its tables have Optuna's schema v3\.2\.0\.a, this"):
        open_to_read(url)


@pytest.mark.parametrize("held", ["BEGIN EXCLUSIVE", "BEGIN; SELECT * FROM studies"])
def test_opening_waits_for_a_process_that_holds_the_file_and_says_why(
    held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "LOCK_SECONDS", 0.01)
    monkeypatch.setattr(retry, "PAUSE", 0.0)
    if "SELECT" in held:  # the tables are there; to set the journal mode needs the file alone
        open_database("sqlite:///studies.db").close()
    told: list[str] = []
    with closing(sqlite3.connect("studies.db", isolation_level=None)) as holder:
        for statement in held.split("; "):
            holder.execute(statement).fetchall()

        def on_wait(reason: str, seconds: float) -> None:
            told.append(reason)
            if len(told) == 3:
                holder.execute("ROLLBACK")

        with closing(open_database("sqlite:///studies.db", on_wait=on_wait)) as database:
            begin(database)
    assert told == ["database is locked"] * 3


def test_a_file_that_stays_locked_is_given_up_after_a_while_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sql, "LOCK_SECONDS", 0.01)
    monkeypatch.setattr(retry, "PATIENCE", 0.0)
    with closing(sqlite3.connect("studies.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="unreachable for 0 s: database is locked"):
            open_database("sqlite:///studies.db")


def test_threads_of_plain_optuna_share_one_database(url: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        score = trial.suggest_float("x", 0, 1)
        for step in range(5):
            trial.report(score + step, step)
        return score

    with closing(module.Database(url)) as database:
        sampler = optuna.samplers.RandomSampler(seed=1)
        study = optuna.create_study(storage=database, study_name="a", sampler=sampler)
        study.optimize(objective, n_trials=20, n_jobs=4)
    stored = trials(url, "a")
    assert [trial.number for trial in stored] == list(range(20))
    for trial in stored:
        assert trial.value == trial.params["x"]
        assert trial.intermediate_values == {step: trial.params["x"] + step for step in range(5)}


def test_a_stopped_trial_gets_one_second_chance_whatever_process_gives_it(url: str) -> None:
    with closing(open_database(url, total=3)) as one:
        study = begin(one)
        stopped = ask(study, SPEC)
        stopped.handle.report(0.3, 1)
        study.tell(stopped.handle, state=TrialState.PRUNED)
        (told,) = study.get_trials()
        with closing(open_database(url, total=3)) as other:
            chance = second_chance(told, resumed=True)
            assert one.queue_second_chance(study._study_id, chance)
            assert not other.queue_second_chance(study._study_id, chance)
        again = ask(study, SPEC)
        assert (again.number, again.continues) == (1, 0)
        assert again.settings == stopped.settings
        study.tell(again.handle, state=TrialState.FAIL)
        assert one.queue_second_chance(study._study_id, chance)  # a failed one does not count
        study.tell(ask(study, SPEC).handle, 0.4)
        run_trial(study, np.random.default_rng(0))
        with pytest.raises(TotalReached):
            one.queue_second_chance(study._study_id, second_chance(told, resumed=False))


def test_a_trial_that_another_process_just_put_back_is_started_before_a_new_one(url: str) -> None:
    with (
        closing(open_database(url, total=2)) as ours,
        closing(open_database(url, total=2)) as theirs,
    ):
        theirs.owner["process"] = 1  # else both are this process
        mine, other = begin(ours), begin(theirs)
        stopped = ask(mine, SPEC)
        stopped.handle.report(0.3, 1)
        mine.tell(stopped.handle, state=TrialState.PRUNED)
        held = ask(mine, SPEC)
        told, _ = other.get_trials()  # held is running
        put_back(ours, held)
        chance = second_chance(told, resumed=False)
        assert not theirs.queue_second_chance(other._study_id, chance)
        put_back(ours, ask(mine, SPEC))
        with pytest.raises(TrialWaiting):
            theirs.create_new_trial(other._study_id)
        assert ask(other, SPEC).number == held.number  # visible at once


@pytest.mark.long
def test_processes_that_begin_together_open_one_database(url: str) -> None:
    code = "import sys; from study.storage.opening import open_database; "
    code += "print(flush=True); sys.stdin.readline(); open_database(sys.argv[1]).close()"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(600) for process in processes] == [0] * 4
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()


def test_a_trial_that_another_process_took_over_is_not_finished_here(url: str) -> None:
    with (
        closing(open_database(url)) as silent,
        closing(open_database(url)) as other,
    ):
        lost = ask(begin(silent), SPEC)
        other.owner["process"] = 1  # else both are this process
        study = begin(other)
        assert other.requeue(study._study_id, lost.number, silent.owner)
        with pytest.raises(TakenOver):
            silent.set_trial_state_values(lost.handle._trial_id, TrialState.COMPLETE, [0.9])
        taken = ask(study, SPEC)
        assert taken.number == lost.number
        with pytest.raises(TakenOver):
            silent.set_trial_state_values(lost.handle._trial_id, TrialState.COMPLETE, [0.9])
        study.tell(taken.handle, 0.4)
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            silent.set_trial_state_values(lost.handle._trial_id, TrialState.COMPLETE, [0.9])
        # Two that find it abandoned do not both put it back.
        assert not silent.requeue(study._study_id, lost.number, silent.owner)
    (trial,) = trials(url, "a")
    assert trial.value == 0.4


def test_a_commit_that_did_not_say_so_is_not_done_twice(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "PAUSE", 0.0)
    transaction, broken = OwnedDatabase.transaction, [False]

    @contextmanager
    def breaking(database: OwnedDatabase, durable: bool = False) -> Iterator[sa.Connection]:
        with transaction(database, durable) as connection:
            yield connection
        broken[0] = not broken[0]
        if broken[0]:  # every second one; its commit has succeeded
            raise sa.exc.OperationalError("COMMIT", None, Exception("the connection broke"))

    with closing(open_database(url)) as database:
        study = begin(database)
        study.enqueue_trial({"optimizer": "sgd", "batch_size": 64})
        with monkeypatch.context() as patch:
            patch.setattr(OwnedDatabase, "transaction", breaking)
            for _ in range(3):
                run = ask(study, SPEC)
                run.handle.report(0.1, 1)
                run.handle.set_user_attr("note", "mine")
                study.tell(run.handle, 0.5)
        assert len(study.get_trials()) == 3
    stored = trials(url, "a")
    assert [trial.value for trial in stored] == [0.5] * 3
    assert stored[0].params["optimizer"] == "sgd"
    for trial in stored:
        assert trial.intermediate_values == {1: 0.1}
        assert trial.user_attrs["note"] == "mine"


def test_what_another_program_did_to_a_trial_is_not_written_over(url: str) -> None:
    with closing(open_database(url)) as database, closing(module.Database(url)) as plain:
        study = begin(database)
        run = ask(study, SPEC)
        theirs = optuna.load_study(study_name="a", storage=plain)
        theirs.tell(0, 0.9)
        for write in (
            lambda: run.handle.report(0.1, 1),
            lambda: run.handle.set_user_attr("note", "mine"),
            lambda: run.handle.suggest_float("another", 0, 1),
            lambda: study.tell(run.handle, 0.1),
            lambda: study.tell(run.handle, 0.9),
        ):
            with pytest.raises((optuna.exceptions.UpdateFinishedTrialError, ValueError)):
                write()
        assert study.get_trials()[0].value == 0.9
    (trial,) = trials(url, "a")
    assert trial.intermediate_values == {}
    assert "note" not in trial.user_attrs


def test_a_trial_of_plain_optuna_is_left_to_it(url: str) -> None:
    with closing(open_database(url)) as database, closing(module.Database(url)) as plain:
        study = begin(database)
        theirs = optuna.load_study(study_name="a", storage=plain)
        trial = theirs.ask()
        assert store.requeue_abandoned(study, database) == 0
        theirs.tell(trial, 0.3)
        # One that we put back is no longer ours, whoever takes it.
        run = ask(study, SPEC)
        assert database.requeue(study._study_id, run.number, database.owner)
        taken = theirs.ask()
        assert taken.number == run.number
        assert store.requeue_abandoned(study, database) == 0
        theirs.tell(taken, 0.4)


def test_a_silent_process_of_another_machine_loses_its_trials_after_the_grace(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_database(url)) as far, closing(open_database(url)) as near:
        far.owner["host"] = "elsewhere"
        ask(begin(far), SPEC)
        study = begin(near)
        assert store.requeue_abandoned(study, near) == 0
        monkeypatch.setattr(ownership, "GRACE", timedelta(seconds=-1))
        assert store.requeue_abandoned(study, near) == 1
        assert study.get_trials()[0].state == TrialState.WAITING
        assert store.requeue_abandoned(study, near) == 0


def test_a_trial_that_cannot_be_put_back_is_seen_as_its_new_owner_left_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_trials, "REFRESH", 0.0)
    with (
        closing(open_database(url)) as silent,
        closing(open_database(url)) as other,
    ):
        other.owner["process"] = 1
        mine, study = begin(silent), begin(other)
        lost = ask(mine, SPEC)
        assert other.requeue(study._study_id, lost.number, silent.owner)
        study.tell(ask(study, SPEC).handle, 0.4)
        assert not silent.requeue(study._study_id, lost.number, silent.owner)
        assert silent.own == set()
        assert [trial.value for trial in mine.get_trials()] == [0.4]


def test_what_a_server_lost_in_a_crash_is_written_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "PAUSE", 0.0)
    told: list[str] = []
    with closing(open_database(url, on_wait=lambda why, _: told.append(why))) as database:
        run = ask(begin(database), SPEC)
        run.handle.report(0.1, 1)
        other = sa.create_engine(url)
        with other.begin() as connection:  # as if it had said so and then crashed
            for table in ("trial_intermediate_values", "trial_params"):
                connection.execute(sa.text(f"DELETE FROM {table}"))
            if other.name == "postgresql":
                connection.execute(sa.text(END_ALL_OTHERS))
        other.dispose()
        if other.name == "sqlite":  # where no server can crash
            database.waiting("it crashed", 0.0)
        run.handle.report(0.2, 2)
    assert told
    (trial,) = trials(url, "a")
    assert trial.intermediate_values == {1: 0.1, 2: 0.2}
    assert trial.params == run.handle.params


def test_who_only_reads_changes_nothing(url: str) -> None:
    with closing(open_database(url)) as database:
        run_trial(begin(database), np.random.default_rng(0))
        if url.startswith("sqlite"):
            reader = pickle.loads(pickle.dumps(open_to_read(url)))
            assert len(reader.get_all_trials(1)) == 1
            reader.close()
            with closing(sqlite3.connect("studies.db")) as connection:
                assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with closing(sqlite3.connect("strangers.db")) as connection, connection:
        connection.execute("CREATE TABLE studies (name TEXT)")
    before = Path("strangers.db").read_bytes()
    with pytest.raises(UserError, match="no study in"):
        open_to_read("sqlite:///strangers.db")
    assert Path("strangers.db").read_bytes() == before


def test_a_process_is_gone_when_it_ended_or_its_number_is_another_ones_now() -> None:
    here = ownership.Owner.this()
    assert not here.is_gone()
    assert replace(here, started=here.started + 1).is_gone()
    # A copied machine has the host name, a container beside this one its boot as well.
    for part in ("host", "boot", "namespace"):
        changes: dict[str, Any] = {part: "another"}
        assert not replace(here, started=0.0, **changes).is_gone()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while ended.poll() is None:
        pass
    assert replace(here, process=ended.pid).is_gone()
