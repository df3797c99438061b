"""Blobs with slow epochs, or epochs that kill their worker, to test what happens meanwhile."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from study.pipeline import Epoch, Settings
from tests.blobs import Blobs


@dataclass(frozen=True)
class Paced(Blobs):
    """Epochs take `seconds`, those of the rule `slow` ten times as long. Trials of the rule
    `deadly` kill their worker in the third epoch."""

    seconds: float = 0.3
    slow: str = ""
    deadly: str = ""
    unopened: bool = False
    epochs: int = 8

    def open(self, device: str) -> "Paced":
        if self.unopened:
            raise ValueError("no such data")
        return self

    def train(self, settings: Settings, state: Path, key: str) -> Iterator[Epoch | list[Epoch]]:
        for item in super().train(settings, state, key):
            time.sleep(self.seconds * (10 if settings["rule"] == self.slow else 1))
            if settings["rule"] == self.deadly and isinstance(item, Epoch) and item.number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item


pipeline = Paced()
brisk = Paced(seconds=0.15)
long = Paced(seconds=0.1, epochs=20)
quick = Paced(seconds=0.0)
limping = Paced(seconds=0.01, slow="sign")
deadly = Paced(deadly="sign", seconds=0.0)
unopened = Paced(unopened=True)
