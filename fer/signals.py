"""Signals that request a stop: from the user, a scheduler, or a closed terminal."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; schedulers; a closed terminal; warnings of batch systems before the time limit."""
# Seconds: timeout(1) and shells signal a process and its group for one request, and the second
# one is handled only after the training step that it interrupts.
SAME = 1.0


class Signals:
    """Context manager that counts SIGNALS.

    Until `gently` is called, a signal ends the program at once. After that the first `counted`
    signals are only counted: the first requests a stop after the current epochs, the second an
    immediate stop. The next one raises KeyboardInterrupt with its number. Signals are handled in
    the main thread only. A signal that is ignored, as with nohup(1), stays ignored.

    `notices` are printed to standard error for the first, the second signal, and so on.
    """

    def __init__(self, counted: int, notices: Sequence[str] = ()) -> None:
        self._counted, self._notices = counted, notices
        self._received: list[int] = []
        self._at = 0.0
        self._gentle = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # others cannot handle signals
            for number in SIGNALS:
                ignored = signal.getsignal(number) == signal.SIG_IGN
                # Shells start background jobs with SIGINT ignored, although scripts send it to
                # them.
                if not ignored or number == signal.SIGINT:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        before, self._at = self._at, time.monotonic()
        if self._received and self._at - before < SAME:
            return
        self._received.append(number)
        if self._gentle:
            for notice in self._notices[len(self._received) - 1 : len(self._received)]:
                # Not print: the signal may have interrupted one.
                with suppress(OSError):
                    os.write(2, f"{notice}\n".encode())
        if not self._gentle or len(self._received) > self._counted:
            raise KeyboardInterrupt(number)

    def gently(self) -> None:
        """From here on, signals request a graceful stop instead of ending the program."""
        self._gentle = True

    @property
    def soon(self) -> bool:
        """Whether to stop after the current epochs."""
        return bool(self._received)

    @property
    def now(self) -> bool:
        """Whether to stop immediately."""
        return len(self._received) > 1

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in shells; 0 without a signal."""
        return 128 + self._received[0] if self._received else 0
