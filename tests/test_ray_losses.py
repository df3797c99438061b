"""Whatever is lost of a Ray cluster, a study has its trials and each its curve."""

import os
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
from optuna.trial import TrialState

from bench.harness import has_report
from fer.errors import UserError
from study.storage import records, studies
from tests.clusters import NEEDS_RAY, PATIENCE, Nodes, begin, cluster, curves, options, wait_for
from tests.conftest import process, trials

pytestmark = NEEDS_RAY


def test_whatever_dies_the_study_has_its_trials_and_each_the_curve_of_its_settings(
    nodes: Nodes, command: Any
) -> None:
    total = 24  # enough that the study outlasts what happens to it
    given = options("--trials", total, "--pruner", "none", "--ray", nodes.address)
    running = begin(*given)
    wait_for(lambda: has_report(Path("ray.db")), running)
    nodes.tell("remove")
    outputs = [said_until("was lost, in epoch", running)]
    nodes.workers()[0].kill()
    nodes.tell("add")
    wait_for(lambda: len(nodes.workers()) == 3, running)
    running.kill()
    outputs.append(running.communicate()[0])
    until = time.monotonic() + PATIENCE
    while nodes.workers():  # nobody is left behind
        assert time.monotonic() < until
        time.sleep(0.05)
    running = begin(*given)
    wait_for(nodes.workers, running)
    nodes.tell("add")
    outputs.append(running.communicate(timeout=PATIENCE)[0])
    nodes.tell("remove")
    assert running.returncode == 0, outputs
    assert "Traceback" not in "".join(outputs)
    assert "its checkpoint is missing" not in "".join(outputs), outputs  # nor begun again

    found = trials("sqlite:///ray.db")
    assert Counter(trial.state for trial in found) == {TrialState.COMPLETE: total}
    assert [trial.number for trial in found] == list(range(total))
    assert all(list(trial.intermediate_values) == list(range(1, 9)) for trial in found)
    where = ("--pipeline", "tests.paced:pipeline", "--storage", "sqlite:///ray.db")
    for number in range(2):  # those that were begun when things died
        again = command("study.replay", "--study", "small", "--trial", number, *where)
        assert again.code == 0, again


def test_a_node_that_falls_silent_and_comes_back_changes_nothing() -> None:
    given = ("--trials", 8, "--pruner", "none", "--sampler", "random")
    with cluster(2, "impatient") as few:
        running = begin(*options(*given, "--ray", few.address, pipeline="brisk"))
        wait_for(lambda: has_report(Path("ray.db")), running)
        silent = few.silence_a_node()
        lines = [said_until("was lost, in epoch", running)]
        for each in silent:
            with suppress(psutil.NoSuchProcess):
                each.resume()
        lines.append(running.communicate(timeout=PATIENCE)[0])
    assert running.returncode == 0, lines
    near = process("study.run", *options(*given, pipeline="brisk", name="local"))
    assert near.code == 0, near
    assert curves(trials("sqlite:///ray.db")) == curves(trials("sqlite:///local.db"))


def said_until(words: str, running: "subprocess.Popen[str]") -> str:
    """What a command prints up to the line with these words."""
    assert running.stdout is not None
    said = ""
    while words not in said:
        line = running.stdout.readline()
        assert line, said
        said += line
    return said


def test_commands_with_a_cluster_each_share_one_study(nodes: Nodes, url_of_server: str) -> None:
    total = 18
    given = options("--trials", total, "--pruner", "none", pipeline="brisk", name=url_of_server)
    with cluster(1) as other:
        first = begin(*given, "--ray", nodes.address)
        wait_for(lambda: first.pid in owners(url_of_server), first)
        second = begin(*given, "--ray", other.address)
        wait_for(lambda: second.pid in owners(url_of_server), second)
        second.kill()
        second.communicate()
        out = first.communicate(timeout=PATIENCE)[0]
    assert first.returncode == 0, out
    assert "taking over 1 trial of a process that is gone" in out
    found = trials(url_of_server)
    assert Counter(trial.state for trial in found) == {TrialState.COMPLETE: total}
    assert [trial.number for trial in found] == list(range(total))
    assert all(list(trial.intermediate_values) == list(range(1, 9)) for trial in found)


def owners(url: str) -> set[int]:
    """The processes that run trials of a database, if there is a study yet."""
    with suppress(UserError):
        return {
            records.kept(trial, records.OWNER)["process"]
            for study in studies.load_studies(url)
            for trial in study.get_trials(states=(TrialState.RUNNING,))
        }
    return set()


def test_a_cluster_that_is_gone_ends_the_study_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from study.workers import cluster; cluster.GONE_SECONDS = 3"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    given = ("--trials", 5, "--pruner", "none")
    with cluster(1) as alone:
        running = begin(*options(*given, "--ray", alone.address), PYTHONPATH=path)
        wait_for(lambda: has_report(Path("ray.db")), running)
        for each in psutil.Process(alone.controller.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        alone.controller.kill()
        out = running.communicate(timeout=PATIENCE)[0]
    assert running.returncode == 2, out
    assert "the cluster's head is gone" in out.splitlines()[-1]
    assert "Traceback" not in out
    done = process("study.run", *options(*given))
    assert done.code == 0, done
    assert len(trials("sqlite:///ray.db")) == 5


def test_only_a_node_that_is_gone_excuses_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError

    from study.workers import ray_pool

    said = "1 worker(s) were killed due to the node running low on memory"
    full: RayError = OutOfMemoryError(said)  # type: ignore[no-untyped-call]
    monkeypatch.setattr(ray_pool, "alive", lambda: [{"NodeID": "here"}])
    handle: Any = mock.Mock()
    here, there = (ray_pool.Worker(handle, None, [0], "a", each) for each in ("here", "there"))
    for error in (full, RayActorError()):
        assert not ray_pool.is_lost(here, error)
        assert ray_pool.is_lost(there, error)
    assert ray_pool.is_lost(here, ActorUnavailableError("no connection", b"1" * 16))
