"""The update rules, in the form that is fastest where they compute."""

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
# One pass over all weights instead of a dozen for each tensor; the other rules have none, and a
# processor's of SGD is slower than the plain one.
FUSED = {"cpu": ("adam", "adamw", "adagrad"), "cuda": ("adam", "adamw", "adagrad", "sgd")}
# These keep no count of steps, or keep it on the GPU if they are fused: a graph can hold them.
WITHOUT_CAPTURABLE = ("sgd", "adagrad")


def make_optimizer(config: Config, net: nn.Module) -> optim.Optimizer:
    """The update rule with PyTorch's defaults for what the Config does not set.

    With a schedule its learning rate is a tensor, which every step sets anew.
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
