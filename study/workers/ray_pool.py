"""Workers on a Ray cluster, behind the interface of `study.workers.pool.Pool`.

All state lives in the parent: it replaces dead actors itself (Ray never restarts them), and every
epoch sends the trial's checkpoint back, so losing a node costs each trial on it at most an epoch.
"""

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import ray
from numpy.typing import NDArray
from ray import cloudpickle as rays_pickle
from ray.exceptions import ActorUnavailableError, RayError

from fer.errors import UserError
from fer.files import write_file
from study.pipeline import Pipeline, Settings
from study.spec.identity import installed_of, own_identity
from study.words import counted
from study.workers import actor
from study.workers.cluster import Head
from study.workers.messages import Answer, Crew, Died, Fallen, Job, Message, Ready, Trained
from study.workers.pool import FAILED_STARTS, KILLED_STARTS, LANES, surplus

LOOK_SECONDS = 2.0  # between checks of which nodes exist
PATIENCE = 15.0  # seconds to wait for an actor on a free slot before starting without it
UNREACHABLE = (RayError, ConnectionError)  # of an actor; of the cluster, for a client


@dataclass
class Worker:
    """An actor and the lanes it serves."""

    handle: Any  # of the actor
    says: Any  # reference to its next messages
    lanes: Sequence[int]
    node: str = ""  # empty until Ray has placed it
    node_id: str = ""
    ready: bool = False

    @property
    def progress(self) -> tuple[bool, bool]:
        """Whether it has been placed, and whether it is ready."""
        return bool(self.node), self.ready


