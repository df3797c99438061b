"""When to stop: a signal from a person or a scheduler, or the time is up."""

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Counts SIGINT (Ctrl-C) and SIGTERM (schedulers) while it is entered.

    Until `gently` is called a signal ends the program at once, as ever. From then on the first
    asks to stop after the epochs that run, the second to stop now, and the third ends it at once:
    none but that interrupts what is being written. The time is up after `deadline`, on the
    monotonic clock. Only the main thread of a program hears signals.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._received: list[int] = []
        self._gentle = False
        self._before: list[Any] = []

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self._before = [signal.signal(number, self._receive) for number in SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=False):
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(number)
        if not self._gentle or len(self._received) > 2:
            raise KeyboardInterrupt

    def gently(self) -> None:
        """From here on, signals request a graceful stop instead of ending the program."""
        self._gentle = True

    @property
    def soon(self) -> bool:
        """Whether to stop after the epochs that run."""
        return bool(self._received) or time.monotonic() > self._deadline

    @property
    def now(self) -> bool:
        """Whether to stop without waiting for anything."""
        return len(self._received) > 1

    @property
    def exit_code(self) -> int:
        """128 and the signal's number as shells have it; 0 if there was none."""
        return 128 + self._received[0] if self._received else 0
