"""CPU and memory limits of the container this process runs in (Linux cgroups v2 and v1).

A limit also applies to all nested groups, so the smallest one on the path counts. Where a
container hides the path, its own group appears at the mount point.
"""

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
MOUNTED = "sys/fs/cgroup"


def cpu_limit(root: Path = ROOT) -> float:
    """Number of cores that this process may use at a time; infinite if unlimited.

    `root` is the root of the file system; tests use another.
    """
    limits = [math.inf]
    for group in _groups(root, "cpu"):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):  # "max" or -1: unlimited
            limits.append(int(quota) / int(period))
    return min(limits)


def free_memory(root: Path = ROOT) -> float:
    """Bytes that this process and its children may still allocate; infinite if unlimited.

    Page cache counts as free.
    """
    free = [math.inf]
    for group in _groups(root, "memory"):
        limits = [
            int(text)
            for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
            if (text := _read(group / name)).isdigit()
        ]
        used = _read(group / "memory.current") or _read(group / "memory.usage_in_bytes") or "0"
        cached = 0
        for line in _read(group / "memory.stat").splitlines():
            name, _, count = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):  # the latter: with nested
                cached = max(cached, int(count))
        if limits:
            free.append(max(0, min(limits) - int(used) + cached))
    return min(free)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups, from the innermost to the mount point."""
    mounted = root / MOUNTED
    starts = {mounted: "/", mounted / controller: "/"}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            starts[mounted] = path
        elif controller in controllers.split(","):
            starts[mounted / controller] = path
            starts[mounted / controllers] = path  # "cpu,cpuacct"
    for start, path in starts.items():
        within = start / path.lstrip("/")
        yield from (within, *(each for each in within.parents if each.is_relative_to(start)))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
