"""Several trials at once in one worker process, as on a GPU; and studies that repeat."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import FrozenTrial, TrialState

import study.search
from fer.config import Config
from study import storage as store
from study.estimate import Demand, Estimate
from study.trial import ending
from tests.conftest import Command, trials

CPU = torch.device("cpu")
SMALL = ("--subset", "150", "--epochs", "3", "--trials", "10", "--study", "small")


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials of a study share one worker process, as they share a GPU."""
    monkeypatch.setattr(study.search, "devices_for", lambda device, most: [device])


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
            trial.user_attrs[store.RESULT]["losses"],
        )
        for trial in trials_in(folder)
    ]


def into(folder: str) -> tuple[str, str]:
    Path(folder).mkdir()
    return "--storage", f"sqlite:///{folder}/studies.db"


SLOW = """
import time

def progress(run, validation):
    for item in original(run, validation):
        if run.config.batch_size >= 64 and not hasattr(item, "query"):
            time.sleep(0.15)
        yield item
"""


def test_a_study_with_one_seed_repeats_whatever_is_slow(
    command: Command, sabotage: Callable[[str], None]
) -> None:
    # So many that the sampler proposes from what it has seen.
    many = ("--subset", 120, "--epochs", 3, "--trials", 24, "--study", "small", "--workers", 2)
    assert command("study.run", *many, *into("first")).code == 0
    sabotage(SLOW)
    assert command("study.run", *many, *into("second")).code == 0
    assert course("first") == course("second")


def test_a_study_on_lanes_of_one_process_is_the_study_on_as_many_processes(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("study.run", *SMALL, "--workers", 3, *into("processes")).code == 0
    monkeypatch.setattr(study.search, "devices_for", lambda device, most: [device])
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
            losses = [trial.user_attrs[store.RESULT]["losses"] for trial in (calm, starved)]
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
    done = command("study.run", *SMALL, "--workers", 3, "--timeout", 8)
    assert done.code == 0, done
    assert not [trial for trial in trials() if trial.state == TrialState.RUNNING]
    again = command("study.run", *SMALL, "--workers", 3)
    assert again.code == 0, again
    assert sum(trial.state in store.FINISHED for trial in trials()) == 10


LITTLE = """
from study import worker
worker.free_memory = lambda device: 1 << 28

def progress(run, validation):
    with open("LOG", "a") as log:
        log.write("begins ")
    yield from original(run, validation)
    with open("LOG", "a") as log:
        log.write("ends ")
"""


def test_trials_that_do_not_fit_the_memory_together_run_one_after_the_other(
    one_process: None, command: Command, sabotage: Callable[[str], None], own_folder: Path
) -> None:
    sabotage(LITTLE.replace("LOG", str(own_folder / "log")))
    arguments = ("--subset", 150, "--epochs", 2, "--study", "small", "--pruner", "none")
    done = command("study.run", *arguments, "--trials", 5, "--workers", 3)
    assert done.code == 0, done
    assert (own_folder / "log").read_text().split() == ["begins", "ends"] * 5


def test_a_trial_that_waits_for_memory_is_not_lost_when_the_time_is_over(
    one_process: None, command: Command, sabotage: Callable[[str], None], own_folder: Path
) -> None:
    sabotage(LITTLE.replace("LOG", str(own_folder / "log")))
    arguments = ("--subset", 600, "--epochs", 30, "--study", "small", "--trials", 3)
    done = command("study.run", *arguments, "--workers", 3, "--timeout", 12)
    assert done.code == 0, done
    assert "stopped with" in done.out
    assert not [trial for trial in trials() if trial.state == TrialState.RUNNING]
    assert Counter(trial.state for trial in trials())[TrialState.FAIL] == 0


ON_A_GPU = Estimate(images=24_014, validation=5_742, device="cuda")
GPU = 80 * 10**9


def settled(**settings: Any) -> Config:
    return Config(precision="bfloat16", **settings)


def side_by_side(demand: Demand, memory: int, estimate: Estimate = ON_A_GPU) -> int:
    """How many trials alike run at once."""
    running: list[Demand] = []
    while len(running) < 100 and estimate.fits(demand, running, memory):
        running.append(demand)
    return len(running)


def test_the_smaller_the_batch_the_more_trials_run_at_once() -> None:
    counts = [
        side_by_side(ON_A_GPU.demand(settled(batch_size=size)), GPU)
        for size in (16, 32, 64, 128, 256)
    ]
    assert counts == [32, 16, 8, 4, 2]


def test_a_trial_that_does_not_fit_the_memory_waits_for_others() -> None:
    large = ON_A_GPU.demand(settled(batch_size=4096))
    small = ON_A_GPU.demand(settled(batch_size=16))
    memory = int((large.memory + small.memory) / 0.9) + 1
    unbounded = Estimate(24_014, 5_742, "cuda", crowd=float("inf"))
    assert unbounded.fits(large, [small], memory)
    assert not unbounded.fits(large, [small, small], memory)
    assert unbounded.fits(large, [], 1)  # alone it may try


def test_a_trial_in_float32_or_with_dropout_wants_more_memory() -> None:
    plain = ON_A_GPU.demand(settled()).memory
    assert ON_A_GPU.demand(settled(dropout=0.5)).memory > plain
    assert ON_A_GPU.demand(Config(precision="float32")).memory > plain


def test_a_suspect_runs_alone() -> None:
    small = ON_A_GPU.demand(settled(batch_size=16))
    suspect = ON_A_GPU.demand(settled(batch_size=16), alone=True)
    assert not ON_A_GPU.fits(suspect, [small], GPU)
    assert not ON_A_GPU.fits(small, [suspect], GPU)
    assert ON_A_GPU.fits(suspect, [], GPU)


def test_small_batches_take_longer() -> None:
    for device in ("cpu", "cuda"):
        estimate = Estimate(24_014, 5_742, device)
        seconds = [estimate.epoch_seconds(settled(batch_size=size)) for size in (16, 64, 256)]
        assert seconds == sorted(seconds, reverse=True)
