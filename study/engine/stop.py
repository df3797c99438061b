"""When to stop: on a signal from the user or a scheduler, or when the time is up."""

import time

from fer.signals import Signals


class Stop(Signals):
    """Stop requests: the first signal stops after the current epochs, the second one now.

    The third ends the program at once; only that one can interrupt a write. The time is up after
    `deadline` (monotonic clock).
    """

    def __init__(self, deadline: float) -> None:
        super().__init__(counted=2)
        self._deadline = deadline

    def __enter__(self) -> "Stop":
        super().__enter__()
        return self

    @property
    def soon(self) -> bool:
        """Whether to stop after the current epochs."""
        return super().soon or time.monotonic() > self._deadline