class RayPool:
    """Actors that train trials of one pipeline on `lanes` lanes.

    Each needs one GPU or one core; Ray decides when and where to place it. An actor first measures
    the speed of `examples`, then reports Ready. Leaving the context ends them.
    """

    def __init__(
        self, head: Head, pipeline: Pipeline, lanes: int, examples: Sequence[Settings]
    ) -> None:
        self._head = head
        self._pipeline = ray.put(cloudpickle.dumps(pipeline))
        self._device, self._unit = ("cpu", "CPU") if "cpu" in pipeline.devices else ("cuda", "GPU")
        self._examples = examples
        rays_pickle.register_pickle_by_value(actor)  # type: ignore[no-untyped-call]
        wanted: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_concurrency": 4}
        if self._unit == "GPU":
            wanted["num_gpus"] = 1
        self._kind: Any = ray.remote(**wanted)(actor.Actor)
        self._version = {"Python": platform.python_version(), "this program": actor.program()}
        # Nodes cannot identify the code of a script.
        in_a_module = type(pipeline).__module__ != "__main__"
        self._installed = installed_of(own_identity(pipeline)) if in_a_module else {}
        self._states: dict[int, Path] = {}  # by lane
        self._notes: dict[int, str] = {}  # of checkpoints that could not be written, by lane
        self._futile, self._said, self._released = 0, (Counter[str](), False), False
        self._places, self._looked, self._changed = self._count_places(), 0.0, time.monotonic()
        count = lanes
        if self._unit == "GPU":
            count = min(lanes, max(self._places, -(-lanes // LANES)))
        self._lanes = [range(number, lanes, count) for number in range(count)]
        self._workers = {number: self._begin(own) for number, own in enumerate(self._lanes)}

    def _begin(self, lanes: Sequence[int]) -> Worker:
        handle = self._kind.remote([os.path.abspath(path) for path in sys.path])  # noqa: PTH100
        return Worker(handle, handle.greeting.remote(), lanes)

    def __len__(self) -> int:
        """Number of lanes at the start."""
        return sum(map(len, self._lanes))

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._head.unreachable() is not None:
            return  # nothing of the cluster is left
        self._end(list(self._workers))

    def _end(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            with suppress(*UNREACHABLE):
                ray.kill(self._workers.pop(number).handle)

    def process_of(self, lane: int) -> int:
        """Return the number of the actor that serves a lane."""
        return lane % len(self._lanes)

    def need(self, trials: int, busy: Collection[int]) -> list[int]:
        """Keep an actor for each of the `trials` left, end idle ones, and return their lanes.

        Those that Ray could not place yet are ended first: an autoscaler would add nodes for them.
        """
        training = {self.process_of(lane) for lane in busy}
        idle = [number for number in reversed(self._workers) if number not in training]
        spare = surplus(len(self._workers), trials)
        if not (idle and spare and self._head.answers()):
            return []
        numbers = sorted(idle, key=lambda number: self._workers[number].progress)[:spare]
        before = self._at_work()
        self._end(numbers)
        self._released |= self._at_work() != before
        return [lane for number in numbers for lane in self._lanes[number]]

    @property
    def awaited(self) -> Collection[int]:
        """Lanes that must be ready before the first trial: those of all actors that can be
        placed."""
        placed = [worker for worker in self._workers.values() if worker.node]
        patient = time.monotonic() - self._changed < PATIENCE
        if not placed or (patient and len(placed) < min(self._places, len(self._workers))):
            return self._lanes_of(self._workers.values())
        return self._lanes_of(placed)

    @staticmethod
    def _lanes_of(workers: Iterable[Worker]) -> list[int]:
        return [lane for worker in workers for lane in worker.lanes]

    @property
    def status(self) -> str:
        """Return what the first trial is waiting for."""
        if not self._places:
            return f"waiting for a node with a {self._unit}"
        ready = sum(worker.ready for worker in self._workers.values())
        of = min(self._places, len(self._workers))
        return f"starting workers on the cluster and measuring their speed: {ready} of {of} ready"

    def start(self, lane: int, job: Job) -> None:
        """Start a trial on an idle lane, sending its checkpoint if there is one."""
        self._states[lane] = job.state
        self._notes.pop(lane, None)
        state = job.state.read_bytes() if job.state.exists() else None
        self._tell(lane, job, state)

    def answer(self, lane: int, go_on: bool) -> None:
        """Answer a Trained message: train another epoch, or stop."""
        self._tell(lane, Answer(go_on), None)

    def _tell(self, lane: int, message: Job | Answer, state: bytes | None) -> None:
        worker = self._workers[self.process_of(lane)]
        try:
            worker.handle.tell.remote(worker.lanes.index(lane), message, state)
        except ConnectionError as error:  # of a client
            self._head.gone(error)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """Yield the actors' messages with their lanes, waiting at most `timeout` seconds.

        Raises RuntimeError if actors keep dying as they start, UserError if a node has another
        version of the program or the cluster is gone.
        """
        try:
            yield from self._messages(timeout)
        except ConnectionError as error:  # of a client
            self._head.gone(error)

    def _messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        if crew := self._crew():
            yield 0, crew
        speakers = {worker.says: number for number, worker in self._workers.items()}
        ready, _ = ray.wait(list(speakers), timeout=timeout)
        if ready:
            ready, _ = ray.wait(list(speakers), num_returns=len(speakers), timeout=0)
        for reference in ready:
            number = speakers[reference]
            try:
                said = ray.get(reference)
            except RayError as error:
                if not self._head.answers():  # replacing the actor would block
                    time.sleep(LOOK_SECONDS)
                    return
                yield self._lost(number, error)
                continue
            if self._workers[number].node:
                yield from self._heard(number, said)
            else:
                self._placed(self._workers[number], *said)

    def _placed(self, worker: Worker, host: str, node_id: str, *version: str) -> None:
        """Handle the placement of an actor: check its node, then open the pipeline there."""
        node = f"{host}/{node_id[:6]}"
        check_installed(node, dict(zip(self._version, version, strict=True)), self._version)
        worker.node, worker.node_id, self._changed = node, node_id, time.monotonic()
        device = "cpu" if self._device == "cpu" else "cuda:0"  # the one that Ray lets it see
        worker.handle.open.remote(self._pipeline, device, len(worker.lanes), self._examples)
        worker.says = worker.handle.hear.remote()

    def _heard(self, number: int, said: Sequence[Any]) -> Iterator[tuple[int, Message]]:
        worker = self._workers[number]
        worker.says = worker.handle.hear.remote()
        for place, news in said:
            lane = worker.lanes[place]
            match news:
                case Fallen():
                    print(news.traceback, file=sys.stderr)
                    yield self._replace(number, f"its worker ended: {news.reason}", FAILED_STARTS)
                    return
                case Ready(installed=installed):
                    check_installed(worker.node, installed, self._installed)
                    self._futile = 0
                    worker.ready, self._changed = True, time.monotonic()
                    self._looked = 0.0  # the crew is told before the next message
                    yield from ((each, news) for each in worker.lanes)
                case np.ndarray():
                    self._keep(lane, news)
                case Trained() if lane in self._notes:
                    yield lane, replace(news, note=self._notes.pop(lane))
                case _:
                    yield lane, news

    def _keep(self, lane: int, state: NDArray[np.uint8]) -> None:
        """Write the checkpoint of the last epoch of a lane's trial."""
        path = self._states[lane]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, state.data)
        except (UserError, OSError) as error:
            self._notes[lane] = f"its checkpoint cannot be written: {error}"

    def _lost(self, number: int, error: RayError) -> tuple[int, Died]:
        """Replace an actor that Ray can no longer reach. Only a lost node excuses its trial."""
        worker = self._workers[number]
        if worker.node and is_lost(worker, error):
            return self._replace(number, f"its node {worker.node} was lost", innocent=True)
        memory = ", often because memory ran out (see --workers)"
        return self._replace(number, f"its worker was killed or ended by itself{memory}")

    def _replace(
        self, number: int, reason: str, most: int = KILLED_STARTS, innocent: bool = False
    ) -> tuple[int, Died]:
        worker = self._workers[number]
        with suppress(*UNREACHABLE):
            ray.kill(worker.handle)  # it may live on behind a broken connection
        self._futile += not (innocent or worker.ready)
        if self._futile >= most:
            raise RuntimeError(
                f"{self._futile} workers ended before one could train; the last one: {reason}"
            )
        # Speed is measured only once.
        self._examples = () if worker.ready else self._examples
        self._workers[number], self._changed = self._begin(worker.lanes), time.monotonic()
        return worker.lanes[0], Died(reason, worker.lanes, innocent)

    def _count_places(self) -> int:
        """Count the slots (GPUs or cores) of all nodes alive."""
        return sum(int(node["Resources"].get(self._unit, 0)) for node in alive())

    def _crew(self) -> Crew | None:
        """Return a note of the current workers if they have changed."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        if not self._head.answers():
            return None
        self._places = self._count_places()
        nodes, wait = crew = self._at_work()
        lanes = self._lanes_of(worker for worker in self._workers.values() if worker.ready)
        places = ", ".join(f"{node} ({count})" for node, count in sorted(nodes.items()))
        text = f"{counted(nodes.total(), 'worker')} on {counted(len(nodes), 'node')}: {places}"
        if wait:
            waiting = sum(not worker.node for worker in self._workers.values())
            text += f"; waiting for {counted(waiting, f'more free {self._unit}')}"
        if crew == self._said or not {*self.awaited} <= {*lanes}:
            return None
        text = "" if self._released else text  # nobody left by themselves
        self._said, self._released = crew, False
        return Crew(len(lanes), text)

    def _at_work(self) -> tuple[Counter[str], bool]:
        """Return how many actors train on each node, and whether others wait for a place."""
        workers = self._workers.values()
        nodes = Counter(worker.node for worker in workers if worker.ready)
        return nodes, not all(worker.node for worker in workers)


def alive() -> list[dict[str, Any]]:
    """Return Ray's descriptions of the nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def is_lost(worker: Worker, error: RayError) -> bool:
    """Whether an actor ended with its node, or the network to it.

    The error's text does not tell: Ray names the node of a worker that ran out of memory, too.
    """
    unreachable = isinstance(error, ActorUnavailableError)  # Ray knows of no death of the worker
    return unreachable or worker.node_id not in {node["NodeID"] for node in alive()}


def check_installed(node: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Raise UserError naming the first package or code that differs between a node and here."""
    for name in ours:
        if theirs.get(name) != ours[name]:
            there = f"has {name} {theirs[name]}" if theirs.get(name) else f"lacks {name}"
            raise UserError(
                f"--ray: node {node} {there}, here it is {ours[name]}; install the same on all"
            )
