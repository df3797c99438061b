"""Choose the device of a run, and settle what its settings leave to the device."""

import sys
from typing import Literal

import torch

from fer.config import Config
from fer.errors import UserError
from fer.machine import available_cores
from fer.network.kernels import kernels_for

Device = Literal["auto", "cpu", "cuda"]


def choose(device: Device) -> torch.device:
    """Return the device; `auto` is the GPU if there is one that PyTorch has kernels for.

    Raises UserError if "cuda" is not available.
    """
    if device == "cpu":
        return torch.device("cpu")
    lacking = "this machine has no CUDA device that PyTorch can use"
    if torch.cuda.is_available():
        lacking = _unsupported()
        if lacking and device == "auto":
            print(f"note   using the CPU: {lacking}", file=sys.stderr, flush=True)
    if lacking and device == "cuda":
        raise UserError(f"--device cuda: {lacking}")
    return torch.device("cpu" if lacking else "cuda")


def _unsupported() -> str:
    """Return why the installed PyTorch cannot use the first GPU, or "" if it can.

    PyTorch ships machine code for some compute capabilities (sm_90), which later minor versions
    also run, and sometimes PTX (compute_90), which all later capabilities run.
    """
    major, minor = torch.cuda.get_device_capability(0)
    for kind, _, number in (each.partition("_") for each in torch.cuda.get_arch_list()):
        if not number.isdigit():  # sm_90a: specific to that capability
            continue
        made = divmod(int(number), 10)
        if made <= (major, minor) and (kind == "compute" or made[0] == major):
            return ""
    return (
        f"{torch.cuda.get_device_name(0)} has compute capability {major}.{minor}, for which the "
        f"installed PyTorch {torch.__version__} has no kernels"
    )


def settle(config: Config, device: torch.device) -> Config:
    """Return `config` with its automatic settings resolved for `device`.

    `auto` precision is bfloat16 where the device supports it natively; 0 threads means one per
    core. Called before a run and stored with it, so that its arithmetic can be repeated.
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
    """Describe what computes a settled `config` on `device`. Compiles the kernels if needed."""
    kernels = kernels_for(device).description
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {config.precision}, {kernels}, CUDA graphs"
    threads = f"{config.threads} thread{'s' if config.threads > 1 else ''}"
    return f"{device}, {threads}, {config.precision}, {kernels}"
