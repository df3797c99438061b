"""Optimizers, each in its fastest form for the device."""

from typing import Any

import torch
from torch import nn, optim

from fer.config import Config

KINDS: dict[str, type[optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "adamax": optim.Adamax,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
    "asgd": optim.ASGD,
    "rprop": optim.Rprop,
}
# Fused: one pass over all weights instead of a dozen per tensor. The others have no fused version;
# fused SGD on a CPU is slower than the default.
FUSED = {"cpu": ("adam", "adamw", "adagrad"), "cuda": ("adam", "adamw", "adagrad", "sgd")}
# Graph-safe without `capturable`: no step count, or on the GPU when fused.
WITHOUT_CAPTURABLE = ("sgd", "adagrad")


def make_optimizer(config: Config, net: nn.Module) -> optim.Optimizer:
    """Return the optimizer, with PyTorch's defaults for what the config does not set.

    With a schedule its learning rate is a tensor, which every step updates.
    """
    device = next(net.parameters()).device.type
    settings: dict[str, Any] = {"lr": config.lr}
    if config.schedule != "constant":
        settings["lr"] = torch.tensor(config.lr, device=device)
    if config.momentum:
        settings["momentum"] = config.momentum
        if config.optimizer == "sgd":
            settings["nesterov"] = True
    if config.optimizer != "rprop":
        settings["weight_decay"] = config.weight_decay
    if config.optimizer in FUSED[device]:
        settings["fused"] = True
    if device == "cuda" and config.optimizer not in WITHOUT_CAPTURABLE:
        settings["capturable"] = True
    return KINDS[config.optimizer](net.parameters(), **settings)
