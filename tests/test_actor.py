"""The checkpoints that a Ray actor keeps, without a cluster."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not find_spec("ray"), reason="the extra [ray] is not installed")


def another() -> "subprocess.Popen[str]":
    """A process that has a folder with a checkpoint; its first line is the folder."""
    code = (
        "from study.workers.actor import locked_folder; import sys\n"
        "folder, _ = locked_folder(); (folder / 'a.state').write_bytes(b'1')\n"
        "print(folder, flush=True); sys.stdin.read()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def folder_of(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_the_next_actor_removes_the_folder_of_a_killed_one_and_leaves_that_of_a_living_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with another() as dead, another() as alive:
        killed, kept = folder_of(dead), folder_of(alive)
        dead.kill()
        dead.wait()
        with another() as last:
            own = folder_of(last)
            assert set(tmp_path.glob("study-*")) == {own, kept}
            assert (kept / "a.state").exists()
            assert not killed.exists()
            last.communicate()
        alive.communicate()
