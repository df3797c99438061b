"""Where a run is computed."""

from typing import Literal

import torch

from fer.config import Config
from fer.errors import UserError
from fer.kernels import load

Device = Literal["auto", "cpu", "cuda"]


def choose(device: Device) -> torch.device:
    """The device meant; `auto` is the GPU if there is one. Raises UserError if it is missing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device that PyTorch can use")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def settle_precision(config: Config, device: torch.device) -> Config:
    """`config` with `auto` precision replaced: bfloat16 where `device` computes in it natively.

    Settled before a run and stored with it, so that another machine repeats the same arithmetic.
    """
    if config.precision != "auto":
        return config
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Without these instructions bfloat16 is emulated, slower than float32.
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return config.model_copy(update={"precision": "bfloat16" if native else "float32"})


def in_words(device: torch.device, config: Config) -> str:
    """What computes `config` on `device`, in words; compiles the kernels if need be."""
    words = f"{device}, {config.precision}"
    return f"{words}, {load().description}" if device.type == "cpu" else words
