"""What a study needs of its workers, wherever they are."""

from collections.abc import Collection, Iterator
from typing import Protocol, Self

from study.workers.messages import Job, Message


class Workers(Protocol):
    """Lanes, a trial at once on each, and the workers that have them; ended with the context.

    `study.workers.pool.Pool` has processes of this machine,
    `study.workers.ray_pool.RayPool` actors of a cluster.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def __len__(self) -> int:
        """Lanes, including those for which no worker is there yet."""
        ...

    @property
    def awaited(self) -> Collection[int]:
        """Lanes that must have been ready once before the first trial begins."""
        ...

    @property
    def status(self) -> str:
        """What the first trial waits for."""
        ...

    def process_of(self, lane: int) -> int:
        """The number of the worker that has a lane."""
        ...

    def start(self, lane: int, job: Job) -> None:
        """Put a trial on an idle lane."""
        ...

    def answer(self, lane: int, go_on: bool) -> None:
        """After Trained: train another epoch, or stop here."""
        ...

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """What the workers have to say, by lane, after at most `timeout` seconds."""
        ...
