"""Which trial runs on which lane, what was said of it, and whose turn it is to be heard."""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from study import storage as store
from study.estimate import Demand, Estimate
from study.training import Ready
from study.trial import Running
from study.workers import Message, Workers


@dataclass
class Lanes:
    """The lanes of some workers.

    Samplers and pruners go by what they were told before. So that a study with one seed repeats,
    news are handled in the order in which they are due on a clock of estimates, which no timing
    moves; what comes before its turn waits.
    """

    workers: Workers
    estimate: Estimate
    running: dict[int, Running] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    _memory: dict[int, int | None] = field(default_factory=dict)  # of lanes' GPUs, in bytes
    _inbox: dict[int, deque[Message]] = field(default_factory=lambda: defaultdict(deque))
    _now: float = 0.0

    def ready(self, lane: int, message: Ready) -> None:
        """A worker can take a trial on this lane."""
        self.idle.add(lane)
        self._memory[lane] = message.memory

    def place_for(self, run: Running) -> int | None:
        """The first idle lane where a trial fits beside those that run; None without one."""
        wanted = self._demand(run)
        for lane in sorted(self.idle):
            process = self.workers.process_of(lane)
            beside = [
                self._demand(other)
                for place, other in self.running.items()
                if self.workers.process_of(place) == process
            ]
            if self.estimate.fits(wanted, beside, self._memory[lane]):
                return lane
        return None

    def _demand(self, run: Running) -> Demand:
        # Whoever was there when a worker died is tried again alone: then it is clear who it was.
        suspect = run.trial.user_attrs.get(store.DEATHS, {"epoch": 0})
        return self.estimate.demand(run.config, alone=len(run.epochs) < suspect["epoch"])

    def begin(self, lane: int, run: Running) -> None:
        """A trial begins on an idle lane."""
        self.idle.remove(lane)
        self.running[lane] = run
        run.due = self._now
        self.goes_on(run)

    def goes_on(self, run: Running) -> None:
        """A trial begins its next epoch."""
        run.due += self.estimate.epoch_seconds(run.config)

    def said(self, lane: int, message: Message) -> None:
        """Keep what a worker said of a trial until it is its turn."""
        self._inbox[lane].append(message)

    def next(self) -> tuple[int, Running, Message] | None:
        """Of the trial that is due next, what was said; None if that has not come yet."""
        due = sorted(self.running.items(), key=lambda item: (item[1].due, item[1].trial.number))
        for lane, run in due[:1]:
            if self._inbox[lane]:
                self._now = run.due
                return lane, run, self._inbox[lane].popleft()
        return None

    def take(self, lane: int) -> Running:
        """The trial of a lane, which runs no more; the lane is idle."""
        self.idle.add(lane)
        return self.running.pop(lane)

    def died(self, lane: int) -> Running | None:
        """The lane's worker is gone; the trial that was on it, if there was one."""
        self.idle.discard(lane)
        self._inbox[lane].clear()  # what it trained is in its checkpoint
        return self.running.pop(lane, None)
