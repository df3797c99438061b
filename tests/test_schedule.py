"""Learning rate schedules match PyTorch's step by step, and reach the optimizer."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.optim import SGD, lr_scheduler

from fer.config import Config
from fer.training.fit import Run, fit
from fer.training.schedule import rates
from tests.conftest import drawn_faces


def course(config: Config, steps: int) -> list[float]:
    return [rate for n in range(config.epochs) for rate in rates(config, n + 1, steps)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_the_rates_are_those_of_pytorchs_schedulers(schedule: str) -> None:
    config = Config.model_validate({"lr": 0.3, "epochs": 4, "schedule": schedule})
    steps, total = 5, 20
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    kinds: dict[str, Callable[[SGD], lr_scheduler.LRScheduler]] = {
        "constant": partial(lr_scheduler.ConstantLR, factor=1.0),
        "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=total - 1),
        "one-cycle": partial(lr_scheduler.OneCycleLR, max_lr=0.3, total_steps=total),
    }
    scheduler = kinds[schedule](optimizer)
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    found = course(config, steps)
    assert found == pytest.approx(expected)


def test_every_step_of_a_run_has_its_rate() -> None:
    faces = drawn_faces(65)
    config = Config(batch_size=32, epochs=2, schedule="cosine", oversample="none", threads=1)
    run = Run(config, faces, torch.device("cpu"))
    used: list[float] = []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: used.append(float(optimizer.param_groups[0]["lr"]))
    )
    assert len(list(fit(run, faces))) == 2
    assert used == pytest.approx(course(config, 2))  # 65 images: 32 and 33


def test_a_single_step_trains() -> None:
    config = Config(batch_size=64, epochs=1, schedule="one-cycle", oversample="none", threads=1)
    faces = drawn_faces(21)
    assert len(list(fit(Run(config, faces, torch.device("cpu")), faces))) == 1
