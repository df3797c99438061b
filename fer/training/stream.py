"""Where a run's work goes: called at once on a processor, or queued on a GPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Work = Callable[[], object]


class Mark(Protocol):
    """A place in the work of a stream; a `torch.cuda.Event` is one."""

    def query(self) -> bool:
        """Whether all before it is done."""
        ...

    def synchronize(self) -> None:
        """Wait for that."""
        ...


class Stream(Protocol):
    """Does the work it is given in order, maybe later."""

    steps_at_once: int  # that are launched together: a part of an epoch
    ahead: int  # parts that may be under way before the first is waited for
    captures: bool

    def begin_run(self, memory: float) -> None:
        """Another run takes the stream, whose graphs will want so many bytes; the one before
        launches nothing more."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """Within it, work goes to this stream."""
        ...

    def mark(self) -> Mark:
        """The end of the work so far."""
        ...

    def capture(self, work: Work) -> Work:
        """What does the work again and again without calling it. The work itself is not done.

        Raises RuntimeError if it can't be captured.
        """
        ...


class HostStream:
    """The processor: work is done when the call returns."""

    steps_at_once = 25  # between looks at the loss
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
"""A mark that nothing has to reach: others have their turn."""
