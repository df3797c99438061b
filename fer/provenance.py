"""What results depend on apart from settings and data: code, packages, device."""

from importlib.metadata import version
from pathlib import Path

import torch

from fer.syntax import syntax_hash

PACKAGES = ("torch", "numpy", "scikit-learn", "optuna")
# Modules that determine results; others may change during a study. Settings are stored with each
# trial, and compiled kernels have their own name in the identity.
SOURCES = (
    "data/split.py",
    "network/block.py",
    "network/model.py",
    "network/prelu.py",
    "training/augment.py",
    "training/draws.py",
    "training/evaluation.py",
    "training/fit.py",
    "training/launch.py",
    "training/metrics.py",
    "training/optimizers.py",
    "training/schedule.py",
    "training/stream.py",
)
OF_A_HOLDOUT = ("data/holdout.py", "training/look.py")
OF_A_GPU = (
    "network/gpu_kernels.py",
    "network/gpu_net.py",
    "training/cuda.py",
    "training/gpu_batch.py",
    "training/gpu_step.py",
)

# Versions that compute on a processor what an older one did, to the last bit: its name stays.
SAME = {"32540b1e276d": "7daaf27bf4fe", "bcf5136fb3fd": "276542f5641c"}


def code_version(device: torch.device, holdout: bool = False) -> str:
    """Return a hash (12 hexadecimal digits) of the code that trains and scores.

    With `holdout` it includes the code of the holdout.
    """
    package = Path(__file__).parent
    sources = [*SOURCES, *(OF_A_GPU if device.type == "cuda" else ())]
    sources += OF_A_HOLDOUT if holdout else ()
    modules = {file.stem for file in package.rglob("*.py")}
    computed = syntax_hash([package / name for name in sources], modules)[:12]
    return SAME.get(computed, computed)


def versions() -> dict[str, str]:
    """Return the versions of the packages that training and search depend on."""
    return {name: version(name) for name in PACKAGES}


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the instruction set that PyTorch uses on this CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"
