"""The processes that train: begun before they are needed, given trials, replaced if they die.

Only the parent knows the study and its storage. Workers end with their parent.
"""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import psutil
import torch

from fer.training.device import available_cores
from study.training import Broken, Done, Imported, Job, OutOfMemory, Ready, Task, Trained
from study.worker import work

LANES = 16  # of a GPU: more trials of the smallest batches find no gap to fill
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
    """Processes that train on the same images, on up to `most` lanes: a trial at once on each.

    Each of `devices` has a process; lanes are dealt out to them in turn. They import PyTorch while
    the caller still reads the data; `begin` gives them their task. A context manager: leaving
    it ends them.
    """

    def __init__(self, most: int, devices: Sequence[torch.device]) -> None:
        self._devices = devices[:most]
        self._task: Task | None = None
        self._lanes = most
        self._futile = 0
        self._measured: set[int] = set()  # processes
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for device in self._devices:
            process, connection = self._spawn(device)
            self._processes.append(process)
            self._connections.append(connection)

    def _spawn(self, device: torch.device) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, device), daemon=True)
        resource_tracker.ensure_running()  # begun with a process, it would unblock the signals
        # Ctrl-C and schedulers signal the whole group; the parent alone decides what it means.
        signals = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return process, ours

    def begin(self, lanes: int, task: Task) -> None:
        """Give them the task, on that many lanes in all; those left without a lane end.

        Each first measures the pace of the examples, beside the others, and answers Ready.
        """
        self._end(self._processes[lanes:])
        del self._processes[lanes:], self._connections[lanes:]
        self._lanes = lanes
        self._task = task

    def process_of(self, lane: int) -> int:
        """The number of the process that has this lane."""
        return lane % len(self._processes)

    def _lanes_of(self, process: int) -> range:
        return range(process, self._lanes, len(self._processes))

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
        """Lanes."""
        return self._lanes

    def start(self, lane: int, job: Job) -> None:
        """Put a trial on an idle lane."""
        self._send(lane, job)

    def answer(self, lane: int, go_on: bool) -> None:
        """After Trained: train another epoch, or stop here."""
        self._send(lane, go_on)

    def _send(self, lane: int, message: Job | bool) -> None:
        processes = len(self._processes)
        self._tell(lane % processes, (lane // processes, message))

    def _tell(self, process: int, message: object) -> None:
        # Of a worker that is dead `messages` will tell.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connections[process].send(message)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """What the workers have to say, by lane, after at most `timeout` seconds.

        Raises RuntimeError if they die as soon as they are begun.
        """
        for connection in wait(self._connections, timeout):
            assert isinstance(connection, Connection)
            process = self._connections.index(connection)
            try:
                message = connection.recv()
            except (EOFError, OSError):  # OSError: it was cut off in the middle of a message
                died = self._replace(process)
                yield from ((lane, died) for lane in self._lanes_of(process))
                continue
            if isinstance(message, Imported):
                assert self._task is not None
                # Whoever replaces one that measured has nothing to measure.
                examples = [] if process in self._measured else self._task.examples
                lanes = len(self._lanes_of(process))
                self._tell(process, replace(self._task, examples=examples, lanes=lanes))
                continue
            place, news = message
            if isinstance(news, Ready):
                self._futile = 0
                self._measured.add(process)
                yield from ((lane, news) for lane in self._lanes_of(process))
            else:
                yield self._lanes_of(process)[place], news

    def _replace(self, process: int) -> Died:
        ended = self._processes[process]
        ended.join()
        reason = in_words(ended.exitcode or 0)
        most = KILLED_STARTS if ended.exitcode == -signal.SIGKILL else FAILED_STARTS
        self._futile += 1
        if self._futile >= most:
            raise RuntimeError(
                f"{self._futile} worker processes ended before one could train; the last one: "
                f"{reason}"
            )
        self._connections[process].close()
        self._processes[process], self._connections[process] = self._spawn(self._devices[process])
        return Died(reason)


def in_words(exit_code: int) -> str:
    """How a process ended."""
    if exit_code >= 0:
        return f"its worker ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    memory = ", often because memory ran out (see --workers)" if name == "SIGKILL" else ""
    return f"its worker was ended by {name}{memory}"


def devices_for(device: torch.device, most: int | None) -> list[torch.device]:
    """Where worker processes compute: one for each GPU, or as many as there are to be trials.

    GPUs of another kind than the first are left out: their numbers would differ.
    """
    if device.type == "cpu":
        return [device] * (most or default_lanes(device))
    first = torch.cuda.get_device_name(0)
    count = torch.cuda.device_count()
    alike = [i for i in range(count) if torch.cuda.get_device_name(i) == first]
    return [torch.device("cuda", i) for i in alike]


def default_lanes(device: torch.device) -> int:
    """How many trials at once the machine serves best: some a GPU, else a core each, if memory
    allows."""
    if device.type == "cuda":
        return LANES * len(devices_for(device, None))
    fitting = int(psutil.virtual_memory().available / BYTES_PER_WORKER)
    return max(1, min(available_cores(), fitting))
