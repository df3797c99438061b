"""What this computer has, told without loading a library."""

import os
import platform
from pathlib import Path


def available_cores() -> int:
    """Processor cores this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def has_gpu() -> bool:
    """Whether there seems to be an NVIDIA GPU."""
    return any(Path("/dev").glob("nvidia[0-9]*"))
