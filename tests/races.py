"""A race with a known outcome: a pipeline with fixed scores for each setting."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from study.analysis import race
from study.engine.conduct import Request
from study.options import Running, Search
from study.pipeline import Cost, Epoch, Settings
from study.spec.spec import Kind, comparing

NAMES = ("hand", "good", "as good", "bad", "worse")
MEANS = dict(zip(NAMES, (0.40, 0.42, 0.421, 0.33, 0.30), strict=True))
VARIANTS = {name: {"which": name} for name in NAMES}


@dataclass(frozen=True)
class Known:
    """A pipeline with known scores: a mean for each setting, plus noise by seed."""

    name: str = "known"
    epochs: int = 2
    held_until: str = ""  # trials wait for this file before their second epoch
    devices: Sequence[str] = ("cpu",)
    memory: int | None = None
    metric, validation, about, curves_by = "score", 0, "nothing", ()
    base: ClassVar[Settings] = {"which": "hand"}
    presets: ClassVar[dict[str, Settings]] = {}
    space: ClassVar[dict[str, Any]] = {}

    def identity(self) -> dict[str, Any]:
        return {"data": "known"}

    def cost(self, settings: Settings) -> Cost:
        return Cost(seconds=2.0 if settings["which"] == "bad" else 1.0, memory=1.0, load=0.5)

    def open(self, device: str) -> "Known":
        return self

    def pace(self, examples: Sequence[Settings], at_once: int) -> float | None:
        return 0.01

    def train(self, settings: Settings, state: Path, key: str) -> Iterator[Epoch]:
        drawn = np.random.default_rng([settings["seed"], NAMES.index(settings["which"])])
        score = MEANS[settings["which"]] + 0.005 * float(drawn.standard_normal())
        for number in range(1, settings["epochs"] + 1):
            while number > 1 and self.held_until and not Path(self.held_until).exists():
                time.sleep(0.01)
            yield Epoch(number, score, {}, 0.01, b"")


def asked(
    url: str,
    lanes: int,
    raced: bool = True,
    seeds: int = 6,
    held_until: str = "",
) -> Request:
    """Request a race, or a comparison of the same settings that trains all of them."""
    pipeline = Known(held_until=held_until)
    about = {"search": "none", "top": 4, "race": raced}
    spec = comparing(Kind.CONFIRM, "confirm", pipeline, VARIANTS, seeds, None, 1, about)
    options = Search(trials=len(spec.queue), pruner="none")
    running = Running(storage=url, workers=lanes)
    return Request(pipeline, spec, running, options, race=race.rule if raced else None)
