"""When to stop: a signal from a person or a scheduler, or the time is up."""

import time

from fer.signals import Signals


class Stop(Signals):
    """Signals, of which the first asks to stop after the epochs that run, the second to stop now.

    The third ends the program at once: none but that interrupts what is being written. The time
    is up after `deadline`, on the monotonic clock.
    """

    def __init__(self, deadline: float) -> None:
        super().__init__(counted=2)
        self._deadline = deadline

    def __enter__(self) -> "Stop":
        super().__enter__()
        return self

    @property
    def soon(self) -> bool:
        """Whether to stop after the epochs that run."""
        return super().soon or time.monotonic() > self._deadline
