"""An example of another pipeline: scikit-learn's digits and a small PyTorch network.

    python -m study.run --pipeline examples.digits:pipeline --trials 20

A pipeline is any object that implements the protocol `study.pipeline.Pipeline`. Copy this file,
insert your data and your network, and return from `identity` everything your results depend on.
"""

import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from study.pipeline import Cost, Epoch, Settings

SPLIT = 0  # seed of the split


class Digits:
    """1,797 grey digits of 8x8 pixels in ten classes, a quarter of them for validation."""

    name, metric, validation = "digits", "validation accuracy", 450
    about = "1347 training and 450 validation images of 8x8 digits"
    epochs = 15
    devices, curves_by = ("cpu",), ()
    base: ClassVar = {"activation": "relu"}  # settings that are not varied
    presets: ClassVar = {"first guess": {"lr": 0.01, "width": 32, "batch_size": 64}}
    space: ClassVar = {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "width": IntDistribution(8, 128, log=True),
        "batch_size": CategoricalDistribution([16, 64, 256]),
        "activation": CategoricalDistribution(["relu", "tanh"]),
    }

    def identity(self) -> dict[str, object]:
        packages = ("torch", "scikit-learn")
        versions = {name: version(name) for name in packages}
        return {"data": "digits", "split": SPLIT, "versions": versions}

    def cost(self, settings: Settings) -> Cost:
        return Cost(seconds=1 / settings["batch_size"])  # rough is fine: it only orders trials

    def open(self, device: str) -> "Session":
        return Session()


class Session:
    """Holds the data in a worker process."""

    memory = None

    def __init__(self) -> None:
        torch.set_num_threads(1)
        images, labels = load_digits(return_X_y=True)
        sides = train_test_split(images / 16, labels, test_size=450, random_state=SPLIT)
        self.x, self.x_val = (torch.tensor(each, dtype=torch.float32) for each in sides[:2])
        self.y, self.y_val = (torch.tensor(each) for each in sides[2:])

    def pace(self, examples: object, at_once: int) -> None:
        return None  # not measured: the first epochs will tell

    def train(self, settings: Settings, state: Path, key: str) -> Iterator[Epoch]:
        generator = torch.Generator().manual_seed(settings["seed"])
        hidden, output = nn.Linear(64, settings["width"]), nn.Linear(settings["width"], 10)
        for parameter in (*hidden.parameters(), *output.parameters()):
            nn.init.normal_(parameter, std=0.1, generator=generator)
        activation = nn.ReLU() if settings["activation"] == "relu" else nn.Tanh()
        net = nn.Sequential(hidden, activation, output)
        optimizer = torch.optim.SGD(net.parameters(), settings["lr"], momentum=0.9)
        for number in range(1, settings["epochs"] + 1):
            start = time.perf_counter()
            order = torch.randperm(len(self.x), generator=generator)
            for batch in order.split(settings["batch_size"]):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(self.x[batch]), self.y[batch])
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                scores = net(self.x_val)
            right = scores.argmax(1) == self.y_val
            val_loss = nn.functional.cross_entropy(scores, self.y_val).item()
            score, cases = right.float().mean().item(), np.packbits(right.numpy()).tobytes()
            yield Epoch(number, score, {"loss": val_loss}, time.perf_counter() - start, cases)


pipeline = Digits()
