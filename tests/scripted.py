"""Studies without worker processes: scripted workers train in the test process."""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from study.engine import conduct, hiring
from study.engine.conduct import Request
from study.options import Running, Search
from study.pipeline import Pipeline
from study.spec.identity import hardware_of
from study.spec.spec import searching
from study.storage import opening
from study.workers.messages import (
    Died,
    Done,
    Job,
    Message,
    OfTrial,
    Ready,
)
from study.workers.pool import surplus
from study.workers.worker import train
from tests.blobs import Blobs

Change = Callable[[Job, OfTrial], Message | None]


@dataclass
class Scripted:
    """Workers that train in this process, one lane at a time in random order.

    `change` may replace the message of a trial.
    """

    pipeline: Pipeline
    lanes: int
    order: random.Random = field(default_factory=lambda: random.Random(0))
    change: Change = lambda job, news: None
    shared: bool = False  # whether all lanes belong to one process
    jobs: dict[int, Job] = field(default_factory=dict)
    training: dict[int, Iterator[Any]] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)  # lanes
    ended: set[int] = field(default_factory=set)  # lanes for which no trial is left
    dead: set[int] = field(default_factory=set)  # processes whose death is not reported yet
    news: dict[int, deque[Message]] = field(default_factory=lambda: defaultdict(deque))

    def __enter__(self) -> "Scripted":
        for lane in range(self.lanes):
            self.news[lane].append(self._begun(0.01))
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __len__(self) -> int:
        return self.lanes

    @property
    def awaited(self) -> list[int]:
        return [lane for lane in range(self.lanes) if lane not in self.ended]

    @property
    def status(self) -> str:
        return "starting"

    def _begun(self, pace: float | None) -> Ready:
        return Ready(pace, hardware=hardware_of(self.pipeline.identity()))

    def process_of(self, lane: int) -> int:
        return 0 if self.shared else lane

    def need(self, trials: int, busy: Collection[int]) -> list[int]:
        idle = [lane for lane in reversed(self.awaited) if lane not in busy]
        ended = [] if self.shared else idle[: surplus(len(self.awaited), trials)]
        self.ended.update(ended)
        for lane in ended:
            assert not any(isinstance(each, OfTrial) for each in self.news.pop(lane, ()))
        return ended

    def start(self, lane: int, job: Job) -> None:
        if self._hears(lane):
            self.jobs[lane], self.training[lane] = job, train(self.pipeline.open("cpu"), job)
            self._go_on(lane)

    def answer(self, lane: int, go_on: bool) -> None:
        if self._hears(lane):
            if not go_on:
                self.training[lane].close()  # type: ignore[attr-defined]
            self._go_on(lane)

    def _hears(self, lane: int) -> bool:
        """Whether the lane's process is alive; messages to a dead one are lost."""
        assert lane not in self.ended
        lives = self.process_of(lane) not in self.dead
        assert lane in self.ready or not lives, "a message for a process that is not ready"
        return lives

    def _go_on(self, lane: int) -> None:
        said = next(self.training[lane], Done())
        changed = self.change(self.jobs[lane], said) or said
        if isinstance(changed, Died):
            process = self.process_of(lane)
            lanes = [each for each in range(self.lanes) if self.process_of(each) == process]
            for each in lanes:
                self.news[each].clear()
            self.dead.add(process)
            changed = replace(changed, lanes=lanes)
        self.news[lane].append(changed)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        lanes = [lane for lane, news in self.news.items() if news]
        if not lanes:
            return
        lane = self.order.choice(lanes)
        message = self.news[lane].popleft()
        if isinstance(message, Died):  # a new process starts
            self.dead.discard(self.process_of(lane))
            self.ready -= {*message.lanes}
            for each in message.lanes:
                self.news[each].append(self._begun(None))
        elif isinstance(message, Ready):
            self.ready.add(lane)
        yield lane, message


Run = Callable[..., list[FrozenTrial]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a search with scripted workers; return the stored trials."""

    def call(
        folder: str = ".",
        trials: int | None = 12,
        lanes: int = 2,
        seed: int = 0,
        change: Change = lambda job, news: None,
        deadline: float = float("inf"),
        pipeline: Blobs = Blobs(),  # noqa: B008
        checkpoints: Path | None = None,
        shared: bool = False,
        **search: Any,
    ) -> list[FrozenTrial]:
        Path(folder).mkdir(exist_ok=True)
        order = random.Random(seed)
        monkeypatch.setattr(
            hiring,
            "Pool",
            lambda pipeline, lanes, examples, spare: Scripted(
                pipeline, lanes, order, change, shared
            ),
        )
        running = Running(
            storage=f"sqlite:///{folder}/studies.db", workers=lanes, checkpoints=checkpoints
        )
        request = Request(
            pipeline,
            searching(pipeline, "blobs", None, 0, search.get("hand_made", True)),
            running,
            Search(trials=trials, **search),
            name="small",
            deadline=deadline,
        )
        conduct.conduct(request, lambda study: None)
        return stored(folder)

    return call


def stored(folder: str = ".") -> list[FrozenTrial]:
    storage = opening.open_to_read(f"sqlite:///{folder}/studies.db")
    return optuna.load_study(study_name="small", storage=storage).get_trials()
