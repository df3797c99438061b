"""What a run's numbers depend on beside its settings and its data: code, packages, device."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("torch", "numpy", "scikit-learn", "optuna")
# The modules that decide what a trial's numbers are; the others may change under a study.
SOURCES = (
    "augment.py",
    "block.py",
    "config.py",
    "data/split.py",
    "draws.py",
    "fit.py",
    "gpu_kernels.py",
    "kernels.cpp",
    "kernels.py",
    "launch.py",
    "metrics.py",
    "model.py",
    "optimizers.py",
    "prelu.py",
    "schedule.py",
)


def code_version() -> str:
    """A hash (12 hexadecimal digits) of the code that trains and scores."""
    content = hashlib.sha256()
    for name in SOURCES:
        content.update((Path(__file__).parent / name).read_bytes())
    return content.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of the packages that training and searching depend on."""
    return {name: version(name) for name in PACKAGES}


def device_name(device: torch.device) -> str:
    """The GPU's name, or the instructions for which PyTorch's code on this processor is made."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def machine() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
