"""Processes that train: each runs one trial at a time and reports every epoch over a pipe.

Only the parent knows the study and its storage. Workers end with their parent.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors.numpy import load_file, save_file

from fer.augment import oversample
from fer.config import Config
from fer.data import Faces
from fer.device import available_cores
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


@dataclass(frozen=True)
class Task:
    """What a worker is for: the images to train on, and examples of settings to measure."""

    images: Path
    classes: tuple[str, ...]
    examples: list[Config]


class Workers:
    """Up to `most` processes that train on the same images.

    They import PyTorch while the caller still reads the data; `begin` gives them their task.
    A context manager: leaving it ends them.
    """

    def __init__(self, most: int, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="fer-study-")
        self._connections: list[Connection] = []
        self._processes = []
        # Ctrl-C reaches the whole terminal group; the parent alone decides what it means.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for _ in range(most):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, str(device)), daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        signal.signal(signal.SIGINT, before)

    def begin(
        self, count: int, training: Faces, validation: Faces, examples: list[Config]
    ) -> None:
        """Give `count` of them the images; the others end.

        First each measures the pace of `examples`, beside the others, and answers Ready.
        """
        self._end(self._processes[count:])
        del self._processes[count:], self._connections[count:]
        # A file that all read is shared memory that no container limits.
        images = Path(self._folder.name) / "images.safetensors"
        save_file(
            {
                f"{side}_{name}": np.ascontiguousarray(getattr(faces, name).numpy())
                for side, faces in (("training", training), ("validation", validation))
                for name in ("images", "labels")
            },
            images,
        )
        task = Task(images, training.classes, examples)
        for connection in self._connections:
            connection.send(task)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._end(self._processes)
        self._folder.cleanup()

    @staticmethod
    def _end(processes: list[SpawnProcess]) -> None:
        for process in processes:
            process.terminate()
        for process in processes:
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


def default_workers(device: torch.device) -> int:
    """How many trials at once the machine serves best: a core each, if memory allows."""
    fitting = int(psutil.virtual_memory().available / BYTES_PER_WORKER)
    wanted = GPU_WORKERS if device.type == "cuda" else available_cores()
    return max(1, min(wanted, available_cores(), fitting))


def _work(connection: Connection, device: str) -> None:
    """The life of a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reuse_memory()
    # The first optimizer imports for a second what else the first epoch would wait for.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    try:
        task = connection.recv()
    except EOFError:
        return
    tensors = {name: torch.from_numpy(array) for name, array in load_file(task.images).items()}
    training, validation = (
        Faces(tensors[f"{side}_images"], tensors[f"{side}_labels"], task.classes)
        for side in ("training", "validation")
    )
    place = torch.device(device)
    connection.send(Ready(measure_epoch(task.examples, training, validation, place)))
    while True:
        try:
            config = connection.recv()
            torch.set_num_threads(config.threads)
            for epoch in fit(Run(config, training, place), validation):
                connection.send(epoch)
                if not connection.recv():
                    break
            connection.send(Done())
        except (EOFError, BrokenPipeError):
            return
        except Exception:  # whatever it is, the parent raises it with this traceback
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
        torch.set_num_threads(config.threads)
        part = min(1.0, max(MEASURED_IMAGES, config.batch_size) / len(training))
        short = config.model_copy(update={"epochs": 2, "oversample": "none"})
        run = Run(short, some(training, part), device)
        # The first epoch also prepares kernels and memory.
        pace = list(fit(run, some(validation, part)))[1].seconds
        images = len(oversample(training, config, torch.Generator()))
        seconds.append(pace * images / len(run.train))
    return sum(seconds) / len(seconds)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
