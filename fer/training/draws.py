"""All random numbers of an epoch, drawn before it: steps draw nothing themselves.

So a step can be part of a CUDA graph, and its results depend neither on how many steps are
launched at once nor on what else the device computes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fer.config import Config
from fer.network.model import features


class Draws(NamedTuple):
    """Random numbers by position in the epoch, [N] each; None where the settings need none."""

    order: Tensor  # int64: index of the image
    mirrored: Tensor | None  # bool
    degrees: Tensor | None  # float32: rotation
    top: Tensor | None  # int64: corner of the crop of the padded image
    left: Tensor | None
    factors: Tensor | None  # float32: zoom
    erased: Tensor | None  # float32 [N, 5] in [0, 1): see fer.training.augment.erase
    kept: Tensor | None  # bool [N, features]: dropout mask, true where kept

    def at(self, places: Tensor) -> "Draws":
        """Return the numbers at some positions (int64)."""
        return Draws(*(None if each is None else each[places] for each in self))  # type: ignore[arg-type]


def make_draws(config: Config, count: int, device: torch.device) -> Draws:
    """Allocate buffers for the draws of an epoch of `count` images."""

    def room(wanted: object, dtype: torch.dtype, *shape: int) -> Tensor | None:
        return torch.empty(count, *shape, dtype=dtype, device=device) if wanted else None

    return Draws(
        order=torch.empty(count, dtype=torch.int64, device=device),
        mirrored=room(config.mirror, torch.bool),
        degrees=room(config.rotation, torch.float32),
        top=room(config.crop_padding, torch.int64),
        left=room(config.crop_padding, torch.int64),
        factors=room(config.zoom, torch.float32),
        erased=room(config.erasing, torch.float32, 5),
        kept=room(config.dropout, torch.bool, features(config)),
    )


def redraw(
    draws: Draws, config: Config, generator: torch.Generator, device_generator: torch.Generator
) -> None:
    """Redraw in place: the order from `generator` (CPU), the rest on the device."""
    draws.order.copy_(torch.randperm(len(draws.order), generator=generator))
    if draws.mirrored is not None:
        draws.mirrored.bernoulli_(0.5, generator=device_generator)
    if draws.degrees is not None:
        draws.degrees.uniform_(-config.rotation, config.rotation, generator=device_generator)
    for side in (draws.top, draws.left):
        if side is not None:
            side.random_(0, 2 * config.crop_padding + 1, generator=device_generator)
    if draws.factors is not None:
        draws.factors.uniform_(1 - config.zoom, 1 + config.zoom, generator=device_generator)
    if draws.erased is not None:
        draws.erased.uniform_(generator=device_generator)
    if draws.kept is not None:
        draws.kept.bernoulli_(1 - config.dropout, generator=device_generator)
