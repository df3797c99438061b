"""study.export --table has a row for every trial, of any state and from any program."""

import json
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState

from study.analysis.trial_table import trial_rows
from study.options import DEFAULT_URL
from study.storage.records import result_of
from tests import foreign
from tests.conftest import Command
from tests.scripted import Run

TOLD = ["number", "ending", "score", "best_epoch", "best_epoch_score", "epochs", "seconds"]
COLUMNS = [*TOLD, "origin", "loss", "rule", "lr"]


def small() -> optuna.Study:
    return optuna.load_study(study_name="small", storage=DEFAULT_URL)


def test_a_row_has_how_a_trial_ended_its_scores_and_the_settings_that_vary(
    run: Run, command: Command
) -> None:
    trials = run(trials=12, pruner="screen")
    small().enqueue_trial({"rule": "sign"})
    done = command("study.export", "--table", "trials.csv")
    assert (done.code, done.out) == (0, "trials.csv: 13 trials of study small\n")
    assert not Path("best.yaml").exists()
    table = pd.read_csv("trials.csv", keep_default_na=False, dtype=str)
    assert list(table) == COLUMNS
    for row, trial in zip(table.to_dict("records"), trials, strict=False):
        result = result_of(trial)
        assert result is not None
        assert (int(row["number"]), float(row["score"])) == (trial.number, result.score)
        assert int(row["epochs"]) == len(trial.intermediate_values)
        assert row["rule"] == trial.params["rule"]
        assert float(row["lr"]) == trial.params[f"{row['rule']}_lr"]
    assert list(table.origin[:3]) == ["control", "fast", "search"]
    assert set(table.ending) == {"complete", "pruned", "waiting"}
    told = ["waiting", "", "", "", "0", "", "search"]
    assert list(table.iloc[12])[1:] == [*told, "", "sign", ""]


def test_a_table_may_stand_beside_the_best_settings(run: Run, command: Command) -> None:
    run(trials=3)
    line = ("study.export", "--table", "trials.json", "--out", "other.yaml", "--trial", 1)
    assert command(*line).code == 0
    assert {"trials.json", "other.yaml"} <= {file.name for file in Path().iterdir()}
    rows = json.loads(Path("trials.json").read_text())
    assert [list(row) for row in rows] == [COLUMNS] * 3
    assert rows == trial_rows(small())


def test_exporting_a_trial_that_stopped_early_prints_a_note(run: Run, command: Command) -> None:
    trials = run(trials=12, pruner="screen")
    pruned = next(trial for trial in trials if trial.state == TrialState.PRUNED)
    done = command("study.export", "--study", "small", "--trial", pruned.number)
    assert done.code == 0
    epochs = f"{len(pruned.intermediate_values)} of {max(map(number_of_epochs, trials))} epochs"
    early = f"note: trial {pruned.number} stopped early (pruned after {epochs}): "
    assert early in done.out
    assert "stopped early" not in command("study.export", "--study", "small").out


def number_of_epochs(trial: FrozenTrial) -> int:
    return len(trial.intermediate_values)


def test_the_accuracy_on_a_holdout_has_a_column_where_there_is_one(command: Command) -> None:
    quick = ("--subset", 200, "--epochs", 1, "--workers", 1, "--trials", 1, "--holdout", 0.2)
    assert command("study.run", *quick).code == 0
    assert command("study.export", "--table", "t.json").code == 0
    rows = json.loads(Path("t.json").read_text())
    assert 0 <= rows[0]["holdout"] <= 1


def test_trials_of_every_kind_have_a_row(run: Run, command: Command) -> None:
    run(trials=2)
    foreign.put_in(small())
    for file in ("trials.csv", "trials.json"):
        done = command("study.export", "--study", "small", "--table", file)
        assert done.code == 0, done
    rows = json.loads(Path("trials.json").read_text())
    assert [row["number"] for row in rows] == [trial.number for trial in small().trials]
    assert len(pd.read_csv("trials.csv")) == len(rows)


def test_a_study_of_another_program_has_a_table_too(command: Command) -> None:
    study = optuna.create_study(storage=DEFAULT_URL, study_name="plain")
    for x in (0.5, 0.25):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), x)
    study.enqueue_trial({"x": 1.0, "score": 3})
    done = command("study.export", "--study", "plain", "--table", "t.json")
    assert done.code == 0, done
    rows = json.loads(Path("t.json").read_text())
    assert [row["score"] for row in rows] == [0.5, 0.25, None]
    assert rows[2]["setting_score"] == 3  # a name that is taken


@pytest.mark.parametrize("table", ["trials.xlsx", "trials", "no/trials.csv", "."])
def test_a_table_that_cannot_be_written_is_refused(table: str, run: Run, command: Command) -> None:
    run(trials=1)
    before = sorted(Path().iterdir())
    done = command("study.export", "--table", table, "--out", "best.yaml")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--table" in done.err
    assert sorted(Path().iterdir()) == before


def test_a_study_without_trials_has_no_table(command: Command) -> None:
    optuna.create_study(storage=DEFAULT_URL, study_name="empty")
    done = command("study.export", "--study", "empty", "--table", "t.csv")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert not Path("t.csv").exists()
