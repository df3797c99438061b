"""A dry run of the GPU measurements on a CPU."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bench.__main__
import study.run
from bench import accuracy, gpu
from bench.gpu import copied, means, ran
from bench.preflight import OURS, PACKAGES, missing
from fer import command

SCRIPT = Path(__file__).parents[1] / "bench" / "gpu.sh"


def test_all_that_is_missing_is_named_at_once() -> None:
    lines = missing(("json", "no_such_module", "nor.this"))
    assert [line.split(":")[0] for line in lines] == ["no_such_module", "nor.this"]
    assert missing(PACKAGES) == []
    assert missing(OURS) == []


def test_what_is_in_a_write_ahead_log_is_copied_as_well() -> None:
    with closing(sqlite3.connect("studies.db", isolation_level=None)) as open_still:
        open_still.execute("PRAGMA journal_mode=WAL")
        open_still.execute("CREATE TABLE trials (state TEXT)")
        open_still.executemany("INSERT INTO trials VALUES (?)", [("COMPLETE",), ("PRUNED",)])
        assert Path("studies.db-wal").stat().st_size > 0
        assert copied(Path("studies.db"), Path("copy.db")) == {"COMPLETE": 1, "PRUNED": 1}
    assert not Path("copy.db-wal").exists()
    assert copied(Path("none.db"), Path("other.db")) == {}


def test_a_section_that_takes_too_long_is_stopped_and_says_so() -> None:
    found = ran(Path("log"), 1, "-u", "-c", "import time; print('begun'); time.sleep(600)")
    assert found["exit_code"] == "stopped after 1 s"
    assert ran(Path("log"), 60, "-c", "print('done'); raise SystemExit(3)") | {"seconds": 0} == {
        "exit_code": 3,
        "seconds": 0,
        "last_lines": ["done"],
    }


def test_utilisation_is_a_mean_over_the_samples_and_nothing_without_any() -> None:
    Path("samples").write_text("10, 1000\n30, 3000\n[N/A], 5\n")
    assert means(Path("samples")) == {"percent": 20, "most_memory_mib": 3000}
    assert means(Path("none")) == {}


@pytest.mark.parametrize("data", [None, Path("faces.csv")])
def test_every_section_is_a_command_with_options_that_exist(
    data: Path | None, own_folder: Path
) -> None:
    options = gpu.Options(own_folder, data=data, subset=300, seeds=2)
    found = gpu.sections(options, own_folder)
    assert list(found) == ["study", "tests", "speed", "accuracy"]
    parsers: dict[gpu.Section, Any] = {
        "study": study.run.Options,
        "speed": bench.__main__.Options,
        "accuracy": accuracy.Options,
    }
    for name, parser in parsers.items():
        _, (flag, module, *arguments) = found[name]
        assert flag == "-m"
        parsed = command.parse(parser, module, arguments)
        assert (parsed.subset, parsed.device) == (300, "cuda")


@pytest.mark.long
def test_the_command_is_rehearsed_on_a_processor(own_folder: Path) -> None:
    # The benchmark of the speed is run by its own tests.
    some = ["--only", "study", "tests", "accuracy"]
    few = [*some, "--trials", "2", "--epochs", "1", "--subset", "150", "--seeds", "2"]
    done = subprocess.run(
        [SCRIPT, own_folder / "out", "--device", "cpu", "--patience", "4", *few],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(path.name for path in (own_folder / "out").iterdir())
    assert len(files) <= 8
    results = json.loads((own_folder / "out" / "results.json").read_text())
    assert results["study"]["trials"]["COMPLETE"] == 2
    assert results["accuracy"]["figures"]["best"]
    assert results["machine"]["python"] == sys.version.split()[0]
