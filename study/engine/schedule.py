"""Which trial runs on which lane, what was said of it, and whose turn it is to be heard."""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping

from study.engine.cost import CROWD, Demand, fits
from study.engine.trial import Trial
from study.pipeline import Expense, Settings
from study.workers.messages import Crew, Died, Message, OfTrial, Ready


class Schedule:
    """The lanes of some workers.

    Samplers and pruners go by what they were told before. So that a study with one seed repeats,
    trials are heard in the order in which they are due on a clock of costs, which no timing
    moves; what a worker says before its turn waits.

    `processes` has the process of each lane, `cost` tells what a trial takes; costs that keep a
    device busy add up to `crowd` at most.
    """

    def __init__(
        self,
        processes: Mapping[int, int],
        cost: Callable[[Settings], Expense],
        crowd: float = CROWD,
    ) -> None:
        self._process, self._cost, self._crowd = processes, cost, crowd
        self._running: dict[int, Trial] = {}
        self._idle: set[int] = set()
        self._memory: dict[int, int | None] = {}  # of lanes' devices, in bytes
        self._pace: dict[int, float | None] = {}  # of lanes, in seconds an epoch
        self._inbox: dict[int, deque[OfTrial]] = defaultdict(deque)
        self._due: dict[int, float] = {}  # by lane, on the clock of costs
        self._now = 0.0

    @property
    def running(self) -> Mapping[int, Trial]:
        """The trials on lanes."""
        return self._running

    @property
    def idle(self) -> int:
        """How many lanes could take a trial."""
        return len(self._idle)

    @property
    def lanes(self) -> int:
        """How many lanes were ready once."""
        return len(self._pace)

    def are_idle(self, lanes: Collection[int]) -> bool:
        """Whether there are workers on all these lanes, with nothing to do."""
        return self._idle.issuperset(lanes)

    def measured(self, lanes: Collection[int]) -> bool:
        """Whether there was a worker on each of these lanes."""
        return self._pace.keys() >= {*lanes}

    @property
    def pace(self) -> float | None:
        """Mean seconds of an epoch; None if no worker measured them."""
        seconds = [each for each in self._pace.values() if each is not None]
        return sum(seconds) / len(seconds) if seconds else None

    def ready(self, lane: int, message: Ready) -> None:
        """A worker can take a trial on this lane."""
        self._idle.add(lane)
        self._memory[lane] = message.memory
        self._pace.setdefault(lane, message.epoch_seconds)

    def place_for(self, trial: Trial) -> int | None:
        """The first idle lane where a trial fits beside those that run; None without one."""
        wanted = self._demand(trial)
        for lane in sorted(self._idle):
            beside = [
                self._demand(other)
                for place, other in self._running.items()
                if self._process[place] == self._process[lane]
            ]
            if fits(wanted, beside, self._memory[lane], self._crowd):
                return lane
        return None

    def _demand(self, trial: Trial) -> Demand:
        # Whoever was there when a worker died is tried again alone: then it is clear who it was.
        return Demand(self._cost(trial.settings), alone=trial.suspect)

    def begin(self, lane: int, trial: Trial) -> None:
        """A trial begins on an idle lane."""
        self._idle.remove(lane)
        self._running[lane] = trial
        self._due[lane] = self._now
        self.goes_on(lane)

    def goes_on(self, lane: int) -> None:
        """The lane's trial begins its next epoch."""
        self._due[lane] += self._cost(self._running[lane].settings).seconds

    def in_turn(self, lane: int, message: Message) -> Iterator[tuple[int, Message]]:
        """What is to be handled now that `message` has come: it at once if it is of a worker,
        else every message whose trial is due next.

        The caller handles each before it asks for the next.
        """
        if isinstance(message, Ready | Died | Crew):
            yield lane, message
        else:
            self._inbox[lane].append(message)
        while self._running:
            first = min(self._running, key=self._turn)
            if not self._inbox[first]:
                return
            self._now = self._due[first]
            yield first, self._inbox[first].popleft()

    def _turn(self, lane: int) -> tuple[float, int]:
        return self._due[lane], self._running[lane].number

    def end(self, lane: int) -> Trial:
        """The trial of a lane, which runs no more; the lane is idle."""
        self._idle.add(lane)
        return self._running.pop(lane)

    def died(self, lane: int) -> Trial | None:
        """The lane's worker is gone; the trial that was on it, if there was one."""
        self._idle.discard(lane)
        self._inbox[lane].clear()  # what it trained is in its checkpoint
        return self._running.pop(lane, None)

    def clear(self) -> list[Trial]:
        """Take every trial off its lane."""
        trials = list(self._running.values())
        self._running.clear()
        return trials
