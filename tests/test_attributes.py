"""Users see a few flat attributes of a study; internal ones are stored separately."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import optuna
from optuna.trial import TrialState

from bench.harness import SPEC, open_study
from study.engine.asking import ask
from study.pipeline import Epoch
from study.spec.identity import IDENTITY
from study.storage import opening, records, studies
from study.storage.leases import SESSIONS
from study.storage.records import Result
from study.storage.studies import METRIC_NAMES
from study.workers.messages import Job, Message, OfTrial, Trained
from tests.conftest import Command, trials
from tests.scripted import Run

URL = "sqlite:///studies.db"
FEW = {"origin", "best_epoch", "epochs", "seconds"}  # and what a pipeline tells beside the score


def as_before() -> None:
    """Put all attributes among the user's, as programs before did."""
    own = "('config', 'result', 'failure', 'deaths', 'owner', 'continues', 'continues_from')"
    with closing(sqlite3.connect("studies.db")) as connection, connection:
        for statement in (
            "DELETE FROM trial_user_attributes WHERE key != 'origin'",
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT trial_id, key, "
            f"value_json FROM trial_system_attributes WHERE key IN {own}",
            f"DELETE FROM trial_system_attributes WHERE key IN {own}",
            "INSERT INTO study_user_attributes (study_id, key, value_json) SELECT study_id, key, "
            "value_json FROM study_system_attributes WHERE key IN ('identity', 'sessions')",
            "DELETE FROM study_system_attributes",
        ):
            connection.execute(statement)


def small() -> optuna.Study:
    return optuna.load_study(study_name="small", storage=URL)


def test_a_person_sees_numbers_and_words_alone(run: Run) -> None:
    done = run(trials=20, pruner="screen")
    for trial in done:
        assert trial.user_attrs.keys() <= FEW
        assert all(isinstance(each, float | int | str) for each in trial.user_attrs.values())
    best = next(each for each in done if each.state == TrialState.COMPLETE)
    result = records.result_of(best)
    assert result is not None
    assert best.user_attrs["best_epoch"] == result.epoch
    assert best.user_attrs["epochs"] == 4
    assert {each.user_attrs["epochs"] for each in done if each.state == TrialState.PRUNED} == {2}
    assert done[0].user_attrs["origin"] == "control"
    assert small().metric_names == ["share right"]
    assert small().user_attrs == {}


def test_losses_and_what_is_of_training_are_no_columns() -> None:
    values = {"macro_f1": 0.123456789, "loss": 1.0, "train_accuracy": 0.9, "odd": float("nan")}
    shown = Result("complete", 0.5, None, 4, 1.239, 0.5, values).shown()
    assert shown == {"macro_f1": 0.123457, "epochs": 4, "seconds": 1.24}


def test_a_value_of_a_pipeline_with_a_name_of_the_program_is_not_taken_for_its_own(
    run: Run,
) -> None:
    def rename(job: Job, news: OfTrial) -> Message | None:
        if not isinstance(news, Trained):
            return None
        odd = {"continues": 3.0, "config": 1.0, "result": 0.5, "origin": 1.0}
        return replace(news, epochs=[replace(each, values=odd) for each in news.epochs])

    for trial in run(trials=3, change=rename):
        assert trial.user_attrs.keys() <= FEW
        assert records.settings_of(trial)
        assert records.kept(trial, records.CONTINUES) is None


def test_a_study_whose_attributes_are_all_the_users_is_read_and_continues(
    run: Run, command: Command
) -> None:
    before = run(trials=20, pruner="screen", seed=1)
    as_before()
    old = trials()
    assert all("result" in each.user_attrs for each in old)
    for part in (records.settings_of, records.result_of, records.ending):
        assert [part(each) for each in old] == [part(each) for each in before]
    for line in (("export", "--out", "best.yaml"), ("report",), ("results",), ("copy",)):
        assert command(f"study.{line[0]}", *line[1:]).code == 0, line
    replay = ("study.replay", "--trial", 0, "--pipeline", "tests.blobs:pipeline")
    assert "identical" in command(*replay).out
    after = run(trials=26, pruner="screen", seed=1)
    assert [trial.values for trial in after[:20]] == [trial.values for trial in before]
    assert all("result" not in each.user_attrs for each in after[20:])
    first = [records.kept(each, records.CONTINUES) for each in after]
    taken_up = [each for each in first if each is not None]
    assert len(set(taken_up)) == len(taken_up) > 0
    study = small()
    assert study.user_attrs == {}
    assert study.metric_names == ["share right"]
    system = study._storage.get_study_system_attrs(study._study_id)
    assert system.keys() >= {IDENTITY, SESSIONS, METRIC_NAMES}
    assert system[SESSIONS] == 2


def test_an_abandoned_trial_whose_attributes_are_all_the_users_is_taken_over() -> None:
    with closing(opening.open_database(URL)) as gone:
        gone.owner["process"] = 2**22 + 1  # beyond those that Linux gives
        ask(open_study(gone, "small", seed=0), SPEC).report([Epoch(1, 0.5, {}, 1.0)], 30, False)
    as_before()
    with closing(opening.open_database(URL)) as database:
        study = open_study(database, "small", seed=0)
        assert studies.requeue_abandoned(study, database) == 1
        asked = ask(study, SPEC)
        assert (asked.number, asked.known) == (0, frozenset({1}))
        asked.store({records.FAILURE: {}})  # it is its own now
    (trial,) = trials()
    assert trial.system_attrs[records.OWNER] == database.owner
    assert records.OWNER not in trial.user_attrs
