"""Concurrent trials in one worker process, as on a GPU; repeatable studies."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import FrozenTrial, TrialState

from fer.config import Config
from fer.training.cost import cost_of
from study.engine.cost import Demand, fits
from study.storage import records
from study.storage.records import ending
from study.workers import pool
from tests.conftest import Command, trials

CPU = torch.device("cpu")
SMALL = ("--subset", "150", "--epochs", "2", "--trials", "8", "--study", "small")


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials of a study share one worker process, as they share a GPU."""
    monkeypatch.setattr(pool, "devices_for", lambda pipeline, lanes: ["cpu"])


def trials_in(folder: str = ".") -> list[FrozenTrial]:
    return trials(f"sqlite:///{folder}/studies.db")


def course(folder: str = ".") -> list[tuple[Any, ...]]:
    """What a study did, in its order, down to the last bit of every loss."""
    return [
        (
            trial.number,
            trial.state,
            trial.params,
            trial.intermediate_values,
            records.kept(trial, records.RESULT)["curves"]["loss"],
        )
        for trial in trials_in(folder)
    ]


def into(folder: str) -> tuple[str, str]:
    Path(folder).mkdir()
    return "--storage", f"sqlite:///{folder}/studies.db"


def test_a_study_with_one_seed_repeats_whatever_is_slow(command: Command) -> None:
    # So many that the sampler proposes from what it has seen.
    many = ("--trials", 24, "--study", "small", "--workers", 2, "--pipeline")
    assert command("study.run", *many, "tests.paced:quick", *into("first")).code == 0
    assert command("study.run", *many, "tests.paced:limping", *into("second")).code == 0
    assert course("first") == course("second")


