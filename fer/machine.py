"""Resources of this machine, found without loading NumPy or PyTorch."""

import math
import os
import platform
from pathlib import Path

import psutil

from fer import cgroups


def available_cores() -> int:
    """Number of cores this process may use, rounded up."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cgroups.cpu_limit())))


def available_memory() -> int:
    """Bytes that this process and its children may allocate without swapping."""
    return int(min(psutil.virtual_memory().available, cgroups.free_memory()))


def settle_threads() -> None:
    """Limit the threads of libraries, also in child processes, to the available cores, and how
    long they wait busily for each other.

    By default they count the machine's cores, ignoring a container's limit. Call it before they
    are loaded.
    """
    # By default a thread of libgomp waits for others by spinning: 2 to 15 times slower where
    # another program takes a core, 0 to 10% faster where none does.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    cores = available_cores()
    if cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def has_gpu() -> bool:
    """Whether an NVIDIA GPU seems to be present."""
    return any(Path("/dev").glob("nvidia[0-9]*"))
