"""Studies on a real Ray cluster: the same as on local processes, and refused in one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from bench.harness import has_report
from study.storage import records
from tests.clusters import NEEDS_RAY, PATIENCE, Nodes, begin, cluster, curves, options, wait_for
from tests.conftest import REAL_DATA, process, trials

pytestmark = NEEDS_RAY


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


def test_workers_for_which_no_trial_is_left_give_up_their_cores(nodes: Nodes) -> None:
    given = options("--trials", 5, "--pruner", "none", "--ray", nodes.address)
    running = begin(*given)
    wait_for(lambda: len(nodes.workers()) == 3, running)
    wait_for(lambda: len(nodes.workers()) < 3, running)
    assert TrialState.RUNNING in [each.state for each in trials("sqlite:///ray.db")]
    out = running.communicate(timeout=PATIENCE)[0]
    assert running.returncode == 0, out


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


def test_ctrl_c_finishes_running_epochs_and_reaches_no_actor(nodes: Nodes) -> None:
    given = options("--trials", 5, "--pruner", "none", "--ray", nodes.address)
    running = begin(*given)
    wait_for(lambda: has_report(Path("ray.db")), running)
    os.killpg(running.pid, signal.SIGTERM)
    out = running.communicate(timeout=PATIENCE)[0]
    assert running.returncode == 128 + signal.SIGTERM, out
    assert "run the same command to continue" in out
    assert "SIGTERM" not in out  # no trace of Ray's own handler
    states = {trial.state for trial in trials("sqlite:///ray.db")}
    assert TrialState.RUNNING not in states
    assert nodes.workers() == []
    done = process("study.run", *given)
    assert done.code == 0, done
    assert len(trials("sqlite:///ray.db")) == 5


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


def test_a_cluster_with_a_token_accepts_its_token_and_rejects_others_in_one_line() -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789" * 4}
    with cluster(1, **token) as guarded:
        given = options("--trials", 2, "--ray", guarded.address, pipeline="quick")
        for other in ({}, {**token, "RAY_AUTH_TOKEN": "9876543210" * 4}):
            out = begin(*given, RAY_NUM_REDIS_GET_RETRIES="2", **other).communicate()[0]
            (line,) = (each for each in out.splitlines() if not each.startswith("start "))
            assert "the cluster requires its token: set RAY_AUTH_MODE=token" in line
        assert not Path("ray.db").exists()
        assert "2 trials complete" in begin(*given, **token).communicate(timeout=PATIENCE)[0]


def test_ray_that_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; import runpy; "
    code += "runpy.run_module('study.run', run_name='__main__')"
    arguments = options("--ray", "auto")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install -e '.[ray]'" in done.stderr
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
