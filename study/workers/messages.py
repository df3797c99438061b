"""What a worker and its parent tell each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.pipeline import Device, Epoch, Settings


@dataclass(frozen=True)
class Task:
    """What a worker is for: a pickled pipeline, the device that it is opened on, how many trials
    train at once, and examples of settings whose pace is measured first."""

    pipeline: bytes
    device: Device
    lanes: int
    examples: Sequence[Settings]


@dataclass(frozen=True)
class Job:
    """A trial to train: its settings, where its state is kept under which key, and how many
    epochs of it are stored from before it was interrupted."""

    settings: Settings
    state: Path
    key: str
    behind: int = 0


@dataclass(frozen=True)
class Answer:
    """After Trained: whether to train another epoch."""

    go_on: bool


@dataclass(frozen=True)
class Imported:
    """A worker has loaded its libraries and waits for its task."""


@dataclass(frozen=True)
class Ready:
    """A worker can take a trial on each lane; an epoch takes it about `epoch_seconds`, if that
    was measured. `memory` is what the device has free, in bytes; None if that does not count.
    Of the pipeline's identity where the worker is, `hardware` may differ from the parent's, what
    is `installed` must not."""

    epoch_seconds: float | None
    memory: int | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A new epoch; or, if `resumed`, those that a trial has behind it.

    `note` says what a person should know, such as a checkpoint that could not be written.
    """

    epochs: Sequence[Epoch]
    note: str = ""
    resumed: bool = False


@dataclass(frozen=True)
class Done:
    """A trial is over: all its epochs are reported, or it was told to stop."""


@dataclass(frozen=True)
class OutOfMemory:
    """A trial wanted more memory than was free; everything of it is freed. `reason` is never
    empty."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """A trial raised an exception: where and which, and its traceback as text."""

    reason: str
    traceback: str


@dataclass(frozen=True)
class Fallen:
    """The code of a worker raised an exception outside of any trial: it trains no more."""

    reason: str
    traceback: str


@dataclass(frozen=True)
class Died:
    """A worker ended by itself, and with it these lanes; another one has begun in its place.

    `innocent` if it was lost with its node: no trial on it can have been the reason.
    """

    reason: str
    lanes: Sequence[int]
    innocent: bool = False


@dataclass(frozen=True)
class Crew:
    """Workers joined or left: the lanes that train now, and in words which there are.

    The words are empty if the study released them.
    """

    lanes: int
    text: str


OfTrial = Trained | Done | OutOfMemory | Broken
Message = Ready | Died | Crew | OfTrial
