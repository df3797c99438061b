"""Failing trials, in real workers of the real command."""

import json
from collections.abc import Callable

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from study.options import DEFAULT_URL
from study.pipeline import Only
from study.spec import report
from study.spec.spaces import SPACES
from study.storage import records
from study.storage.records import ending
from tests.conftest import Command, Result, trials

SMALL = ("--subset", "150", "--study", "small", "--epochs", "3")


@pytest.fixture
def run(command: Command) -> Callable[..., Result]:
    """Run a study in this process, with workers of its own."""

    def call(*arguments: object, workers: int = 1) -> Result:
        return command("study.run", *SMALL, "--workers", workers, *arguments)

    return call


@pytest.mark.long
def test_a_nan_loss_ends_the_trial_as_diverged_and_the_study_continues(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = Only("optimizer", "sgd", "lr", FloatDistribution(9.9, 10.0, log=True))
    monkeypatch.setitem(SPACES["default"], "sgd_lr", fast)
    monkeypatch.setitem(
        report.HAND_MADE,
        "hand-made sgd",
        report.HAND_MADE["hand-made sgd"].model_copy(
            update={"lr": 10.0, "output_activation": "none"}
        ),
    )
    result = run("--trials", 6, "--epochs", 4)
    assert result.code == 0, result
    diverged = [trial for trial in trials() if ending(trial) == "diverged"]
    assert [trial.user_attrs[records.ORIGIN] for trial in diverged] == ["hand-made sgd"]
    assert diverged[0].state == TrialState.PRUNED
    assert records.kept(diverged[0], records.RESULT)["epochs"] == 1
    assert "1 diverged" in result.out
    assert "diverged " in result.out


# The measurement before a study has a learning rate of 1e-9: it is left alone.
OUT_OF_MEMORY = """
import resource, psutil, torch

def progress(run, validation):
    if run.config.optimizer == "adagrad" and run.config.lr > 1e-9:
        # As if the machine had not more: a real allocation fails.
        unlimited = resource.getrlimit(resource.RLIMIT_AS)
        limit = psutil.Process().memory_info().vms + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, unlimited[1]))
        try:
            torch.empty(1 << 30).fill_(1)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
    yield from original(run, validation)
"""


def test_a_trial_that_runs_out_of_memory_is_marked_and_its_neighbours_continue(
    sabotage: Callable[[str], None], run: Callable[..., Result], command: Command
) -> None:
    sabotage(OUT_OF_MEMORY)
    result = run("--trials", 6, workers=2)
    assert result.code == 0, result
    starved = [trial for trial in trials() if ending(trial) == "out of memory"]
    assert [trial.user_attrs[records.ORIGIN] for trial in starved] == ["hand-made adagrad"]
    # Pruned, so that the sampler learns from it.
    assert starved[0].state == TrialState.PRUNED
    assert "allocate" in records.kept(starved[0], records.RESULT)["reason"]
    assert len([trial for trial in trials() if trial.state in records.FINISHED]) == 6
    assert "1 out of memory" in result.out
    refused = command("study.export", "--trial", starved[0].number)
    assert refused.code == 2
    assert "out of memory" in refused.err
    assert command("study.report").code == 0


BUG = """
def progress(run, validation):
    if run.config.lr > 1e-9:
        raise ValueError("a bug in the pipeline")
    yield from original(run, validation)
"""


def test_a_bug_stops_the_study_after_three_identical_errors_with_its_traceback(
    sabotage: Callable[[str], None], run: Callable[..., Result]
) -> None:
    sabotage(BUG)
    with pytest.raises(RuntimeError, match="3 trials failed the same way") as stopped:
        run("--trials", 20)
    assert 'raise ValueError("a bug in the pipeline")' in str(stopped.value)
    failed = [trial for trial in trials() if trial.state == TrialState.FAIL]
    assert len(failed) == 3
    for trial in failed:
        assert "ValueError" in records.kept(trial, records.FAILURE)["reason"]
        assert "a bug in the pipeline" in records.kept(trial, records.FAILURE)["traceback"]
    assert not [trial for trial in trials() if trial.state == TrialState.RUNNING]


KILLER = """
import os, signal

def progress(run, validation):
    for item in original(run, validation):
        second = getattr(item, "number", None) == 2
        if run.config.optimizer in OPTIMIZERS and second and run.config.lr > 1e-9:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield item
"""


@pytest.mark.long
def test_a_trial_that_kills_its_worker_twice_is_failed_with_the_reason(
    sabotage: Callable[[str], None], run: Callable[..., Result]
) -> None:
    sabotage(KILLER.replace("OPTIMIZERS", '["adagrad"]'))
    result = run("--trials", 6)
    assert result.code == 0, result
    states = [trial.state for trial in trials()]
    assert sum(state in records.FINISHED for state in states) == 6
    failed = [trial for trial in trials() if trial.params["optimizer"] == "adagrad"]
    assert {trial.state for trial in failed} == {TrialState.FAIL}
    for trial in failed:
        assert records.kept(trial, records.FAILURE)["reason"] == (
            "its worker was ended by SIGSEGV, twice in epoch 2"
        )
        # The epoch before was kept and not trained again.
        assert list(trial.intermediate_values) == [1]
    assert "it will be retried" in result.out
    assert f"{len(failed)} failed" in result.out
    again = run("--trials", 7)
    assert again.code == 0, again
    assert trials()[failed[0].number].state == TrialState.FAIL


@pytest.mark.long
def test_workers_that_always_die_stop_the_study_in_one_line(
    sabotage: Callable[[str], None], run: Callable[..., Result]
) -> None:
    everything = '["adam", "adamax", "sgd", "rmsprop", "adagrad"]'
    sabotage(KILLER.replace("OPTIMIZERS", everything))
    result = run("--trials", 20)
    assert result.code == 2, result
    assert "3 trials failed the same way" in result.err.splitlines()[-1]
    assert "SIGSEGV" in result.err


@pytest.mark.long
def test_finished_settings_are_not_trained_again_unless_asked_for(
    run: Callable[..., Result],
) -> None:
    assert run("--trials", 6).code == 0
    study = optuna.load_study(study_name="small", storage=DEFAULT_URL)
    first = study.get_trials()[0]
    for _ in range(2):
        study.enqueue_trial(first.params)
    reused = run("--trials", 7)
    assert reused.code == 0, reused
    assert "repeats trial 0" in reused.out
    repeated = trials()[6]
    assert repeated.intermediate_values == first.intermediate_values
    assert repeated.value == first.value
    assert records.kept(repeated, records.RESULT)["repeats"] == 0
    assert "1 of them reused from trials with the same settings" in reused.out
    trained = run("--trials", 8, "--duplicates", "train")
    assert trained.code == 0, trained
    assert "repeats" not in records.kept(trials()[7], records.RESULT)
    assert trials()[7].intermediate_values == first.intermediate_values


@pytest.mark.long
def test_a_continued_study_proposes_nothing_twice(run: Callable[..., Result]) -> None:
    for total in (7, 9):
        assert run("--trials", total, "--sampler", "random", "--epochs", 1).code == 0
    proposals = [json.dumps(trial.params, sort_keys=True) for trial in trials()]
    assert len(set(proposals)) == 9
