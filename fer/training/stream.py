"""Streams: they run a run's work at once on a CPU, or queue it on a GPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Work = Callable[[], object]


class Mark(Protocol):
    """A point in the work of a stream, such as a `torch.cuda.Event`."""

    def query(self) -> bool:
        """Whether all work before it is done."""
        ...

    def synchronize(self) -> None:
        """Wait until all work before it is done."""
        ...


class Stream(Protocol):
    """Does work in the order it is given, possibly asynchronously."""

    steps_at_once: int  # steps launched together: a part of an epoch
    ahead: int  # parts in flight before the first is waited for
    captures: bool  # whether work can be captured into graphs

    def begin_run(self, memory: float) -> None:
        """Begin a new run, whose graphs will need `memory` bytes; the previous one must not launch
        anything more."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which work is queued on this stream."""
        ...

    def mark(self) -> Mark:
        """Return a mark at the end of the work so far."""
        ...

    def capture(self, work: Work) -> Work:
        """Capture work without running it, and return a function that replays it.

        Raises RuntimeError if it cannot be captured.
        """
        ...


class HostStream:
    """The CPU: work is done when the call returns."""

    steps_at_once = 25  # between checks of the loss
    ahead = 2
    captures = False

    def begin_run(self, memory: float) -> None:
        pass

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def mark(self) -> Mark:
        return REACHED

    def capture(self, work: Work) -> Work:
        raise RuntimeError("a processor has no graphs")


class _Reached:
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


REACHED: Mark = _Reached()
"""A mark that is always reached, to let other runs have their turn."""
