"""Sixteen processes on one database, and a second command that joins a study."""

import subprocess
import sys
from collections import Counter

import pytest

from bench.writers import STUDY, write_together
from study.storage import records
from tests.conftest import trials

pytestmark = pytest.mark.long

PACED = ("--pipeline", "tests.paced:brisk", "--study", "shared", "--workers", "1")


def test_sixteen_writers_lose_no_report_and_keep_the_total(url: str) -> None:
    total = 120
    writers = write_together(url, 16, total)
    stored = trials(url, STUDY)
    assert [trial.number for trial in stored] == list(range(total))
    assert all(trial.state in records.FINISHED for trial in stored)
    assert sum(len(writer.reports) for writer in writers) == total
    for writer in writers:
        for number, accuracies in writer.reports.items():
            values = stored[number].intermediate_values  # a server gives rows in any order
            assert [values[step] for step in sorted(values)] == accuracies
            assert len(stored[number].params) == 8


def test_a_second_shell_joins_the_study_and_the_total_stays(url: str) -> None:
    # Without a pruner, as a second chance has the settings of the trial that it continues.
    options = ("--storage", url, "--trials", "12", "--pruner", "none")
    command = [sys.executable, "-m", "study.run", *PACED, *options]
    shells = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [shell.communicate(timeout=180)[0] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0], outputs
    stored = trials(url, "shared")
    assert [trial.number for trial in stored] == list(range(12))
    assert {trial.state for trial in stored} <= set(records.FINISHED)
    # The settings to begin with were queued once, and each was trained by one of the two.
    origins = Counter(trial.user_attrs.get(records.ORIGIN, "search") for trial in stored)
    assert origins == {"control": 1, "fast": 1, "search": 10}
    lines = [sum(line.startswith("trial ") for line in output.splitlines()) for output in outputs]
    assert sum(lines) == 12
    assert min(lines) > 0
    # Their samplers drew from seeds of their own.
    drawn = [tuple(trial.params.items()) for trial in stored]
    assert len(set(drawn)) == 12
