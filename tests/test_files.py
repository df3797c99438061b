"""File writes are atomic, and give files the expected mode."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer.errors import UserError
from fer.files import write_file
from tests.conftest import process
from tests.test_imports import ROOT

LIMITED = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); "
LIMITED += "sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__')"


def limited(size: int, module: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A command that can write no file larger than `size` bytes, as on a full disk."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED.format(size), module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def names() -> list[str]:
    """The files in the working folder."""
    return sorted(path.name for path in Path().iterdir())


@pytest.fixture
def small_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_what_does_not_fit_leaves_the_former_file_and_nothing_beside_it(small_files: None) -> None:
    Path("page").write_text("before")
    with pytest.raises(UserError, match=r"cannot write page: File too large"):
        write_file(Path("page"), "x" * 5000)
    assert Path("page").read_text() == "before"
    assert names() == ["page"]


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(umask: None) -> None:
    write_file(Path("new"), b"")
    Path("old").touch(0o600)
    write_file(Path("old"), "changed")
    assert [Path(name).stat().st_mode & 0o777 for name in ("new", "old")] == [0o640, 0o600]


def test_links_are_followed_and_pipes_and_devices_are_written_to() -> None:
    Path("target").write_text("")
    Path("link").symlink_to("target")
    write_file(Path("link"), "through")
    assert Path("link").is_symlink()
    assert Path("target").read_text() == "through"
    write_file(Path(os.devnull), "gone")
    assert Path(os.devnull).is_char_device()
    code = "from fer.files import *; write_file(Path('/dev/stdout'), 'said')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "said"


def test_a_name_as_long_as_a_file_system_allows_is_written() -> None:
    path = Path("é" * 125 + ".json")
    write_file(path, "{}")
    assert path.read_text() == "{}"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the study "blobs"."""
    url = f"sqlite:///{tmp_path_factory.mktemp('searched')}/studies.db"
    line = ("--pipeline", "tests.blobs:pipeline", "--trials", 3, "--workers", 1)
    done = process("study.run", *line, "--study", "blobs", "--storage", url)
    assert done.code == 0, done
    return url


@pytest.mark.parametrize(
    "command",
    [
        ("study.report", "--study", "blobs", "--out", "out.html"),
        ("study.results", "--out", "."),
        ("study.export", "--study", "blobs", "--out", "out"),
    ],
)
def test_a_full_disk_leaves_no_part_of_a_page(command: tuple[str, ...], searched: str) -> None:
    Path("out").write_text("before")
    Path("out.html").write_text("before")
    Path("results.md").write_text("before")
    files = names()
    done = limited(300, *command, "--storage", searched)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: cannot write .*: File too large\n", done.stderr)
    assert names() == files
    assert all(Path(name).read_text() == "before" for name in ("out", "out.html", "results.md"))


def test_weights_settings_and_metrics_have_the_same_mode(umask: None) -> None:
    line = ("--subset", 150, "--epochs", 1, "--threads", 1, "--out", "run", "--no-onnx")
    assert process("fer.train", *line).code == 0
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in Path("run").iterdir()}
    assert set(modes.values()) == {"0o640"}, modes


def test_no_module_writes_a_file_in_another_way() -> None:
    """Appending, locks and SQLite's own apart."""
    direct = r"\.write_text\(|\.write_bytes\(|\.savefig\(|save_file\(|\.to_csv\(|open\([^)]*\"w"
    found = {
        str(file.relative_to(ROOT))
        for package in ("fer", "study", "bench")
        for file in (ROOT / package).rglob("*.py")
        if re.search(direct, file.read_text())
    }
    # files.py itself; the gallery draws into memory; the decoder silences a library.
    expected = {"fer/files.py", "fer/pages/gallery.py", "fer/data/decode.py"}
    # An actor's state in a temporary folder; logs and stand-ins of benchmarks.
    assert found == expected | {"study/workers/actor.py", "bench/gpu.py", "bench/workers.py"}
