"""A worker on a node of a Ray cluster: what a local worker does, behind the methods of an actor.

The class travels to the node by value, so that a node without this program can say so. Nothing of
the program is imported before that is checked.
"""

import hashlib
import platform
import queue
import shutil
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

if TYPE_CHECKING:
    from study.workers.messages import Job, Message

PACKAGES = ("fer", "study")


class Actor:
    """A worker, whose methods run in threads beside the one that trains.

    `paths` are searched for modules after the node's own, which helps where nodes share a file
    system.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        self._to_worker: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._to_parent: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def greeting(self) -> tuple[str, str, str]:
        """The name of the node; the versions of Python and of this program there."""
        node = ray.get_runtime_context().get_node_id()[:6]
        return f"{socket.gethostname()}/{node}", platform.python_version(), program()

    def open(self, *task: Any) -> None:
        """Begin to work; the arguments are those of a Task."""
        threading.Thread(target=self._work, args=task, daemon=True).start()

    def _work(self, *task: Any) -> None:
        from study.workers.messages import Fallen

        try:
            work(Link(self._to_worker, self._to_parent), *task)
        except BaseException as error:  # SystemExit too: this process trains no more
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._to_parent.put((0, Fallen(reason, traceback.format_exc()), None))

    def tell(self, lane: int, message: Any, state: bytes | None = None) -> None:
        """Hand a message to the worker; with a Job, the state that its trial goes on from."""
        self._to_worker.put((lane, message, state))

    def hear(self) -> list[Any]:
        """What the worker has to say, as soon as there is something."""
        said = [self._to_parent.get()]
        while not self._to_parent.empty():
            said.append(self._to_parent.get())
        return said


def program() -> str:
    """The version of this program where it runs: a hash of its files; empty without it."""
    found = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return ""
        home = Path(spec.origin).parent
        for file in sorted(home.rglob("*")):
            if file.suffix in (".py", ".cpp"):
                found.update(f"{package}/{file.relative_to(home)}\0".encode())
                found.update(file.read_bytes())
    return found.hexdigest()[:12]


def work(link: "Link", *task: Any) -> None:
    """Open the pipeline and train until the process ends."""
    from study.workers.messages import Task
    from study.workers.worker import prepare, serve

    session, ready = prepare(Task(*task))
    link.send((0, ready))
    serve(link, session)


class Link:
    """A worker's connection to its parent, which keeps the states of trials.

    A state comes with a Job and goes with every epoch; here it is a file for as long as the trial
    trains.
    """

    def __init__(self, inbox: "queue.SimpleQueue[Any]", outbox: "queue.SimpleQueue[Any]") -> None:
        self._inbox, self._outbox = inbox, outbox
        self._next: tuple[int, Any, bytes | None] | None = None
        self._states: dict[int, Path] = {}  # by lane

    def poll(self, timeout: float | None) -> bool:
        """Whether there is a message, after at most `timeout` seconds; None waits for one."""
        if self._next is None:
            try:
                self._next = self._inbox.get(timeout=timeout)
            except queue.Empty:
                return False
        return True

    def recv(self) -> "tuple[int, Any]":
        """The next message and its lane."""
        from study.workers.messages import Job

        self.poll(None)
        assert self._next is not None
        (lane, message, state), self._next = self._next, None
        return lane, self._begun(lane, message, state) if isinstance(message, Job) else message

    def _begun(self, lane: int, job: "Job", state: bytes | None) -> "Job":
        path = Path(tempfile.mkdtemp(prefix="study-")) / job.state.name
        self._states[lane] = path
        if state is not None:
            path.write_bytes(state)
        return replace(job, state=path)

    def send(self, message: "tuple[int, Message]") -> None:
        """Tell the parent something, and with a new epoch its state."""
        from study.workers.messages import OfTrial, Trained

        lane, news = message
        state = None
        if isinstance(news, Trained):
            path = self._states[lane]
            if not news.resumed and path.exists():
                state = np.fromfile(path, np.uint8)  # Ray copies an array less often than bytes
        elif isinstance(news, OfTrial):
            shutil.rmtree(self._states.pop(lane).parent, ignore_errors=True)
        self._outbox.put((lane, news, state))
