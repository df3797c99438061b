"""Where a run is computed."""

from typing import Literal

import torch

from fer.config import Config
from fer.errors import UserError
from fer.machine import available_cores
from fer.network.kernels import kernels_for

Device = Literal["auto", "cpu", "cuda"]


def choose(device: Device) -> torch.device:
    """The device meant; `auto` is the GPU if there is one. Raises UserError if it is missing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device that PyTorch can use")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def settle(config: Config, device: torch.device) -> Config:
    """`config` with what it leaves open decided for `device`.

    `auto` precision is bfloat16 where the device computes in it natively; 0 threads are one a
    core. Settled before a run and stored with it, so that the same arithmetic can be repeated.
    """
    settled = config.model_copy(update={"threads": config.threads or available_cores()})
    if config.precision != "auto":
        return settled
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Without these instructions bfloat16 is emulated, slower than float32.
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return settled.model_copy(update={"precision": "bfloat16" if native else "float32"})


def in_words(device: torch.device, config: Config) -> str:
    """What computes a settled `config` on `device`; compiles the kernels if need be."""
    kernels = kernels_for(device).description
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {config.precision}, {kernels}, CUDA graphs"
    threads = f"{config.threads} thread{'s' if config.threads > 1 else ''}"
    return f"{device}, {threads}, {config.precision}, {kernels}"
