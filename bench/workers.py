"""Overhead of reporting an epoch from a worker to its parent: `python -m bench.workers`.

Compares local processes with actors of a new Ray cluster on this machine, in turn. `saturate`
measures how many workers one parent can serve: real loop and database, simulated workers.
"""

import heapq
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self
from unittest import mock

from optuna.distributions import FloatDistribution

from study.engine import conduct, hiring
from study.engine.conduct import Request
from study.options import Running, Search
from study.pipeline import Cost, Epoch, Settings
from study.spec.spec import searching
from study.workers.cluster import connected
from study.workers.messages import Done, Job, Message, Ready, Trained
from study.workers.pool import Pool
from study.workers.protocol import Workers
from study.workers.ray_pool import RayPool

STATE = 4_000_000  # bytes of a checkpoint, if trials write one
EPOCHS = 100


@dataclass(frozen=True)
class Idle:
    """A pipeline that computes nothing and writes checkpoints of `size` bytes."""

    size: int = 0
    epochs: int = EPOCHS
    memory: int | None = None
    name, metric, validation, about = "idle", "nothing", 0, "nothing"
    devices, curves_by = ("cpu",), ()
    base: ClassVar[Settings] = {}
    presets: ClassVar[dict[str, Settings]] = {}
    space: ClassVar[dict[str, Any]] = {"x": FloatDistribution(0.0, 1.0)}

    def identity(self) -> dict[str, Any]:
        return {}

    def cost(self, settings: Settings) -> Cost:
        return Cost(seconds=1.0)

    def open(self, device: str) -> "Idle":
        return self

    def pace(self, examples: Sequence[Settings], at_once: int) -> float | None:
        return None

    def train(self, settings: Settings, state: Path, key: str) -> Iterator[Epoch]:
        for number in range(1, self.epochs + 1):
            if self.size:
                state.parent.mkdir(exist_ok=True)
                state.write_bytes(b"0" * self.size)
            yield Epoch(number, settings["x"], {"loss": 1.0}, 0.0)


def milliseconds(pool: Workers, folder: Path) -> float:
    """Return the milliseconds to report, checkpoint and answer an epoch that takes no time."""
    start = 0.0
    while True:
        for lane, message in pool.messages(0.5):
            match message:
                case Ready():
                    pool.start(lane, Job({"x": 0.5}, folder / "a.state", "a"))
                case Trained(epochs=[epoch]):
                    start = start or time.perf_counter()
                    pool.answer(lane, go_on=epoch.number < EPOCHS)
                case Done():
                    return 1000 * (time.perf_counter() - start) / (EPOCHS - 1)


def compare(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name, connected("local") as head:
        for size in (0, STATE):
            local, far = [], []
            for _ in range(rounds):
                with Pool(Idle(size), 1, []) as pool:
                    local.append(milliseconds(pool, Path(name)))
                with RayPool(head, Idle(size), 1, []) as actors:
                    far.append(milliseconds(actors, Path(name)))
            extra = [b - a for a, b in zip(local, far, strict=True)]
            print(f"checkpoint {size:>9,} bytes: ", end="")
            for words, values in {"local": local, "Ray": far, "difference": extra}.items():
                print(f"{words} {statistics.median(values):.2f} ({spread(values)})", end="  ")
            print("ms per epoch", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


@dataclass
class Clocks:
    """Simulated workers: an epoch ends about `seconds` after it begins."""

    lanes: int
    seconds: float
    jobs: dict[int, Job] = field(default_factory=dict)
    trained: dict[int, int] = field(default_factory=dict)
    due: list[tuple[float, int]] = field(default_factory=list)
    new: deque[int] = field(default_factory=deque)
    late: list[float] = field(default_factory=list)
    status: str = ""

    def __len__(self) -> int:
        return self.lanes

    def __enter__(self) -> Self:
        self.new.extend(range(self.lanes))
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def awaited(self) -> range:
        return range(self.lanes)

    def process_of(self, lane: int) -> int:
        return lane

    def start(self, lane: int, job: Job) -> None:
        self.jobs[lane], self.trained[lane] = job, 0
        self.answer(lane, True)

    def answer(self, lane: int, go_on: bool) -> None:
        wait = self.seconds * (0.9 + 0.2 * (lane * 0.618 % 1)) if go_on else 0.0
        if not go_on:
            self.jobs.pop(lane)
        heapq.heappush(self.due, (time.perf_counter() + wait, lane))

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        while self.new:
            yield self.new.popleft(), Ready(None)
        if self.due:
            time.sleep(max(0.0, min(timeout, self.due[0][0] - time.perf_counter())))
        while self.due and self.due[0][0] <= time.perf_counter():
            at, lane = heapq.heappop(self.due)
            if lane not in self.jobs:
                yield lane, Done()
                continue
            self.late.append(time.perf_counter() - at)
            self.trained[lane] += 1
            number = self.trained[lane]
            values = {"loss": 1.0, "macro_f1": 0.5}
            yield lane, Trained([Epoch(number, self.jobs[lane].settings["x"], values, 1.0)])


def saturate(lanes: int, seconds: float, length: float, url: str) -> None:
    """Print how busy one parent keeps its workers, with epochs of `seconds` seconds."""
    clocks = Clocks(lanes, seconds)

    @contextmanager
    def clocked(*_: Any) -> Iterator[Any]:
        yield lambda *_: clocks

    pipeline = replace(Idle(), epochs=30)
    spec = searching(pipeline, "idle", None, 0, False)
    search = Search(trials=100_000, sampler="random")
    deadline = time.monotonic() + length
    request = Request(
        pipeline, spec, Running(storage=url), search, name=f"s{lanes}", deadline=deadline
    )
    start = time.process_time()
    with (
        mock.patch.object(hiring, "hiring", clocked),
        mock.patch.object(conduct, "hiring", clocked),
    ):
        conduct.conduct(request, lambda study: None)
    count = len(clocks.late)
    ideal = lanes * (length - seconds) / seconds
    cpu = 1000 * (time.process_time() - start) / max(1, count)
    print(
        f"{lanes} workers, epochs of {seconds:g} s: {count / ideal:.0%} of the possible epochs, "
        f"{cpu:.1f} ms of the parent's CPU time per epoch, median latency "
        f"{1000 * statistics.median(clocks.late):.0f} ms",
        flush=True,
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["saturate", lanes, seconds, length]:
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/s.db"
                saturate(int(lanes), float(seconds), float(length), url)
        case []:
            compare(rounds=5)
        case _:
            sys.exit("usage: python -m bench.workers [saturate WORKERS SECONDS LENGTH]")
