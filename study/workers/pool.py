"""The processes that train: given trials, and replaced if they die.

Only the parent knows the study and its storage. Workers end with their parent.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeAlias

import cloudpickle

from fer.machine import available_cores, available_memory
from fer.signals import SIGNALS
from study.pipeline import Pipeline, Settings
from study.workers.messages import Answer, Died, Imported, Job, Message, Ready, Task

LANES = 16  # of a GPU: more trials of the smallest batches find no gap to fill
BYTES_PER_WORKER = 1.5e9
# Workers that died one after the other before any was ready. Someone may be killing them, or
# memory may be short for a while; what ends by itself as it starts will do so again.
KILLED_STARTS, FAILED_STARTS = 30, 3


class Process(Protocol):
    """A process that was started."""

    def kill(self) -> None: ...

    def wait(self) -> int:
        """Its exit code, once it has ended; negative if a signal ended it."""
        ...


Started: TypeAlias = "tuple[Process, Connection[Any, Any]]"
"""A process and the connection to it."""
Start = Callable[[str], Started]
"""Starts a worker, given the module to import first, and connects to it."""


@dataclass(frozen=True)
class Worker:
    """A process, the connection to it, and its part of the task."""

    process: Process
    connection: "Connection[Any, Any]"
    task: Task


class Pool:
    """Processes that train trials of one pipeline, on `lanes` lanes: a trial at once on each.

    Lanes are dealt out to the pipeline's devices in turn, those of a processor to a process each.
    Every process first measures the pace of `examples`, beside the others, and answers Ready.
    Processes of `spare` are used before others are started. A context manager: leaving it ends
    them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        lanes: int,
        examples: Sequence[Settings],
        start: "Start | None" = None,
        spare: "list[Started] | None" = None,
    ) -> None:
        self._lanes, self._start = lanes, start or start_process
        self._preload = type(pipeline).__module__
        self._futile = 0
        pickled = cloudpickle.dumps(pipeline)
        devices = devices_for(pipeline, lanes)
        self._workers = []
        for i, device in enumerate(devices):
            task = Task(pickled, device, len(range(i, lanes, len(devices))), examples)
            started = spare.pop() if spare else self._start(self._preload)
            self._workers.append(Worker(*started, task))
        end(spare or [])

    def __len__(self) -> int:
        """Lanes."""
        return self._lanes

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        end([(worker.process, worker.connection) for worker in self._workers])

    @property
    def awaited(self) -> range:
        """Lanes that must have been ready before the first trial begins: all of them."""
        return range(self._lanes)

    @property
    def status(self) -> str:
        """What the first trial waits for."""
        return "starting workers and measuring their speed"

    def process_of(self, lane: int) -> int:
        """The number of the process that has this lane."""
        return lane % len(self._workers)

    def start(self, lane: int, job: Job) -> None:
        """Put a trial on an idle lane."""
        self._send(lane, job)

    def answer(self, lane: int, go_on: bool) -> None:
        """After Trained: train another epoch, or stop here."""
        self._send(lane, Answer(go_on))

    def _send(self, lane: int, message: Job | Answer) -> None:
        place = lane // len(self._workers)
        self._tell(self._workers[self.process_of(lane)], (place, message))

    @staticmethod
    def _tell(worker: Worker, message: object) -> None:
        # Of a worker that is dead `messages` will tell.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(message)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """What the workers have to say, by lane, after at most `timeout` seconds.

        Raises RuntimeError if they die as soon as they are started.
        """
        connections = {worker.connection: number for number, worker in enumerate(self._workers)}
        for connection in wait(list(connections), timeout):
            number = connections[connection]  # type: ignore[index]
            worker = self._workers[number]
            lanes = range(number, self._lanes, len(self._workers))
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):  # OSError: it was cut off in the middle of a message
                yield number, Died(self._replace(number), lanes)
                continue
            if isinstance(message, Imported):
                self._tell(worker, worker.task)
                continue
            place, news = message
            if isinstance(news, Ready):
                self._futile = 0
                # Whoever replaces one that measured has nothing to measure.
                task = replace(worker.task, examples=())
                self._workers[number] = replace(worker, task=task)
                yield from ((lane, news) for lane in lanes)
            else:
                yield lanes[place], news

    def _replace(self, number: int) -> str:
        """Start another process in the place of one that ended; how that ended."""
        worker = self._workers[number]
        exit_code = worker.process.wait()
        reason = in_words(exit_code)
        most = KILLED_STARTS if exit_code == -signal.SIGKILL else FAILED_STARTS
        self._futile += 1
        if self._futile >= most:
            raise RuntimeError(
                f"{self._futile} worker processes ended before one could train; the last one: "
                f"{reason}"
            )
        worker.connection.close()
        self._workers[number] = Worker(*self._start(self._preload), worker.task)
        return reason


class LocalProcess:
    """A process of this machine, which ends when its standard input does: with its parent."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen

    def kill(self) -> None:
        self._popen.kill()

    def wait(self) -> int:
        """Its exit code, once it has ended; negative if a signal ended it."""
        with self._popen:  # closes its standard input
            return self._popen.wait()


def start_process(preload: str) -> "tuple[Process, Connection[Any, Any]]":
    """Start a worker as a fresh interpreter that imports nothing of the caller's script."""
    ours, theirs = Pipe()
    handle = theirs.fileno()
    code = (
        f"import sys; sys.path[:] = {[os.path.abspath(path) for path in sys.path]!r}; "  # noqa: PTH100
        f"from study.workers.worker import main; main({handle}, {preload!r})"
    )
    # Ctrl-C and schedulers signal the whole group; the parent alone decides what it means.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[handle]
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return LocalProcess(process), ours


@contextmanager
def head_start(preload: str, count: int) -> "Iterator[list[Started]]":
    """Processes that load their libraries while the caller still reads its data.

    A pool takes those that it needs off the list, and ends the others.
    """
    spare: list[Started] = []
    try:
        for _ in range(count):
            spare.append(start_process(preload))
        yield spare
    finally:
        end(spare)


def end(processes: "list[Started]") -> None:
    """End processes, and leave none of them on the list."""
    for process, _ in processes:
        process.kill()
    for process, connection in processes:
        process.wait()
        connection.close()
    processes.clear()


def in_words(exit_code: int) -> str:
    """How a process ended."""
    if exit_code >= 0:
        return f"its worker ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    memory = ", often because memory ran out (see --workers)" if name == "SIGKILL" else ""
    return f"its worker was ended by {name}{memory}"


def devices_for(pipeline: Pipeline, lanes: int) -> list[str]:
    """Where worker processes compute: one for each GPU, on a processor one for each lane."""
    if "cpu" in pipeline.devices:
        return ["cpu"] * lanes
    return list(pipeline.devices[:lanes])


def default_lanes(pipeline: Pipeline) -> int:
    """How many trials at once the machine serves best: some a GPU, else a core each, if memory
    allows."""
    if "cpu" not in pipeline.devices:
        return LANES * len(pipeline.devices)
    return processes_of_a_processor()


def processes_of_a_processor() -> int:
    """How many worker processes this machine's processor serves best."""
    fitting = int(available_memory() / BYTES_PER_WORKER)
    return max(1, min(available_cores(), fitting))
