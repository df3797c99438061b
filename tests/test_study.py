"""Studies through the real command with real worker processes, on a few demo faces."""

import csv
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from bench.harness import has_report
from fer.network import kernels
from study.options import DEFAULT_URL
from study.spec.report import HAND_TUNED
from study.storage import records, studies
from tests.conftest import Command, Result, process, trials

Run = Callable[..., Result]
SMALL = ("--subset", "150", "--study", "small", "--workers", "1")
BLOBS = ("--study", "small", "--pipeline", "tests.blobs:pipeline")


@pytest.fixture
def run(command: Command) -> Run:
    """Run a small study in this process, with workers of its own."""

    def call(*arguments: object, code: int = 0) -> Result:
        result = command("study.run", *SMALL, *arguments)
        assert result.code == code, result
        return result

    return call


def finished(study: str = "small") -> list[FrozenTrial]:
    return [trial for trial in trials(study=study) if trial.state in records.FINISHED]


def test_trials_is_the_total_and_the_same_command_finishes_the_remainder(
    command: Command,
) -> None:
    def search(total: int) -> str:
        done = command("study.run", *BLOBS, "--workers", 1, "--trials", total)
        assert done.code == 0, done
        return done.out

    assert "plan   2 trials x 4 epochs of 300 points" in search(2)
    assert len(finished()) == 2
    search(4)
    assert len(finished()) == 4
    done = search(3)
    assert "4 trials finished" in done
    assert "nothing left to train; for more, raise --trials" in done
    assert len(finished()) == 4
    (study,) = studies.load_studies(DEFAULT_URL)
    assert study.user_attrs["command"].endswith("--trials 4")  # the last that trained


@pytest.mark.long
def test_the_reports_settings_come_first_and_the_final_ones_are_never_pruned(run: Run) -> None:
    result = run("--trials", 10, "--epochs", 3, "--workers", 2, "--pruner", "median")
    ordered = trials()
    assert ordered[0].user_attrs[records.ORIGIN] == HAND_TUNED
    assert ordered[0].state == TrialState.COMPLETE
    assert ordered[0].params["optimizer"] == "adam"
    assert ordered[0].params["adam_lr"] == 2e-4
    assert [records.ORIGIN in trial.user_attrs for trial in ordered] == [True] * 6 + [False] * 4
    for trial in finished():
        assert list(trial.intermediate_values) == list(
            range(1, records.kept(trial, records.RESULT)["epochs"] + 1)
        )
        scores = list(trial.intermediate_values.values())
        assert records.kept(trial, records.RESULT)["score"] == statistics.fmean(scores[-3:])
        assert records.kept(trial, records.RESULT)["best"] == max(scores)
    # The end says how far the search is ahead of the hand, or behind, and what to do next.
    assert f"{HAND_TUNED}: trial 0" in result.out
    assert re.search(r"points (ahead of|behind) the best hand-made settings .* \[.*\]", result.out)
    assert "beat" not in result.out
    assert "python -m study.confirm --study small" in result.out
    assert "python -m study.export --study small --out best.yaml" in result.out


def test_a_study_refuses_other_data_split_space_epochs_or_seed_and_names_them(run: Run) -> None:
    run("--trials", 1, "--epochs", 1)
    before = trials()
    for change, named in (
        (("--epochs", 2), "epochs was 1, now 2"),
        (("--epochs", 1, "--split", "stratified"), 'split was "grouped", now "stratified"'),
        (("--epochs", 1, "--space", "report"), 'space was "default", now "report"'),
        (("--epochs", 1, "--seed", 5), "seed was 0, now 5"),
        (("--epochs", 1, "--remove", "sad"), "data_sha256 was"),
        (("--epochs", 1, "--subset", 160), "subset was 150, now 160"),
    ):
        result = run("--trials", 2, *change, code=2)
        line = result.err.splitlines()[-1]
        assert named in line, line
        assert "'small'" in line
    assert trials() == before


