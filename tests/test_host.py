"""Hosts: container limits on cores and memory; missing home and cache folders."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from fer import cgroups, home, machine
from study.workers import pool


def tree(files: dict[str, str]) -> Path:
    """A root folder with these files."""
    for name, text in files.items():
        path = Path("root") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Path("root")


G = "sys/fs/cgroup"
GIB = 1 << 30
VERSION_2 = {
    "proc/self/cgroup": "0::/pod/box",
    f"{G}/pod/cpu.max": "150000 100000",
    f"{G}/pod/memory.max": str(6 * GIB),
    f"{G}/pod/memory.current": str(3 * GIB),
    f"{G}/pod/memory.stat": f"anon 5\ninactive_file {GIB}",
    f"{G}/pod/box/cpu.max": "max 100000",
    f"{G}/pod/box/memory.max": "max",
    f"{G}/pod/box/memory.current": "1000",
}
HIDDEN_2 = {  # as a container with its own name space sees it
    "proc/self/cgroup": "0::/",
    f"{G}/cpu.max": "150000 100000",
    f"{G}/memory.max": str(5 * GIB),
    f"{G}/memory.current": str(GIB),
}
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/docker/box\n3:cpu,cpuacct:/docker/box\n0::/",
    f"{G}/cpu,cpuacct/docker/cpu.cfs_quota_us": "150000",
    f"{G}/cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
    f"{G}/cpu,cpuacct/docker/box/cpu.cfs_quota_us": "-1",
    f"{G}/cpu,cpuacct/docker/box/cpu.cfs_period_us": "100000",
    f"{G}/memory/docker/box/memory.limit_in_bytes": str(6 * GIB),
    f"{G}/memory/docker/box/memory.usage_in_bytes": str(3 * GIB),
    f"{G}/memory/docker/box/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}",
    f"{G}/memory/memory.limit_in_bytes": "9223372036854771712",
    f"{G}/memory/memory.usage_in_bytes": "0",
}
HIDDEN_1 = {  # the path is the host's, the mount that of the container
    "proc/self/cgroup": "4:memory:/docker/0123\n3:cpu:/docker/0123",
    f"{G}/cpu/cpu.cfs_quota_us": "150000",
    f"{G}/cpu/cpu.cfs_period_us": "100000",
    f"{G}/memory/memory.limit_in_bytes": str(5 * GIB),
    f"{G}/memory/memory.usage_in_bytes": str(GIB),
}


@pytest.mark.parametrize("files", [VERSION_2, HIDDEN_2, VERSION_1, HIDDEN_1])
def test_the_smallest_limit_on_the_path_counts(files: dict[str, str]) -> None:
    root = tree(files)
    assert cgroups.cpu_limit(root) == 1.5
    assert cgroups.free_memory(root) == 4 * GIB


def test_without_control_groups_nothing_is_limited() -> None:
    assert (
        cgroups.cpu_limit(Path("nowhere")) == cgroups.free_memory(Path("nowhere")) == float("inf")
    )


def test_workers_fit_the_cores_and_the_memory_of_the_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(cgroups.cpu_limit, "__defaults__", (tree(HIDDEN_2),))
    assert machine.available_cores() == pool.default_processes() == 2
    monkeypatch.setattr(cgroups.cpu_limit, "__defaults__", (Path("nowhere"),))
    assert pool.default_processes() == 64
    monkeypatch.setattr(cgroups.free_memory, "__defaults__", (Path("root"),))
    assert pool.default_processes() == int(4 * GIB / pool.BYTES_PER_WORKER)


class Memory:
    available = 1 << 50


def test_libraries_start_no_more_threads_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine, "available_cores", lambda: 4)
    machine.settle_threads()
    assert os.environ["OMP_NUM_THREADS"] == "4"


@pytest.fixture
def temporary(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, where nothing else is known of a home or a cache."""
    folder = own_folder / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
    for name in ("FER_CACHE", "HOME", "XDG_CACHE_HOME", *home.OF_LIBRARIES):
        monkeypatch.setenv(name, "")  # so that it is as before in the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("JOBLIB_MULTIPROCESSING", "")
    return folder


def test_without_a_home_a_private_temporary_folder_is_used_and_reported(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.environ.get("HOME", "~"))
    note = home.settle()
    spare = temporary / f"fer-study-{os.getuid()}"
    assert note.startswith(f"there is no home folder: cache files are kept in {spare}")
    assert stat.S_IMODE(spare.stat().st_mode) == 0o700
    assert os.environ["HOME"] == str(spare)
    assert home.cached("x").is_relative_to(spare)
    assert home.settle() == ""  # so in processes that this one starts


def test_a_cache_that_cannot_be_written_is_read_and_a_temporary_one_written(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    monkeypatch.setenv("FER_CACHE", "read-only")
    Path("read-only").mkdir()
    Path("read-only/there").touch()
    monkeypatch.setattr(
        os, "access", lambda path, mode: "read-only" not in str(path) or not mode & os.W_OK
    )
    assert "the cache folder read-only cannot be written" in home.settle()
    assert home.cached("there") == Path("read-only/there")
    assert home.cached("new").is_relative_to(temporary)
    assert home.cache_folder() == Path("read-only")


def test_a_temporary_folder_that_others_may_write_to_is_not_used(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = temporary / f"fer-study-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("FER_CACHE", "/dev/null/cache")
    assert "are kept nowhere" in home.settle()
    with pytest.raises(OSError, match="Not a directory"):
        home.cached("x").write_bytes(b"")


def test_a_command_runs_for_a_user_without_home_or_name(own_folder: Path) -> None:
    """Really, where this is run as root: as another user who may read, but has no folder."""
    if os.getuid() or not Path("/usr/bin/setpriv").exists():
        pytest.skip("another user can be had by root alone")
    own_folder.chmod(0o777)
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    setpriv = ("setpriv", "--reuid=54321", "--clear-groups", *reads)
    line = ("-m", "fer.train", "--subset=150", "--epochs=1", "--threads=1", "--no-onnx")
    names = ("HOME", "USER", "LOGNAME", "FER_CACHE", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    with tempfile.TemporaryDirectory() as temporary:  # the test's own is closed to others
        Path(temporary).chmod(0o777)
        done = subprocess.run(
            [*setpriv, sys.executable, *line],
            env={**environment, "TMPDIR": temporary},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert f"kept in {temporary}/fer-study-54321" in notes[0]
    assert "Traceback" not in done.stderr
