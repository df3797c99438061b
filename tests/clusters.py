"""Ray clusters of one-core nodes on this machine, and studies on them through the real command."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from optuna.trial import FrozenTrial

from study.storage import records

NEEDS_RAY = [
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

    def silence_a_node(self) -> list[psutil.Process]:
        """Stop the processes of a node where an actor works, as if its network were cut."""
        node = self.workers()[0].parent()
        assert node is not None
        processes = [node, *node.children(recursive=True)]
        for each in processes:
            each.suspend()
        return processes

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


@contextmanager
def cluster(count: int, *manner: str, **environment: str) -> Iterator[Nodes]:
    """A cluster of one-core nodes, whose processes are gone afterwards."""
    controller = subprocess.Popen(
        [sys.executable, "-m", "tests.nodes", str(count), *manner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
        env={**os.environ, **environment},
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
    url = name if "://" in name else f"sqlite:///{name}.db"
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
