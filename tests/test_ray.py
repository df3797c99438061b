"""Studies on a real Ray cluster of one-core nodes on this machine, through the real command."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from unittest import mock

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from bench.harness import has_report
from study.storage import records
from tests.conftest import REAL_DATA, process, trials

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not find_spec("ray"), reason="the extra [ray] is not installed"),
]

PATIENCE = 120.0  # seconds that something which happens is waited for


@dataclass
class Nodes:
    """A cluster, run by a process of its own."""

    controller: "subprocess.Popen[str]"
    address: str

    def tell(self, order: str) -> None:
        print(order, file=into(self.controller), flush=True)
        assert says(self.controller) == "done"

    def workers(self) -> list[psutil.Process]:
        """The processes of actors."""
        found = []
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile: what was found before counts
            for each in psutil.Process(self.controller.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    found += [each] if each.name().startswith("ray::Actor") else []
        return found


def into(running: "subprocess.Popen[str]") -> "IO[str]":
    assert running.stdin is not None
    return running.stdin


def says(running: "subprocess.Popen[str]") -> str:
    """The next line of a process, without Ray's own."""
    assert running.stdout is not None
    return next(line.strip() for line in running.stdout if "INFO" not in line)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Three nodes of one core each."""
    with cluster(3) as found:
        yield found


@contextmanager
def cluster(count: int) -> Iterator[Nodes]:
    """A cluster of one-core nodes, whose processes are gone afterwards."""
    controller = subprocess.Popen(
        [sys.executable, "-m", "tests.nodes", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    address = says(controller)
    everything = psutil.Process(controller.pid).children(recursive=True)
    try:
        yield Nodes(controller, address)
    finally:
        controller.communicate()
        for each in everything:
            if each.is_running():
                each.kill()


def options(*more: object, pipeline: str = "pipeline", name: str = "ray") -> list[str]:
    url = f"sqlite:///{name}.db"
    given = ("--pipeline", f"tests.paced:{pipeline}", "--study", "small", "--storage", url, *more)
    return [str(each) for each in given]


def begin(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "study.run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def wait_for(what: Any, running: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def curves(found: list[FrozenTrial]) -> list[Any]:
    return [
        (each.state, each.params, each.intermediate_values, each.values, losses(each))
        for each in found
        if each.state in records.FINISHED
    ]


def losses(trial: FrozenTrial) -> Any:
    return records.kept(trial, records.RESULT)["curves"]


def test_a_study_on_a_cluster_is_trial_for_trial_the_one_on_local_processes(nodes: Nodes) -> None:
    given = ("--trials", 14, "--workers", 3)
    far = process("study.run", *options(*given, pipeline="quick"), "--ray", nodes.address)
    near = process("study.run", *options(*given, pipeline="quick", name="local"))
    assert (far.code, near.code) == (0, 0), (far, near)
    assert far.err == ""
    assert "3 workers on 3 nodes" in far.out
    assert curves(trials("sqlite:///ray.db")) == curves(trials("sqlite:///local.db"))
    assert not Path("ray.db.checkpoints").exists()
    assert nodes.workers() == []


def test_whatever_dies_the_study_has_its_trials_and_each_the_curve_of_its_settings(
    nodes: Nodes, command: Any
) -> None:
    total = 24  # enough that the study outlasts what happens to it
    given = options("--trials", total, "--pruner", "none", "--ray", nodes.address)
    running = begin(*given)
    outputs = []
    wait_for(lambda: has_report(Path("ray.db")), running)
    nodes.tell("remove")
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
    assert "was lost, in epoch" in outputs[0] + outputs[1], outputs
    assert "Traceback" not in outputs[0] + outputs[1]
    assert "its checkpoint is missing" not in outputs[0] + outputs[1], outputs  # nor begun again

    found = trials("sqlite:///ray.db")
    assert Counter(trial.state for trial in found) == {TrialState.COMPLETE: total}
    assert [trial.number for trial in found] == list(range(total))
    assert all(list(trial.intermediate_values) == list(range(1, 9)) for trial in found)
    where = ("--pipeline", "tests.paced:pipeline", "--storage", "sqlite:///ray.db")
    for number in range(3):  # those that were begun when things died
        again = command("study.replay", "--study", "small", "--trial", number, *where)
        assert again.code == 0, again


def test_a_trial_that_kills_its_worker_twice_has_failed_with_the_reason(nodes: Nodes) -> None:
    given = options("--trials", 4, "--ray", nodes.address, pipeline="deadly")
    done = process("study.run", *given)
    assert "twice in epoch 3" in done.out
    failed = [each for each in trials("sqlite:///ray.db") if each.state == TrialState.FAIL]
    assert failed
    for trial in failed:
        assert trial.params["rule"] == "sign"
        assert records.kept(trial, records.DEATHS)["times"] == 2
        assert "its worker was killed or ended" in records.kept(trial, records.FAILURE)["reason"]


def test_a_pipeline_that_cannot_be_opened_tells_its_traceback(nodes: Nodes) -> None:
    given = options("--trials", 4, "--ray", nodes.address, pipeline="unopened")
    done = process("study.run", *given)
    assert done.code == 1
    assert "no such data" in done.err
    assert "workers ended before one could train" in done.err


def test_ctrl_c_ends_the_epochs_that_run_and_no_actor_hears_it(nodes: Nodes) -> None:
    given = options("--trials", 5, "--pruner", "none", "--ray", nodes.address)
    running = begin(*given)
    wait_for(lambda: has_report(Path("ray.db")), running)
    os.killpg(running.pid, signal.SIGTERM)
    out = running.communicate(timeout=PATIENCE)[0]
    assert running.returncode == 128 + signal.SIGTERM, out
    assert "the same command continues" in out
    assert "SIGTERM" not in out  # no trace of Ray's own handler
    states = {trial.state for trial in trials("sqlite:///ray.db")}
    assert TrialState.RUNNING not in states
    assert nodes.workers() == []
    done = process("study.run", *given)
    assert done.code == 0, done
    assert len(trials("sqlite:///ray.db")) == 5


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


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real images are not beside the project")
def test_the_real_network_on_a_cluster_has_the_curves_of_local_processes(nodes: Nodes) -> None:
    amount = ("--subset", 300, "--epochs", 2, "--trials", 2, "--workers", 2)
    given = ("--data", REAL_DATA, *amount, "--study", "small", "--storage")
    far = process(
        "study.run", *given, "sqlite:///ray.db", "--ray", nodes.address, timeout=2 * PATIENCE
    )
    assert far.code == 0, far
    near = process("study.run", *given, "sqlite:///local.db", timeout=2 * PATIENCE)
    assert near.code == 0, near
    assert len(curves(trials("sqlite:///ray.db"))) == 2
    assert curves(trials("sqlite:///ray.db")) == curves(trials("sqlite:///local.db"))


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("127.0.0.1:1", "--ray 127.0.0.1:1: no cluster there"),
        ("ray://127.0.0.1:1", "--ray ray://127.0.0.1:1: no cluster there"),
        ("everywhere", "--ray must be auto, local, host:port or ray://host:port"),
        ("http://a:1", "--ray must be auto, local, host:port or ray://host:port"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(address: str, rule: str) -> None:
    done = process("study.run", *options("--ray", address))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert rule in done.err
    assert not Path("ray.db").exists()


def test_ray_that_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; import runpy; "
    code += "runpy.run_module('study.run', run_name='__main__')"
    arguments = options("--ray", "auto")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "fer-study[ray]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_node_with_something_else_installed_is_named() -> None:
    from fer.errors import UserError
    from study.workers.ray_pool import check_installed

    here = {"Python": "3.11.7", "torch": "2.14"}
    check_installed("a", here, here)
    with pytest.raises(UserError, match=r"node a has torch 2\.11, here it is 2\.14"):
        check_installed("a", {**here, "torch": "2.11"}, here)
    with pytest.raises(UserError, match="node a lacks this program, here it is 0123"):
        check_installed("a", {"this program": ""}, {"this program": "0123"})
