"""Training an interruptible trial, and what a worker and its parent tell each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from fer.config import Config
from fer.data import Faces
from fer.training import checkpoint
from fer.training.fit import Epoch, Run, progress
from fer.training.launch import Mark, Stream


@dataclass(frozen=True)
class Task:
    """What a worker is for: images [N, 48, 48] and labels [N] to train on and to validate,
    examples of settings whose pace it measures, and how many trials it trains at once."""

    training: tuple[NDArray[np.uint8], NDArray[np.int64]]
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]]
    classes: tuple[str, ...]
    examples: list[Config]
    lanes: int = 1


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
    """A worker can take a trial on each lane; an epoch of all images takes it about
    `epoch_seconds`, if it was asked to measure that. `memory` is what a GPU has free, in bytes."""

    epoch_seconds: float | None
    memory: int | None = None


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


def train(
    job: Job, training: Faces, validation: Faces, device: torch.device, stream: Stream
) -> Iterator[Trained | Mark]:
    """Train a trial from where it was interrupted, keeping its state after every epoch.

    After a Mark it is to be called again once that is reached.
    """
    torch.set_num_threads(job.config.threads)
    run, note = Run(job.config, training, device, stream), ""
    try:
        epochs = checkpoint.load(run, job.checkpoint, job.key)
    except checkpoint.Unusable as error:
        run, epochs = Run(job.config, training, device, stream), []
        note = f"its checkpoint is unusable ({error}): trained again from its seed"
    if job.behind and not epochs and not note:
        note = "its checkpoint is missing: trained again from its seed"
    if epochs or note:
        yield Trained(list(epochs), note)
    for item in progress(run, validation):
        if not isinstance(item, Epoch):
            yield item
            continue
        epochs.append(item)
        refused = run.launcher.refused
        note = f"every step is called: {refused}" if refused else ""
        try:
            checkpoint.save(run, epochs, job.checkpoint, job.key)
        except (OSError, SafetensorError) as error:
            note = f"its checkpoint cannot be written: {error}"
        yield Trained([item], note)
