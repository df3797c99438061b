"""Worker processes that train trials, and are replaced when they die.

Only the parent knows the study and its storage. Workers end with their parent.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
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
# Most deaths of workers as they start, in a row before one is ready. Kills may stop, and memory
# may be short only for a while; a worker that exits by itself as it starts will do so again.
KILLED_STARTS, FAILED_STARTS = 30, 3


class Process(Protocol):
    """A worker process."""

    def kill(self) -> None: ...

    def wait(self) -> int:
        """Wait for the process to end, and return its exit code; negative for a signal."""
        ...


Started: TypeAlias = "tuple[Process, Connection[Any, Any]]"
"""A process and its connection."""
Start = Callable[[str], Started]
"""Start a worker, given the module to import first, and connect to it."""


@dataclass(frozen=True)
class Worker:
    """A process, its connection, and its share of the task."""

    process: Process
    connection: "Connection[Any, Any]"
    task: Task
    ready: bool = False


class Pool:
    """Processes that train trials of one pipeline on `lanes` lanes, one trial per lane at a time.

    Lanes are dealt out to the pipeline's devices in turn; on a CPU each lane has its own process.
    Every process first measures the speed of `examples`, concurrently with the others, and answers
    Ready. Processes of `spare` are used before others are started. Leaving the context ends them.
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
        self._processes, self._workers = len(devices), dict[int, Worker]()
        for i, device in enumerate(devices):
            task = Task(pickled, device, len(self._lanes_of(i)), examples)
            started = spare.pop() if spare else self._start(self._preload)
            self._workers[i] = Worker(*started, task)
        end(spare or [])

    def __len__(self) -> int:
        """Number of lanes at the start."""
        return self._lanes

    def _lanes_of(self, number: int) -> range:
        return range(number, self._lanes, self._processes)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self._end(list(self._workers))

    def _end(self, numbers: Sequence[int]) -> None:
        ended = [self._workers.pop(number) for number in numbers]
        end([(worker.process, worker.connection) for worker in ended])

    @property
    def awaited(self) -> list[int]:
        """Lanes that must be ready before the first trial: those of all processes left."""
        return [lane for number in self._workers for lane in self._lanes_of(number)]

    @property
    def status(self) -> str:
        """Return what the first trial is waiting for."""
        return "starting workers and measuring their speed"

    def process_of(self, lane: int) -> int:
        """Return the number of the process that serves a lane."""
        return lane % self._processes

    def need(self, trials: int, busy: Collection[int]) -> list[int]:
        """Keep a process for each of the `trials` left, end idle ones, and return their lanes."""
        training = {self.process_of(lane) for lane in busy}
        idle = [number for number in reversed(self._workers) if number not in training]
        idle.sort(key=lambda number: self._workers[number].ready)
        numbers = idle[: surplus(len(self._workers), trials)]
        self._end(numbers)
        return [lane for number in numbers for lane in self._lanes_of(number)]

    def start(self, lane: int, job: Job) -> None:
        """Start a trial on an idle lane."""
        self._send(lane, job)

    def answer(self, lane: int, go_on: bool) -> None:
        """Answer a Trained message: train another epoch, or stop."""
        self._send(lane, Answer(go_on))

    def _send(self, lane: int, message: Job | Answer) -> None:
        place = lane // self._processes
        self._tell(self._workers[self.process_of(lane)], (place, message))

    @staticmethod
    def _tell(worker: Worker, message: object) -> None:
        # `messages` reports dead workers.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(message)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """Yield the workers' messages with their lanes, waiting at most `timeout` seconds.

        Raises RuntimeError if workers keep dying as they start.
        """
        connections = {worker.connection: number for number, worker in self._workers.items()}
        for connection in wait(list(connections), timeout):
            number = connections[connection]  # type: ignore[index]
            worker = self._workers[number]
            lanes = self._lanes_of(number)
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
                # Speed is measured only once.
                task = replace(worker.task, examples=())
                self._workers[number] = replace(worker, task=task, ready=True)
                yield from ((lane, news) for lane in lanes)
            else:
                yield lanes[place], news

    def _replace(self, number: int) -> str:
        """Replace a process that ended, and return how it ended."""
        worker = self._workers[number]
        exit_code = worker.process.wait()
        reason = in_words(exit_code)
        most = KILLED_STARTS if exit_code == -signal.SIGKILL else FAILED_STARTS
        self._futile += not worker.ready
        if self._futile >= most:
            raise RuntimeError(
                f"{self._futile} worker processes ended before one could train; the last one: "
                f"{reason}"
            )
        worker.connection.close()
        self._workers[number] = Worker(*self._start(self._preload), worker.task)
        return reason


def surplus(workers: int, trials: int) -> int:
    """Return how many workers to end so that one is left for each trial, but at least one."""
    return max(0, workers - max(1, trials))


class LocalProcess:
    """A process on this machine. It ends with its standard input, so with its parent."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen

    def kill(self) -> None:
        self._popen.kill()

    def wait(self) -> int:
        """Wait for the process to end, and return its exit code; negative for a signal."""
        with self._popen:  # closes its standard input
            return self._popen.wait()


def start_process(preload: str) -> "tuple[Process, Connection[Any, Any]]":
    """Start a worker in a fresh interpreter that does not import the caller's script."""
    ours, theirs = Pipe()
    handle = theirs.fileno()
    code = (
        f"import sys; sys.path[:] = {[os.path.abspath(path) for path in sys.path]!r}; "  # noqa: PTH100
        f"from study.workers.worker import main; main({handle}, {preload!r})"
    )
    # Ctrl-C and schedulers signal the whole process group; only the parent reacts.
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
    """Start processes that load their libraries while the caller reads its data.

    A pool takes those it needs off the list and ends the others.
    """
    spare: list[Started] = []
    try:
        for _ in range(count):
            spare.append(start_process(preload))
        yield spare
    finally:
        end(spare)


def end(processes: "list[Started]") -> None:
    """End all processes and empty the list."""
    for process, _ in processes:
        process.kill()
    for process, connection in processes:
        process.wait()
        connection.close()
    processes.clear()


def in_words(exit_code: int) -> str:
    """Describe how a process ended."""
    if exit_code >= 0:
        return f"its worker ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    memory = ", often because memory ran out (see --workers)" if name == "SIGKILL" else ""
    return f"its worker was ended by {name}{memory}"


def devices_for(pipeline: Pipeline, lanes: int) -> list[str]:
    """Return the device of each worker process: one per GPU, or one per lane on a CPU."""
    if "cpu" in pipeline.devices:
        return ["cpu"] * lanes
    return list(pipeline.devices[:lanes])


def default_lanes(pipeline: Pipeline) -> int:
    """Return how many trials to train at once: LANES per GPU, else one per core if memory
    allows."""
    if "cpu" not in pipeline.devices:
        return LANES * len(pipeline.devices)
    return default_processes()


def default_processes() -> int:
    """Return how many worker processes to start on a CPU: one per core, if memory allows."""
    fitting = int(available_memory() / BYTES_PER_WORKER)
    return max(1, min(available_cores(), fitting))
