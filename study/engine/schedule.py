"""Assign trials to lanes, and order their messages so that a study repeats."""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping

from study.engine.cost import CROWD, Demand, fits
from study.engine.trial import Trial
from study.pipeline import Expense, Settings
from study.workers.messages import Crew, Died, Message, OfTrial, Ready


class Schedule:
    """The lanes of the workers.

    Samplers and pruners depend on the order of results. To make a study repeatable, messages are
    processed in the order in which they are due on a virtual clock that advances by the trials'
    costs, independent of timing. Messages that arrive early wait.

    `processes` maps lanes to processes, and `cost` gives the cost of a trial. The loads of trials
    that share a device add up to at most `crowd`.
    """

    def __init__(
        self,
        processes: Mapping[int, int],
        cost: Callable[[Settings], Expense],
        crowd: float = CROWD,
    ) -> None:
        self._process, self._cost, self._crowd = processes, cost, crowd
        self._running: dict[int, Trial] = {}
        self._accompanied: set[int] = set()  # lanes whose trial ran next to others
        self._idle: set[int] = set()
        self._memory: dict[int, int | None] = {}  # free on the lane's device, in bytes
        self._pace: dict[int, float | None] = {}  # seconds per epoch, by lane
        self._inbox: dict[int, deque[OfTrial]] = defaultdict(deque)
        self._due: dict[int, float] = {}  # by lane, on the virtual clock
        self._now = 0.0

    @property
    def running(self) -> Mapping[int, Trial]:
        """The running trials by lane."""
        return self._running

    @property
    def idle(self) -> int:
        """Number of idle lanes."""
        return len(self._idle)

    @property
    def lanes(self) -> int:
        """Number of lanes that have been ready once."""
        return len(self._pace)

    def are_idle(self, lanes: Collection[int]) -> bool:
        """Whether all these lanes have an idle worker."""
        return self._idle.issuperset(lanes)

    def measured(self, lanes: Collection[int]) -> bool:
        """Whether each of these lanes has had a worker ready."""
        return self._pace.keys() >= {*lanes}

    @property
    def pace(self) -> float | None:
        """Mean seconds per epoch, or None if not measured."""
        seconds = [each for each in self._pace.values() if each is not None]
        return sum(seconds) / len(seconds) if seconds else None

    @property
    def due(self) -> Trial | None:
        """The trial whose next message is due while later ones wait for it, or None."""
        if not any(self._inbox[lane] for lane in self._running):
            return None
        return self._running[min(self._running, key=self._turn)]

    def ready(self, lane: int, message: Ready) -> None:
        """The lane's worker is ready for a trial."""
        self._idle.add(lane)
        self._memory[lane] = message.memory
        self._pace.setdefault(lane, message.epoch_seconds)

    def place_for(self, trial: Trial) -> int | None:
        """Return the first idle lane where a trial fits next to the running ones, or None."""
        wanted = self._demand(trial)
        for lane in sorted(self._idle):
            beside = [self._demand(self._running[other]) for other in self._beside(lane)]
            if fits(wanted, beside, self._memory[lane], self._crowd):
                return lane
        return None

    def _beside(self, lane: int) -> list[int]:
        """Other lanes of the same process on which trials run."""
        process = self._process[lane]
        return [each for each in self._running if each != lane and self._process[each] == process]

    def _demand(self, trial: Trial) -> Demand:
        # Trials that ran when a worker died are retried alone, to find out which one killed it.
        return Demand(self._cost(trial.settings), alone=trial.alone)

    def accompanied(self, lane: int) -> bool:
        """Whether the trial on a lane ever ran next to others."""
        return lane in self._accompanied

    def begin(self, lane: int, trial: Trial) -> None:
        """Start a trial on an idle lane."""
        self._idle.remove(lane)
        self._running[lane] = trial
        beside = self._beside(lane)
        self._accompanied -= {lane}
        self._accompanied |= {lane, *beside} if beside else set()
        self._due[lane] = self._now
        self.goes_on(lane)

    def goes_on(self, lane: int) -> None:
        """Advance the lane's trial to its next epoch."""
        self._due[lane] += self._cost(self._running[lane].settings).seconds

    def in_turn(self, lane: int, message: Message) -> Iterator[tuple[int, Message]]:
        """Yield the messages to handle now that `message` has arrived.

        A message about a worker is yielded at once; messages about trials in the order in which
        they are due. The caller must handle each before it asks for the next.
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
        """Take the finished trial off its lane, which becomes idle, and return it."""
        self._idle.add(lane)
        return self._running.pop(lane)

    def died(self, lane: int) -> Trial | None:
        """Record that the lane's worker is gone; return the trial that ran on it, if any."""
        self._idle.discard(lane)
        self._inbox[lane].clear()  # unprocessed epochs are in its checkpoint
        return self._running.pop(lane, None)

    def clear(self) -> list[Trial]:
        """Take all trials off their lanes and return them."""
        trials = list(self._running.values())
        self._running.clear()
        return trials
