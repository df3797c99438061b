"""A minimal complete pipeline in NumPy: a linear classifier of two classes of points."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from study.pipeline import Cost, Epoch, Only, Settings


@dataclass(frozen=True)
class Blobs:
    """A pipeline that is also its session."""

    name: str = "blobs"
    epochs: int = 4
    devices: Sequence[str] = ("cpu",)
    memory: int | None = None
    diverges_at: int = 0  # first epoch with a NaN loss; 0 for never
    talks: bool = False  # prints a line per epoch
    # Factor of the learning rate in the held-out score; not compared, as NaN != NaN.
    holdout: float = field(default=math.nan, compare=False)
    processor: str = ""  # processor that it claims to run on
    held_until: str = ""  # trials wait for this file before their second epoch
    metric, validation, about, curves_by = "share right", 200, "300 points", ()
    base: ClassVar[Settings] = {"decay": 0.0}
    presets: ClassVar[dict[str, Settings]] = {
        "control": {"rule": "plain", "lr": 0.1},
        "fast": {"rule": "sign", "lr": 0.5},
    }
    space: ClassVar[dict[str, Any]] = {
        "rule": CategoricalDistribution(["plain", "sign"]),
        "plain_lr": Only("rule", "plain", "lr", FloatDistribution(1e-3, 10.0, log=True)),
        "sign_lr": Only("rule", "sign", "lr", FloatDistribution(1e-3, 1.0, log=True)),
    }

    def identity(self) -> dict[str, Any]:
        hardware = {"device": self.processor} if self.processor else {}
        return {"data": "blobs", **hardware}

    def cost(self, settings: Settings) -> Cost:
        return Cost(seconds=2.0 if settings["rule"] == "sign" else 1.0, memory=1.0, load=0.5)

    def open(self, device: str) -> "Blobs":
        return self

    def pace(self, examples: Sequence[Settings], at_once: int) -> float | None:
        return 0.01

    def train(self, settings: Settings, state: Path, key: str) -> Iterator[Epoch | list[Epoch]]:
        points = np.random.default_rng(0).normal(size=(300, 8)) + 0.3
        labels = np.where(np.arange(300) % 2, 1.0, -1.0)
        points *= labels[:, None]
        weights, epochs = np.random.default_rng(settings["seed"]).normal(size=8), []
        if state.exists() and (kept := np.load(state))["key"] == key:
            weights = kept["weights"]
            epochs = [
                Epoch(int(n), score, {"loss": loss}, 0.01, right.tobytes())
                for (n, score, loss), right in zip(kept["epochs"], kept["right"], strict=True)
            ]
            yield list(epochs)
        for number in range(len(epochs) + 1, settings["epochs"] + 1):
            while number > 1 and self.held_until and not Path(self.held_until).exists():
                time.sleep(0.01)
            if self.talks:
                print("epoch", number, flush=True)
            margins = labels[:100] * (points[:100] @ weights)
            gradient = -np.where(margins < 1, labels[:100], 0) @ points[:100] / 100
            step = np.sign(gradient) if settings["rule"] == "sign" else gradient
            weights = weights - settings["lr"] * step
            right = labels[100:] * (points[100:] @ weights) > 0
            loss = float(np.maximum(0, 1 - margins).mean())
            if self.diverges_at and number >= self.diverges_at:
                loss = float("nan")
            packed = np.packbits(right).tobytes()
            holdout = 0.1 + self.holdout * settings["lr"]
            score = float(right.mean())
            epochs.append(Epoch(number, score, {"loss": loss}, 0.01, packed, holdout))
            rows = [[each.number, each.score, each.values["loss"]] for each in epochs]
            state.parent.mkdir(parents=True, exist_ok=True)
            with state.open("wb") as file:
                bits = [np.frombuffer(each.right, np.uint8) for each in epochs]
                np.savez(file, weights=weights, key=key, epochs=rows, right=bits)
            yield epochs[-1]


pipeline = Blobs()
diverging = Blobs(diverges_at=2)
talking = Blobs(talks=True)
held = Blobs(held_until="go on")
high, low = Blobs(holdout=0.01), Blobs(holdout=-0.01)
