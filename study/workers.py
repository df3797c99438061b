"""The processes that train: begun before they are needed, given trials, replaced if they die.

Only the parent knows the study and its storage. Workers end with their parent.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import psutil
import torch

from fer.device import available_cores
from study.training import (
    Broken,
    Done,
    Imported,
    Job,
    OutOfMemory,
    Ready,
    Task,
    Trained,
    work,
)

GPU_WORKERS = 4  # a guess until it is measured on a GPU
BYTES_PER_WORKER = 1.5e9
# Workers that died one after the other before any was ready. Someone may be killing them, or
# memory may be short for a while; what ends by itself as it starts will do so again.
KILLED_STARTS, FAILED_STARTS = 30, 3


@dataclass(frozen=True)
class Died:
    """A worker process ended by itself; another one has begun in its place."""

    reason: str


Message = Ready | Trained | Done | OutOfMemory | Broken | Died


class Workers:
    """Up to `most` processes that train on the same images.

    They import PyTorch while the caller still reads the data; `begin` gives them their task.
    A context manager: leaving it ends them.
    """

    def __init__(self, most: int, device: torch.device) -> None:
        self._device = device
        self._task: Task | None = None
        self._futile = 0
        self._measured: set[int] = set()
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for _ in range(most):
            process, connection = self._spawn()
            self._processes.append(process)
            self._connections.append(connection)

    def _spawn(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self._device), daemon=True)
        resource_tracker.ensure_running()  # begun with a process, it would unblock the signals
        # Ctrl-C and schedulers signal the whole group; the parent alone decides what it means.
        signals = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return process, ours

    def begin(self, count: int, task: Task) -> None:
        """Give `count` of them the task; the others end.

        Each first measures the pace of the examples, beside the others, and answers Ready.
        """
        self._end(self._processes[count:])
        del self._processes[count:], self._connections[count:]
        self._task = task

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._end(self._processes)

    @staticmethod
    def _end(processes: list[BaseProcess]) -> None:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()

    def __len__(self) -> int:
        return len(self._processes)

    def start(self, worker: int, job: Job) -> None:
        """Give an idle worker a trial."""
        self._send(worker, job)

    def answer(self, worker: int, go_on: bool) -> None:
        """After Trained: train another epoch, or stop here."""
        self._send(worker, go_on)

    def _send(self, worker: int, message: object) -> None:
        # Of a worker that is dead `messages` will tell.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connections[worker].send(message)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """What the workers have to say, after at most `timeout` seconds.

        Raises RuntimeError if they die as soon as they are begun.
        """
        for connection in wait(self._connections, timeout):
            assert isinstance(connection, Connection)
            worker = self._connections.index(connection)
            try:
                message = connection.recv()
            except (EOFError, OSError):  # OSError: it was cut off in the middle of a message
                yield worker, self._replace(worker)
                continue
            if isinstance(message, Imported):
                assert self._task is not None
                # Whoever replaces one that measured has nothing to measure.
                measured = worker in self._measured
                task = replace(self._task, examples=[]) if measured else self._task
                self._send(worker, task)
                continue
            if isinstance(message, Ready):
                self._futile = 0
                self._measured.add(worker)
            yield worker, message

    def _replace(self, worker: int) -> Died:
        process = self._processes[worker]
        process.join()
        reason = in_words(process.exitcode or 0)
        most = KILLED_STARTS if process.exitcode == -signal.SIGKILL else FAILED_STARTS
        self._futile += 1
        if self._futile >= most:
            raise RuntimeError(
                f"{self._futile} worker processes ended before one could train; the last one: "
                f"{reason}"
            )
        self._connections[worker].close()
        self._processes[worker], self._connections[worker] = self._spawn()
        return Died(reason)


def in_words(exit_code: int) -> str:
    """How a process ended."""
    if exit_code >= 0:
        return f"its worker ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    memory = ", often because memory ran out (see --workers)" if name == "SIGKILL" else ""
    return f"its worker was ended by {name}{memory}"


def default_workers(device: torch.device) -> int:
    """How many trials at once the machine serves best: a core each, if memory allows."""
    fitting = int(psutil.virtual_memory().available / BYTES_PER_WORKER)
    wanted = GPU_WORKERS if device.type == "cuda" else available_cores()
    return max(1, min(wanted, available_cores(), fitting))
