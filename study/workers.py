"""Processes that train: each runs one trial at a time and reports every epoch over a pipe.

Only the parent knows the study and its storage. Workers end with their parent.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors.numpy import load_file, save_file

from fer.augment import oversample
from fer.config import Config
from fer.data import Faces
from fer.fit import Epoch, Run, fit
from fer.memory import reuse_memory

GPU_WORKERS = 4  # a guess until it is measured on a GPU
BYTES_PER_WORKER = 1.5e9
MEASURED_IMAGES = 64  # a measured epoch has at least


@dataclass(frozen=True)
class Ready:
    """A worker can take a trial; an epoch of all images takes it about that long."""

    epoch_seconds: float


@dataclass(frozen=True)
class Done:
    """A trial is over: all its epochs are reported, or it was told to stop."""


@dataclass(frozen=True)
class Broken:
    """A trial raised an exception; its traceback as text."""

    traceback: str


Message = Ready | Epoch | Done | Broken


class Workers:
    """`count` processes that train on the same images. A context manager: leaving it ends them.

    First each measures the pace of `examples`, beside the others, and answers Ready.
    """

    def __init__(
        self,
        count: int,
        training: Faces,
        validation: Faces,
        examples: list[Config],
        device: torch.device,
        folder: Path,
    ) -> None:
        # A file that all map is shared memory that no container limits.
        images = folder / "images.safetensors"
        save_file(
            {
                f"{side}_{name}": np.ascontiguousarray(getattr(faces, name).numpy())
                for side, faces in (("training", training), ("validation", validation))
                for name in ("images", "labels")
            },
            images,
        )
        threads = max(1, available_cores() // count)
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work,
                args=(theirs, images, training.classes, examples, str(device), threads),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def __len__(self) -> int:
        return len(self._processes)

    def start(self, worker: int, config: Config) -> None:
        """Give an idle worker a trial."""
        self._connections[worker].send(config)

    def answer(self, worker: int, go_on: bool) -> None:
        """After an Epoch: train another, or stop here."""
        self._connections[worker].send(go_on)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """What the workers have to say, after at most `timeout` seconds.

        Raises RuntimeError if a worker died.
        """
        for connection in wait(self._connections, timeout):
            assert isinstance(connection, Connection)
            worker = self._connections.index(connection)
            try:
                yield worker, connection.recv()
            except (EOFError, ConnectionResetError):
                process = self._processes[worker]
                process.join()
                raise RuntimeError(
                    f"worker {worker} died with exit code {process.exitcode} (a negative one is "
                    "the signal; -9 often means that memory ran out, see --workers)"
                ) from None


def available_cores() -> int:
    """Processor cores this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def default_workers(device: torch.device) -> int:
    """How many trials at once the machine serves best: a core each, if memory allows."""
    fitting = int(psutil.virtual_memory().available / BYTES_PER_WORKER)
    wanted = GPU_WORKERS if device.type == "cuda" else available_cores()
    return max(1, min(wanted, available_cores(), fitting))


def _work(
    connection: Connection,
    images: Path,
    classes: tuple[str, ...],
    examples: list[Config],
    device: str,
    threads: int,
) -> None:
    """The life of a worker process."""
    # Ctrl-C reaches the whole terminal group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    reuse_memory()
    tensors = {name: torch.from_numpy(array) for name, array in load_file(images).items()}
    training, validation = (
        Faces(tensors[f"{side}_images"], tensors[f"{side}_labels"], classes)
        for side in ("training", "validation")
    )
    place = torch.device(device)
    connection.send(Ready(measure_epoch(examples, training, validation, place)))
    while True:
        try:
            config = connection.recv()
            for epoch in fit(Run(config, training, place), validation):
                connection.send(epoch)
                if not connection.recv():
                    break
            connection.send(Done())
        except (EOFError, BrokenPipeError):
            return
        except Exception:
            connection.send(Broken(traceback.format_exc()))


def measure_epoch(
    examples: list[Config], training: Faces, validation: Faces, device: torch.device
) -> float:
    """Seconds of an epoch of all images, the mean over `examples`, each measured on a few."""
    generator = np.random.default_rng(0)

    def some(faces: Faces, part: float) -> Faces:
        return faces.take(generator.permutation(len(faces))[: max(1, round(part * len(faces)))])

    seconds = []
    for config in examples:
        part = min(1.0, max(MEASURED_IMAGES, config.batch_size) / len(training))
        short = config.model_copy(update={"epochs": 3, "oversample": "none"})
        run = Run(short, some(training, part), device)
        # The first epoch also prepares kernels and memory; of the others one may be disturbed.
        pace = min(epoch.seconds for epoch in list(fit(run, some(validation, part)))[1:])
        images = len(oversample(training, config, torch.Generator()))
        seconds.append(pace * images / len(run.train))
    return sum(seconds) / len(seconds)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
