"""What a worker process does: train one trial at a time and send every epoch over a pipe."""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from fer import checkpoint
from fer.augment import oversample
from fer.config import Config
from fer.data import Faces
from fer.fit import Epoch, Run, fit
from fer.memory import give_back, ran_out, reuse_memory

MEASURED_IMAGES = 64  # a measured epoch has at least


@dataclass(frozen=True)
class Task:
    """What a worker is for: images [N, 48, 48] and labels [N] to train on and to validate,
    and examples of settings whose pace it measures."""

    training: tuple[NDArray[np.uint8], NDArray[np.int64]]
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]]
    classes: tuple[str, ...]
    examples: list[Config]


@dataclass(frozen=True)
class Job:
    """A trial to train: its settings, where the state of the run is kept under which key, and
    how many epochs of it are stored from before it was interrupted."""

    config: Config
    checkpoint: Path
    key: str
    behind: int = 0


@dataclass(frozen=True)
class Imported:
    """A worker has loaded its libraries and waits for its task."""


@dataclass(frozen=True)
class Ready:
    """A worker can take a trial; an epoch of all images takes it about `epoch_seconds`, if it
    was asked to measure that."""

    epoch_seconds: float | None


@dataclass(frozen=True)
class Trained:
    """A new epoch; or first those that a trial has behind it from before it was interrupted.

    `note` says what a person should know, such as a checkpoint that could not be written.
    """

    epochs: list[Epoch]
    note: str = ""


@dataclass(frozen=True)
class Done:
    """A trial is over: all its epochs are reported, or it was told to stop."""


@dataclass(frozen=True)
class OutOfMemory:
    """A trial wanted more memory than there is; everything of it is freed."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """A trial raised an exception: where and which, and its traceback as text."""

    reason: str
    traceback: str


def work(connection: Connection, device: torch.device) -> None:
    """The life of a worker process: a Task, then one Job after another.

    After Trained it waits to be told whether to go on.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reuse_memory()
    # The first optimizer imports for a second what else the first epoch would wait for.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    try:
        connection.send(Imported())
        task: Task = connection.recv()
        training, validation = (
            Faces(torch.from_numpy(images), torch.from_numpy(labels), task.classes)
            for images, labels in (task.training, task.validation)
        )
        pace = None
        if task.examples:
            pace = measure_epoch(task.examples, training, validation, device)
        connection.send(Ready(pace))
        while True:
            job: Job = connection.recv()
            connection.send(_run(job, training, validation, device, connection))
            give_back()
    except (EOFError, OSError):
        return  # the parent has ended


def _run(
    job: Job, training: Faces, validation: Faces, device: torch.device, connection: Connection
) -> Done | OutOfMemory | Broken:
    """Train a trial for as long as the parent wants, whatever happens in it."""
    try:
        for trained in train(job, training, validation, device):
            connection.send(trained)
            if not connection.recv():
                break
        return Done()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # whatever it is, the parent stores and counts it
        if ran_out(error):
            return OutOfMemory(" ".join(str(error).split())[:300])
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return Broken(f"{type(error).__name__} at {place}", traceback.format_exc())


def train(job: Job, training: Faces, validation: Faces, device: torch.device) -> Iterator[Trained]:
    """Train a trial from where it was interrupted, keeping its state after every epoch."""
    torch.set_num_threads(job.config.threads)
    run, note = Run(job.config, training, device), ""
    try:
        epochs = checkpoint.load(run, job.checkpoint, job.key)
    except checkpoint.Unusable as error:
        run, epochs = Run(job.config, training, device), []
        note = f"its checkpoint is unusable ({error}): trained again from its seed"
    if job.behind and not epochs and not note:
        note = "its checkpoint is missing: trained again from its seed"
    if epochs or note:
        yield Trained(list(epochs), note)
    for epoch in fit(run, validation):
        epochs.append(epoch)
        note = ""
        try:
            checkpoint.save(run, epochs, job.checkpoint, job.key)
        except (OSError, SafetensorError) as error:
            note = f"its checkpoint cannot be written: {error}"
        yield Trained([epoch], note)


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
        # A learning rate that ends in no number would end the measurement as well.
        short = config.model_copy(update={"epochs": 2, "oversample": "none", "lr": 1e-9})
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
