"""Studies that are killed, run out of memory or lose their database, through the real command.

`CHAOS_KILLS=50 CHAOS_SEED=3 pytest -n 0 -s tests/test_survival.py -k any_moment` kills more often,
at other moments.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from optuna.trial import TrialState

from bench.harness import Server, has_report
from fer.signals import SAME
from study.pipeline import Epoch
from study.storage import records
from tests.blobs import Blobs
from tests.conftest import process, trials

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
SMALL = ("--study", "small", "--workers", "2")
# Only what is around the training matters: 20 epochs of a tenth of a second each.
PACED = (*SMALL, "--pipeline", "tests.paced:long", "--pruner", "none")
# Enough trials that the study outlasts the kills.
LONG = (*PACED, "--trials", str(4 + 2 * KILLS))


def begin(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
    """A study in the background, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "study.run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def workers(running: "subprocess.Popen[str]") -> list[psutil.Process]:
    try:
        children = psutil.Process(running.pid).children()
        return [child for child in children if "study.workers.worker" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def wait_for_report(running: "subprocess.Popen[str]", database: Path = Path("studies.db")) -> None:
    """Return once an epoch is stored; a study that ends first has failed."""
    until = time.monotonic() + 600  # far beyond what a slow machine takes
    while running.poll() is None and time.monotonic() < until:
        if has_report(database):
            return
        time.sleep(0.05)
    running.kill()
    raise AssertionError(running.communicate())


def sound(path: str = "studies.db") -> bool:
    with closing(sqlite3.connect(path)) as connection:
        verdict: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return verdict == "ok"


def test_kill_9_at_any_moment_loses_nothing_but_the_epoch_in_flight() -> None:
    draw = random.Random(SEED)
    killed: Counter[str] = Counter()
    children: list[psutil.Process] = []
    running = begin(*LONG)
    outputs = []
    while sum(killed.values()) < KILLS:
        time.sleep(draw.uniform(0.0, 4.0))
        target = draw.choice(["a worker", "a worker", "all workers", "the parent"])
        if running.poll() is not None:
            outputs.append(running.communicate()[0])
            assert running.returncode == 0, outputs[-1]
            break  # it was faster than the kills
        victims = workers(running)
        children += victims
        if target == "the parent":
            running.kill()
            outputs.append(running.communicate()[0])
            running = begin(*LONG)
        else:
            for victim in draw.sample(
                victims, 1 if target == "a worker" and victims else len(victims)
            ):
                victim.kill()
        killed[target] += bool(victims) or target == "the parent"
    outputs.append(running.communicate(timeout=300)[0])
    print(f"\nkilled {dict(killed)} of {KILLS}, seed {SEED}")
    last = process("study.run", *LONG)
    assert last.code == 0, last
    for output in outputs:
        assert "Traceback" not in output, output

    survivors = trials()
    states = Counter(trial.state for trial in survivors)
    total = 4 + 2 * KILLS
    assert states[TrialState.COMPLETE] == total, states
    assert states[TrialState.RUNNING] == 0
    numbers = [trial.number for trial in survivors]
    assert numbers == list(range(len(numbers)))
    for trial in survivors:
        if trial.state == TrialState.FAIL:  # hit twice in one epoch
            assert records.kept(trial, records.DEATHS)["times"] == 2
    print(f"failed because hit twice in one epoch: {states[TrialState.FAIL]}")
    assert sound()
    assert not Path("studies.db.checkpoints").exists()
    assert not [child for child in children if child.is_running()]
    # Each has the curve that its settings have undisturbed.
    pipeline = Blobs(epochs=20)
    for trial in survivors:
        if trial.state == TrialState.COMPLETE:
            settings = records.kept(trial, records.CONFIG)
            calm = list(pipeline.train(settings, Path("calm") / f"{trial.number}.npz", "key"))
            epochs = [epoch for epoch in calm if isinstance(epoch, Epoch)]
            assert trial.intermediate_values == {each.number: each.score for each in epochs}
            losses = records.kept(trial, records.RESULT)["curves"]["loss"]
            assert losses == [each.values["loss"] for each in epochs]


def test_a_worker_that_is_killed_is_replaced_and_the_study_continues() -> None:
    running = begin(*PACED, "--trials", 3)
    wait_for_report(running)
    victim = workers(running)[0]
    victim.kill()
    out = running.communicate(timeout=120)[0]
    assert running.returncode == 0, out
    assert "its worker was ended by SIGKILL" in out
    assert "it will be retried" in out
    assert [trial.state for trial in trials()[:3]] == [TrialState.COMPLETE] * 3


def test_ctrl_c_lets_the_epoch_end_and_the_next_run_continues_after_it() -> None:
    options = (*PACED, "--trials", 1, "--workers", 1)
    running = begin(*options)
    wait_for_report(running)
    running.send_signal(signal.SIGINT)
    out = running.communicate(timeout=60)[0]
    assert running.returncode == 130, out
    *_, what, how = out.splitlines()  # and neither a table nor a verdict
    assert "stopped with 0 of 1 trials finished" in what
    assert how == "run the same command to continue"
    (kept,) = Path("studies.db.checkpoints").iterdir()
    stored = trials()[0]
    assert stored.state == TrialState.WAITING
    state = dict(np.load(kept))
    # What the epoch in flight gave is in the database and in the checkpoint.
    scores = {int(number): score for number, score, _ in state["epochs"]}
    assert scores == stored.intermediate_values
    assert len(scores) < 20
    # The next run begins with what the checkpoint says: a marked one shows.
    state["epochs"][0][2] = 12345.0
    with kept.open("wb") as file:
        np.savez(file, **state)
    last = process("study.run", *options)
    assert last.code == 0, last
    losses = records.kept(trials()[0], records.RESULT)["curves"]["loss"]
    assert len(losses) == 20
    assert losses[0] == 12345.0


def test_a_lost_checkpoint_is_reported_and_the_trial_trained_from_its_seed() -> None:
    options = (*PACED, "--trials", 1, "--workers", 1)
    running = begin(*options)
    wait_for_report(running)
    running.kill()
    running.communicate()
    (kept,) = Path("studies.db.checkpoints").glob("*.state")
    kept.unlink()
    last = process("study.run", *options)
    assert last.code == 0, last
    assert "trial 0: its checkpoint is missing" in last.out
    assert list(trials()[0].intermediate_values) == list(range(1, 21))


def test_ctrl_c_twice_stops_at_once() -> None:
    # The second epoch of its trials does not end by itself.
    running = begin(*PACED, "--trials", 2, "--pipeline", "tests.blobs:held")
    wait_for_report(running)
    running.send_signal(signal.SIGINT)
    assert running.stdout is not None
    assert any("stopping after the current epochs" in line for line in running.stdout)
    time.sleep(SAME)  # two signals at once are taken for one
    running.send_signal(signal.SIGINT)
    out = running.communicate(timeout=20)[0]
    assert running.returncode == 130, out
    assert not [trial for trial in trials() if trial.state in records.FINISHED]
    assert TrialState.RUNNING not in [trial.state for trial in trials()]


@pytest.mark.parametrize(
    # Before a study could be lost a signal ends the program itself: a shell calls that 143.
    ("waits_for", "codes"),
    [(None, (-signal.SIGTERM, 130, 143)), ("starting workers", (143,))],
)
def test_a_signal_before_the_first_trial_ends_everything_quietly(
    waits_for: str | None, codes: tuple[int, ...]
) -> None:
    running = begin(*SMALL, "--subset", 150, "--trials", 2, PYTHONUNBUFFERED="1")
    deadline = time.monotonic() + 60
    while len(workers(running)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    children = workers(running)
    assert len(children) == 2
    if waits_for is not None:
        assert running.stdout is not None
        assert any(waits_for in line for line in running.stdout)
    os.killpg(running.pid, signal.SIGTERM)
    out = running.communicate(timeout=30)[0]
    assert running.returncode in codes, out
    assert "Traceback" not in out
    psutil.wait_procs(children, timeout=10)
    assert not [child for child in children if child.is_running()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted on Linux by root alone")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_is_waited_for_and_nothing_is_lost(small_disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{small_disk}/studies.db"
    options = (*PACED, "--storage", url, "--trials", 3)
    running = begin(*options, "--checkpoints", tmp_path, PYTHONUNBUFFERED="1")
    wait_for_report(running, small_disk / "studies.db")
    fill(small_disk)
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if "waiting for the storage" in line:
            break
    (small_disk / "filler").unlink()
    out = "".join(lines) + running.communicate(timeout=120)[0]
    assert running.returncode == 0, out
    assert "waiting for the storage: database or disk is full" in out
    assert sound(f"{small_disk}/studies.db")
    for trial in trials(url)[:3]:
        assert trial.state == TrialState.COMPLETE
        assert list(trial.intermediate_values) == list(range(1, 21))


def test_a_disk_that_stays_full_ends_in_one_line_and_the_next_run_completes(
    small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from study.storage import retry; retry.PATIENCE = 2"
    )
    url = f"sqlite:///{small_disk}/studies.db"
    options = (*PACED, "--storage", url, "--trials", 2)
    elsewhere = ("--checkpoints", tmp_path / "checkpoints")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    running = begin(*options, *elsewhere, PYTHONPATH=path)
    wait_for_report(running, small_disk / "studies.db")
    while running.poll() is None:  # SQLite makes room for itself now and then
        fill(small_disk)
    out = running.communicate()[0]
    assert running.returncode == 2, out
    assert out.splitlines()[-1].startswith("error: the storage has been unreachable for 2 s: ")
    assert "run the same command to continue" in out
    assert "Traceback" not in out
    (small_disk / "filler").unlink()
    assert sound(f"{small_disk}/studies.db")
    last = process("study.run", *options, *elsewhere)
    assert last.code == 0, last
    assert [trial.state for trial in trials(url)[:2]] == [TrialState.COMPLETE] * 2


def test_a_database_server_that_goes_away_is_waited_for(
    server: Server, url_of_server: str
) -> None:
    options = (*PACED, "--storage", url_of_server, "--trials", 3)
    running = begin(*options, PYTHONUNBUFFERED="1")
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if line.startswith("plan "):
            server.stop()
        if "waiting for the storage" in line:
            server.start()
            break
    out = "".join(lines) + running.communicate(timeout=120)[0]
    assert running.returncode == 0, out
    stored = trials(url_of_server)
    assert [trial.state for trial in stored[:3]] == [TrialState.COMPLETE] * 3
    for trial in stored[:3]:
        assert list(trial.intermediate_values) == list(range(1, 21))
    assert TrialState.RUNNING not in [trial.state for trial in stored]


def test_a_signal_is_handled_while_the_database_is_away(
    server: Server, url_of_server: str
) -> None:
    running = begin(*PACED, "--storage", url_of_server, "--trials", 3, PYTHONUNBUFFERED="1")
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("plan "):
            server.stop()
        if "waiting for the storage" in line:
            break
    try:
        running.send_signal(signal.SIGTERM)
        running.send_signal(signal.SIGTERM)
        out = running.communicate(timeout=20)[0]
    finally:
        server.start()
    assert running.returncode == 2, out
    assert "error: stopped while the storage is unreachable" in out
    assert "Traceback" not in out
