"""The course of the learning rate."""

import math

from fer.config import Config

# Of one-cycle, as in PyTorch's OneCycleLR.
RISE = 0.3  # part of the steps in which it rises
START = 1 / 25  # of the highest
END = 1 / 250_000


def rates(config: Config, epoch: int, steps: int) -> list[float]:
    """Learning rates of the `steps` steps of an epoch (from 1) of `config.epochs`.

    "cosine" falls from `config.lr` toward zero over the whole run (arXiv 1608.03983, without
    restarts); "one-cycle" rises to it first (arXiv 1708.07120, without a cycle of momentum).
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
