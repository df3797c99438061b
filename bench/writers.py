"""Many processes that concurrently write to one study, as fast as they can."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import optuna

from bench.harness import open_study, run_trial
from study.storage import opening
from study.storage.owner import TotalReached

STUDY = "writers"


@dataclass(frozen=True)
class Writer:
    """What one process wrote: scores by trial and epoch, and the seconds of each trial."""

    reports: dict[int, list[float]]
    seconds: list[float]
    waits: int  # times the database was unreachable


def write_together(url: str, processes: int, total: int) -> list[Writer]:
    """Let `processes` processes run trials of 30 reports until the study has `total` of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.writers"])  # else each imports for two seconds
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        jobs = [pool.submit(_write, url, total, seed) for seed in range(processes)]
        return [job.result() for job in jobs]


def _write(url: str, total: int, seed: int) -> Writer:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    generator = np.random.default_rng(seed)
    reports: dict[int, list[float]] = {}
    seconds: list[float] = []
    waits: list[str] = []
    opened = opening.open_database(url, total, lambda reason, _: waits.append(reason))
    with closing(opened) as database:
        study = open_study(database, STUDY, seed)
        while True:
            start = time.perf_counter()
            try:
                run = run_trial(study, generator)
            except TotalReached:
                return Writer(reports, seconds, len(waits))
            seconds.append(time.perf_counter() - start)
            reports[run.number] = [epoch.score for epoch in run.epochs]
