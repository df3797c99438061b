"""A training step on a GPU: `fer.training.fit.step` in half as many kernels."""

from typing import Any

import torch

from fer.training.augment import augment, scale
from fer.training.gpu_batch import gather, judge

Run = Any
"""`fer.training.fit.Run`; importing it would be circular."""


def levels_of(run: Run) -> torch.Tensor:
    """Return the network's input value [256] of each grey value, in the dtype of its input."""
    grey = torch.arange(256, dtype=torch.uint8, device=run.device)
    levels = scale(grey, run.config.scaling).flatten()
    config = run.config
    rounds_later = config.rotation or config.zoom or config.erasing
    return levels.bfloat16() if run.net.in_bfloat16 and not rounds_later else levels


def step(run: Run, size: int) -> None:
    """Train on the next `size` images of the epoch."""
    config, draws = run.config, run.draws
    run.set_rate()
    corners = None
    if draws.top is not None and draws.left is not None and not (config.rotation or config.zoom):
        corners = draws.top, draws.left  # rotation and zoom come before the crop
    images, labels = gather(
        run.train.images, run.train.labels, draws.order, draws.mirrored, corners,
        config.crop_padding, run.place, size, run.levels,
    )  # fmt: skip
    rest = draws._replace(mirrored=None)
    if corners is not None:
        rest = rest._replace(top=None, left=None)
    kept = None
    if any(each is not None for each in rest[1:]):
        drawn = rest.at(run.place + run.offsets[:size])
        images, kept = augment(images, config, drawn), drawn.kept
    scores = run.net(images, kept)
    run.optimizer.zero_grad()
    gradient = judge(
        scores.detach(), labels, config.label_smoothing, run.loss_sum, run.right, run.place
    )
    scores.backward(gradient)
    run.optimizer.step()
