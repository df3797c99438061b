"""Learning rate schedules."""

import math

from fer.config import Config

# One-cycle, with the defaults of PyTorch's OneCycleLR.
RISE = 0.3  # share of the steps in which the rate rises
START = 1 / 25  # initial rate relative to the highest
END = 1 / 250_000  # final rate relative to the highest


def rates(config: Config, epoch: int, steps: int) -> list[float]:
    """Return the learning rates of the `steps` steps of an epoch (from 1) of `config.epochs`.

    "cosine" anneals from `config.lr` to zero over the whole run (arXiv 1608.03983, without
    restarts); "one-cycle" warms up to it first (arXiv 1708.07120, without a momentum cycle).
    """
    if config.schedule == "constant":
        return [config.lr] * steps
    total = config.epochs * steps
    last = max(total - 1, 1)
    done = range((epoch - 1) * steps, epoch * steps)
    if config.schedule == "cosine":
        return [_between(config.lr, 0.0, step / last) for step in done]
    top = max(RISE * total - 1, 1)
    return [
        _between(config.lr * START, config.lr, step / top)
        if step <= top
        else _between(config.lr, config.lr * END, (step - top) / (last - top))
        for step in done
    ]


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
