"""What this computer has for this process, told without loading a library of arrays."""

import math
import os
import platform
from pathlib import Path

import psutil

from fer import cgroups


def available_cores() -> int:
    """Processor cores this process may use, a part of one counting as one."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cgroups.cpu_limit())))


def available_memory() -> int:
    """Bytes that this process and its children may take without swapping."""
    return int(min(psutil.virtual_memory().available, cgroups.free_memory()))


def limit_threads() -> None:
    """Let libraries, in child processes too, start no more threads than there are cores.

    They count those of the machine, whatever a container is given. To be called before they are
    loaded.
    """
    cores = available_cores()
    if cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


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