@pytest.mark.long
def test_a_study_on_lanes_of_one_process_is_the_study_on_as_many_processes(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("study.run", *SMALL, "--workers", 3, *into("processes")).code == 0
    monkeypatch.setattr(pool, "devices_for", lambda pipeline, lanes: ["cpu"])
    done = command("study.run", *SMALL, "--workers", 3, *into("lanes"))
    assert done.code == 0, done
    assert "3 at once" in done.out
    assert course("processes") == course("lanes")


STARVED = """
import torch

def progress(run, validation):
    for item in original(run, validation):
        if run.config.optimizer == "adagrad" and run.trained:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        yield item
"""


@pytest.mark.long
def test_memory_that_runs_out_ends_that_trial_alone_and_its_neighbours_curves_are_unchanged(
    one_process: None, command: Command, sabotage: Callable[[str], None]
) -> None:
    few = (*SMALL[:-4], "--trials", 5, "--study", "small", "--pruner", "none", "--workers", 3)
    assert command("study.run", *few, *into("undisturbed")).code == 0
    sabotage(STARVED)
    done = command("study.run", *few, *into("starved"))
    assert done.code == 0, done
    assert "1 out of memory" in done.out
    for calm, starved in zip(trials_in("undisturbed"), trials_in("starved"), strict=True):
        if starved.state == TrialState.WAITING:
            continue
        if starved.params["optimizer"] == "adagrad":
            assert ending(starved) == "out of memory"
            assert starved.state == TrialState.PRUNED
        elif starved.params == calm.params:  # the sampler knows of the failure later on
            losses = [
                records.kept(trial, records.RESULT)["curves"]["loss"] for trial in (calm, starved)
            ]
            assert losses[0] == losses[1]
    assert sum(ending(trial) == "complete" for trial in trials_in("starved")) == 4


KILLER = """
import os, signal

def progress(run, validation):
    for item in original(run, validation):
        if run.config.optimizer == "adagrad" and getattr(item, "number", None) == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield item
"""


@pytest.mark.long
def test_a_trial_that_kills_the_process_is_found_among_its_neighbours_and_only_it_fails(
    one_process: None, command: Command, sabotage: Callable[[str], None]
) -> None:
    sabotage(KILLER)
    done = command(
        "study.run", *SMALL[:-4], "--trials", 4, "--study", "small", "--workers", 3,
        "--pruner", "none",
    )  # fmt: skip
    assert done.code == 0, done
    failed = [trial for trial in trials() if trial.state == TrialState.FAIL]
    assert {trial.params["optimizer"] for trial in failed} == {"adagrad"}
    assert sum(trial.state == TrialState.COMPLETE for trial in trials()) == 4


def test_the_end_of_the_time_lets_the_epochs_of_all_lanes_end(
    one_process: None, command: Command
) -> None:
    line = ("--trials", 4, "--study", "small", "--workers", 3, "--pipeline", "tests.paced:brisk")
    done = command("study.run", *line, "--timeout", 2)
    assert done.code == 0, done
    assert "stopped with" in done.out
    assert not [trial for trial in trials() if trial.state == TrialState.RUNNING]
    again = command("study.run", *line)
    assert again.code == 0, again
    assert sum(trial.state in records.FINISHED for trial in trials()) == 4


LITTLE = """
training.free_memory = lambda device: 1 << 28

def progress(run, validation):
    with open("LOG", "a") as log:
        log.write("begins ")
    try:
        yield from original(run, validation)
    finally:
        with open("LOG", "a") as log:
            log.write("ends ")
"""


@pytest.mark.long
def test_trials_that_do_not_fit_the_memory_together_run_one_after_the_other(
    one_process: None, command: Command, sabotage: Callable[[str], None], own_folder: Path
) -> None:
    sabotage(LITTLE.replace("LOG", str(own_folder / "log")))
    arguments = ("--subset", 150, "--epochs", 2, "--study", "small", "--pruner", "none")
    done = command("study.run", *arguments, "--trials", 5, "--workers", 3)
    assert done.code == 0, done
    assert (own_folder / "log").read_text().split() == ["begins", "ends"] * 5


@pytest.mark.long
def test_a_trial_that_waits_for_memory_is_not_lost_when_the_time_is_over(
    one_process: None, command: Command, sabotage: Callable[[str], None], own_folder: Path
) -> None:
    sabotage(LITTLE.replace("LOG", str(own_folder / "log")))
    arguments = ("--subset", 600, "--epochs", 30, "--study", "small", "--trials", 3)
    done = command("study.run", *arguments, "--workers", 3, "--timeout", 6)
    assert done.code == 0, done
    assert "stopped with" in done.out
    assert not [trial for trial in trials() if trial.state == TrialState.RUNNING]
    assert Counter(trial.state for trial in trials())[TrialState.FAIL] == 0


GPU = 80 * 10**9


def demand(alone: bool = False, **settings: Any) -> Demand:
    """What a trial on all images wants of a GPU."""
    config = Config(**{"precision": "bfloat16", **settings})
    return Demand(cost_of(config, 24_014, 5_742, "cuda"), alone)


def side_by_side(each: Demand, memory: int) -> int:
    """How many trials alike run at once."""
    running: list[Demand] = []
    while len(running) < 100 and fits(each, running, memory):
        running.append(each)
    return len(running)


def test_the_smaller_the_batch_the_more_trials_run_at_once() -> None:
    sizes = (16, 32, 64, 128, 256)
    counts = [side_by_side(demand(batch_size=size), GPU) for size in sizes]
    assert counts == [32, 16, 8, 4, 2]


def test_a_trial_that_does_not_fit_the_memory_waits_for_others() -> None:
    large, small = demand(batch_size=4096), demand(batch_size=16)
    memory = int((large.cost.memory + small.cost.memory) / 0.9) + 1
    assert fits(large, [small], memory, crowd=math.inf)
    assert not fits(large, [small, small], memory, crowd=math.inf)
    assert fits(large, [], 1)  # alone it may try


def test_a_trial_in_float32_or_with_dropout_wants_more_memory() -> None:
    plain = demand().cost.memory
    assert demand(dropout=0.5).cost.memory > plain
    assert demand(precision="float32").cost.memory > plain


def test_a_suspect_runs_alone() -> None:
    small, suspect = demand(batch_size=16), demand(batch_size=16, alone=True)
    assert not fits(suspect, [small], GPU)
    assert not fits(small, [suspect], GPU)
    assert fits(suspect, [], GPU)


def test_small_batches_take_longer() -> None:
    for device in ("cpu", "cuda"):
        costs = [
            cost_of(Config(batch_size=size, precision="bfloat16"), 24_014, 5_742, device)
            for size in (16, 64, 256)
        ]
        seconds = [cost.seconds for cost in costs]
        assert seconds == sorted(seconds, reverse=True)