@pytest.mark.long
def test_a_study_continues_with_other_kernels_and_each_trial_says_with_which(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels.load().library is None:
        pytest.skip(kernels.load().description)
    run("--trials", 1, "--epochs", 1)
    monkeypatch.setenv("CXX", "nosuchcompiler")
    result = process("study.run", *SMALL, "--trials", 2, "--epochs", 1)
    assert result.code == 0, result
    assert re.search("started on .* compiled .*; now on .*: rounding may differ", result.out)
    first, second = (records.kept(trial, records.TRAINED_ON) for trial in finished())
    assert not first
    ((epoch, hardware),) = second
    assert epoch == 1
    assert hardware["kernels"] == "PyTorch's"


def test_a_trial_has_one_curve_alone_beside_a_neighbour_and_trained_again(
    command: Command,
) -> None:
    common = ("--subset", 150, "--trials", 2, "--epochs", 2)
    for workers in (1, 2):
        result = command("study.run", *common, "--workers", workers, "--study", f"with {workers}")
        assert result.code == 0, result
    alone, beside = finished("with 1"), finished("with 2")
    assert len(alone) == 2
    for one, other in zip(alone, beside, strict=True):
        assert one.intermediate_values == other.intermediate_values
        assert records.kept(one, records.CONFIG)["threads"] == 1
    assert command("study.export", "--study", "with 2", "--trial", 1).code == 0
    line = ("--config", "best.yaml", "--subset", 150, "--epochs", 2, "--out", "run")
    trained = command("fer.train", *line)
    assert trained.code == 0, trained
    with Path("run/metrics.csv").open() as file:
        accuracies = {int(row["number"]): float(row["accuracy"]) for row in csv.DictReader(file)}
    assert accuracies == beside[1].intermediate_values


def test_the_default_name_tells_data_and_settings_apart(command: Command) -> None:
    for epochs in (1, 1, 2):
        line = ("--trials", 1, "--workers", 1, "--epochs", epochs)
        result = command("study.run", "--pipeline", "tests.blobs:pipeline", *line)
        assert result.code == 0, result
    names = optuna.get_all_study_names(DEFAULT_URL)
    assert len(names) == 2
    assert all(name.startswith("blobs-") for name in names)


@pytest.mark.parametrize(("sampler", "pruner"), [("random", "screen"), ("tpe", "none")])
def test_every_sampler_and_pruner_runs_a_space_of_conditions(
    sampler: str, pruner: str, command: Command
) -> None:
    options = ("--trials", 14, "--workers", 1, "--sampler", sampler, "--pruner", pruner)
    result = command("study.run", *BLOBS, *options)
    assert result.code == 0, result
    assert "Warning" not in result.err, result.err
    done = finished()
    assert len(done) == 14
    assert {trial.params["rule"] for trial in done} == {"plain", "sign"}
    assert all(f"{trial.params['rule']}_lr" in trial.params for trial in done)


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_sampler_runs_the_report_space(sampler: str, run: Run) -> None:
    run("--trials", 12, "--epochs", 1, "--space", "report", "--sampler", sampler)
    done = finished()
    assert len(done) == 12
    assert {"scaling", "dropout", "conv_activation"} <= done[-1].params.keys()


PACED = ("--study", "small", "--workers", 1, "--pipeline", "tests.paced:long")


def start(trials: int) -> "subprocess.Popen[str]":
    """A study in the background, once its first epoch is stored."""
    arguments = map(str, (*PACED, "--trials", trials))
    running = subprocess.Popen(
        [sys.executable, "-m", "study.run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 600  # far beyond what a slow machine takes
    while time.monotonic() < until and running.poll() is None:
        if has_report(Path("studies.db")):
            return running
        time.sleep(0.1)
    running.kill()
    raise AssertionError(running.communicate())


@pytest.mark.long
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_says_how_to_continue_and_loses_no_settings(kind: int) -> None:
    running = start(3)
    os.killpg(running.pid, kind)  # as a terminal and a scheduler do
    out, err = running.communicate(timeout=30)
    assert running.returncode == 128 + kind, err
    assert "run the same command to continue" in out
    assert "Traceback" not in err
    states = [trial.state for trial in trials()]
    assert TrialState.RUNNING not in states
    assert trials()[0].state == TrialState.WAITING
    assert trials()[0].params["rule"] == "plain"


@pytest.mark.long
def test_a_killed_study_leaves_no_orphans_and_is_finished_by_the_next_run() -> None:
    running = start(2)
    children = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    running.communicate()
    partial = trials()[0].intermediate_values
    result = process("study.run", *PACED, "--trials", 2)
    assert result.code == 0, result
    assert "resuming 1 interrupted trial from the last epoch" in result.out
    assert [trial.number for trial in finished()] == [0, 1]
    assert [trial.number for trial in trials() if trial.state == TrialState.RUNNING] == []
    repeated = trials()[0].intermediate_values
    assert {step: repeated[step] for step in partial} == partial
    assert list(repeated) == list(range(1, 21))
    assert children
    assert not [child for child in children if child.is_running()]


def test_a_timeout_stops_cleanly(command: Command) -> None:
    line = ("--study", "small", "--pipeline", "tests.blobs:held", "--trials", 5, "--timeout", 1)
    threading.Timer(2, Path("go on").absolute().touch).start()  # not in a later test's folder
    result = command("study.run", *line, "--workers", 1)
    assert result.code == 0, result
    assert "run the same command to continue" in result.out
    assert not [trial for trial in trials() if trial.state == TrialState.RUNNING]
