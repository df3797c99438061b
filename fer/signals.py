"""Signals that ask a training to end: from a person, a scheduler, or a terminal that is closed."""

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; schedulers; a closed terminal; what batch systems send some time before the end."""
SAME = 0.2  # seconds: timeout(1) and shells signal a process and its group, which is one request


class Signals:
    """Counts SIGNALS while it is entered.

    Until `gently` is called a signal ends the program at once. From then on the first `counted`
    of them are only counted: the first asks to stop after what is being trained, the second to
    stop now. The next one raises KeyboardInterrupt with its number, wherever the program is. Only
    the main thread of a program hears signals. One that is ignored, as nohup(1) has it, stays so.
    """

    def __init__(self, counted: int) -> None:
        self._counted = counted
        self._received: list[int] = []
        self._at = 0.0
        self._gentle = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            for number in SIGNALS:
                ignored = signal.getsignal(number) == signal.SIG_IGN
                # Shells let background jobs ignore SIGINT, though scripts send it to them.
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
        if not self._gentle or len(self._received) > self._counted:
            raise KeyboardInterrupt(number)

    def gently(self) -> None:
        """From here on, signals request a graceful stop instead of ending the program."""
        self._gentle = True

    @property
    def soon(self) -> bool:
        """Whether to stop after what is being trained."""
        return bool(self._received)

    @property
    def now(self) -> bool:
        """Whether to stop without waiting for anything."""
        return len(self._received) > 1

    @property
    def exit_code(self) -> int:
        """128 and the signal's number as shells have it; 0 if there was none."""
        return 128 + self._received[0] if self._received else 0
