"""Where a run is computed."""

from typing import Literal

import torch

from fer.errors import UserError

Device = Literal["auto", "cpu", "cuda"]


def choose(device: Device) -> torch.device:
    """The device meant; `auto` is the GPU if there is one. Raises UserError if it is missing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device that PyTorch can use")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
