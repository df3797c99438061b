"""Compare pipelines: interleaved, each in its own processes, as ratios."""

import multiprocessing
import statistics
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch

from fer.config import Config
from fer.data import Faces

FULL_EPOCH = 24_014  # training images of the report, with oversampling


@dataclass(frozen=True)
class Contestant:
    """A pipeline, run in `processes` processes with `threads` threads and `lanes` runs each."""

    name: str
    pipeline: str
    processes: int
    threads: int
    precision: str = "float32"
    lanes: int = 1


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of several measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def measure_speed(
    contestants: list[Contestant],
    training: Faces,
    validation: Faces,
    config: Config,
    device: torch.device,
    rounds: int,
    epochs: int,
) -> list[dict[str, Any]]:
    """Return for each contestant training images/s (the time includes validation), trial-epochs
    per hour, the ratio to the first contestant by round, and bytes of memory per process.

    In every round each contestant trains `epochs` epochs in turn, so that drifts in machine speed
    affect all alike.
    """
    context = multiprocessing.get_context("spawn")
    pools: list[list[tuple[Any, Connection]]] = []
    for contestant in contestants:
        pool = []
        for _ in range(contestant.processes):
            ours, theirs = context.Pipe()
            settings = config.model_copy(update={"precision": contestant.precision})
            process = context.Process(
                target=_serve,
                args=(theirs, contestant, training, validation, settings, str(device)),
                daemon=True,
            )
            process.start()
            theirs.close()  # so that recv raises EOFError if the process dies
            pool.append((process, ours))
        pools.append(pool)
    speeds: list[list[float]] = [[] for _ in contestants]
    memory = [0] * len(contestants)
    for turn in range(rounds + 1):
        for i, pool in enumerate(pools):
            for _, connection in pool:
                connection.send(1 if turn == 0 else epochs)
            seconds = [connection.recv() for _, connection in pool]
            if turn:  # the first turn warms up
                done = len(training) * epochs * contestants[i].lanes
                speeds[i].append(sum(done / each for each in seconds))
            memory[i] = max(psutil.Process(process.pid).memory_info().rss for process, _ in pool)
    for pool in pools:
        for process, _ in pool:
            process.terminate()
            process.join()
    return [
        {
            "name": contestant.name,
            "images_per_second": vars(Spread.of(speed)),
            "trial_epochs_per_hour": 3600 * statistics.median(speed) / FULL_EPOCH,
            "ratio": vars(Spread.of([a / b for a, b in zip(speed, speeds[0], strict=True)])),
            "bytes_per_process": used,
        }
        for contestant, speed, used in zip(contestants, speeds, memory, strict=True)
    ]


def _serve(
    connection: Connection,
    contestant: Contestant,
    training: Faces,
    validation: Faces,
    config: Config,
    device: str,
) -> None:
    """Serve requests: train the requested number of epochs, and reply with the seconds."""
    from bench.pipelines import PIPELINES

    torch.set_num_threads(contestant.threads)
    lanes = {"lanes": contestant.lanes} if contestant.lanes > 1 else {}
    pipeline = PIPELINES[contestant.pipeline]
    epochs = pipeline(training, validation, config, torch.device(device), **lanes)
    while True:
        connection.send(sum(next(epochs) for _ in range(connection.recv())))
