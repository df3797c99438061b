"""The interface of a study's workers, local or remote."""

from collections.abc import Collection, Iterator
from typing import Protocol, Self

from study.workers.messages import Job, Message


class Workers(Protocol):
    """Workers and their lanes; a lane trains one trial at a time. Leaving the context ends them.

    Implemented by `study.workers.pool.Pool` (local processes) and
    `study.workers.ray_pool.RayPool` (actors on a cluster).
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def __len__(self) -> int:
        """Number of lanes at the start, including those still without a worker."""
        ...

    @property
    def awaited(self) -> Collection[int]:
        """Lanes that must have been ready once before the first trial begins."""
        ...

    @property
    def status(self) -> str:
        """Return what the first trial is waiting for, for the display."""
        ...

    def process_of(self, lane: int) -> int:
        """Return the number of the worker that serves a lane."""
        ...

    def need(self, trials: int, busy: Collection[int]) -> list[int]:
        """Keep a worker for each of the `trials` left, end idle ones, and return their lanes.

        `busy` are the lanes on which trials run.
        """
        ...

    def start(self, lane: int, job: Job) -> None:
        """Start a trial on an idle lane."""
        ...

    def answer(self, lane: int, go_on: bool) -> None:
        """Answer a Trained message: train another epoch, or stop."""
        ...

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """Yield the workers' messages with their lanes, waiting at most `timeout` seconds."""
        ...
