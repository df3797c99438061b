"""A worker on a node of a Ray cluster: the local worker's loop behind the methods of an actor.

The class is pickled by value, so that a node without this program can report that. Nothing of the
program is imported before that check.
"""

import fcntl
import hashlib
import os
import platform
import queue
import shutil
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

if TYPE_CHECKING:
    from study.workers.messages import Job, Message

PACKAGES = ("fer", "study")
FOLDERS = "study-actor-"  # temporary ones, with a checkpoint each


class Actor:
    """A worker. Its methods run in other threads than the one that trains.

    `paths` are appended to the node's module search path, which helps on a shared file system.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        self._to_worker: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._to_parent: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def greeting(self) -> tuple[str, str, str, str]:
        """Return the host and the id of the node, and the versions of Python and this program
        there."""
        node = ray.get_runtime_context().get_node_id()
        return socket.gethostname(), node, platform.python_version(), program()

    def open(self, *task: Any) -> None:
        """Start working; the arguments are those of a Task."""
        threading.Thread(target=self._work, args=task, daemon=True).start()

    def _work(self, *task: Any) -> None:
        from study.workers.messages import Fallen

        try:
            work(Link(self._to_worker, self._to_parent), *task)
        except BaseException as error:  # SystemExit too: this actor is finished
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._to_parent.put((0, Fallen(reason, traceback.format_exc())))

    def tell(self, lane: int, message: Any, state: bytes | None = None) -> None:
        """Pass a message to the worker; with a Job, the checkpoint to resume from."""
        self._to_worker.put((lane, message, state))

    def hear(self) -> list[Any]:
        """Wait for messages of the worker and return all there are."""
        said = [self._to_parent.get()]
        while not self._to_parent.empty():
            said.append(self._to_parent.get())
        return said


def locked_folder() -> tuple[Path, int]:
    """Return a new temporary folder and a descriptor that locks it while this process lives.

    Folders of actors that were killed, no longer locked, are removed.
    """
    for each in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        with suppress(OSError):  # a living actor's or another user's
            lock = lock_of(each)
            shutil.rmtree(each, ignore_errors=True)
            os.close(lock)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDERS))
        with suppress(BlockingIOError, FileNotFoundError):  # another actor took it for abandoned
            lock = lock_of(folder)
            if folder.exists():
                return folder, lock
            os.close(lock)


def lock_of(folder: Path) -> int:
    """Lock a folder and return the descriptor that holds it. Raise OSError if it is locked."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def program() -> str:
    """Return a hash of this program's files as installed here; empty if it is not installed."""
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
    """Open the pipeline and train until the actor is killed."""
    from study.workers.messages import Task
    from study.workers.worker import prepare, serve

    session, ready = prepare(Task(*task))
    link.send((0, ready))
    serve(link, session)


class Link:
    """A worker's connection to its parent, which keeps the checkpoints.

    A checkpoint arrives with a Job and leaves after every epoch; here it is a temporary file.
    """

    def __init__(self, inbox: "queue.SimpleQueue[Any]", outbox: "queue.SimpleQueue[Any]") -> None:
        self._inbox, self._outbox = inbox, outbox
        self._next: tuple[int, Any, bytes | None] | None = None
        self._states: dict[int, tuple[Path, int]] = {}  # with the lock of its folder, by lane

    def poll(self, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds (None: forever) and return whether there is a message."""
        if self._next is None:
            try:
                self._next = self._inbox.get(timeout=timeout)
            except queue.Empty:
                return False
        return True

    def recv(self) -> "tuple[int, Any]":
        """Return the next message and its lane."""
        from study.workers.messages import Job

        self.poll(None)
        assert self._next is not None
        (lane, message, state), self._next = self._next, None
        return lane, self._begun(lane, message, state) if isinstance(message, Job) else message

    def _begun(self, lane: int, job: "Job", state: bytes | None) -> "Job":
        folder, lock = locked_folder()
        path = folder / job.state.name
        self._states[lane] = path, lock
        if state is not None:
            path.write_bytes(state)
        return replace(job, state=path)

    def send(self, message: "tuple[int, Message]") -> None:
        """Send a message to the parent, and after a new epoch its checkpoint."""
        from study.workers.messages import OfTrial, Trained

        lane, news = message
        self._outbox.put((lane, news))  # the parent answers it while the checkpoint travels
        if isinstance(news, Trained):
            path, _ = self._states[lane]
            if not news.resumed and path.exists():
                # Ray copies an array less often than bytes.
                self._outbox.put((lane, np.fromfile(path, np.uint8)))
        elif isinstance(news, OfTrial):
            path, lock = self._states.pop(lane)
            shutil.rmtree(path.parent, ignore_errors=True)
            os.close(lock)
