"""The study loop: ask for settings, train them in workers, report every epoch, prune, tell."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from fer.config import Config
from fer.errors import UserError
from fer.training.checkpoint import clear_folder
from study import storage as store
from study.database import Database
from study.display import Display, counted
from study.identity import Identity, digest
from study.lanes import Lanes
from study.ownership import HEARTBEAT_SECONDS, OWNER, Owner, TotalReached
from study.patience import DatabaseAway
from study.sessions import show_life
from study.space import HAND_TUNED, Space
from study.stop import Stop
from study.training import Broken, Done, Job, OutOfMemory, Ready, Trained
from study.trial import (
    Running,
    another_death,
    ask,
    fail,
    finished_twin,
    repeat,
    report,
    tell,
)
from study.workers import Died, Message

ALIKE = 3  # failures of the same kind that end the study
STOP_SECONDS = 5.0  # that a database which is away is waited for after the first signal
LOOK_SECONDS = 5.0  # between looks at trials whose process is gone

Ending = Literal["finished", "timeout", "interrupted"]


@dataclass
class Loop:
    """Trains trials of `study` on `lanes` until it has `total` of them or is to stop."""

    study: optuna.Study
    database: Database
    total: int
    space: Space
    base: Config
    identity: Identity
    checkpoints: Path
    train_again: bool  # settings that a finished trial had
    elsewhere: dict[str, list[FrozenTrial]]  # finished trials of other studies that serve as well
    spared: int  # the first epoch after which the pruner may stop a trial
    lanes: Lanes
    stop: Stop
    display: Display
    held: Running | None = None  # asked for, but it finds no place yet
    failures: Counter[str] = field(default_factory=Counter)
    looked: float = 0.0
    beaten: float = 0.0

    def measure(self) -> float | None:
        """Wait until every worker has measured its speed beside the others.

        The mean seconds of an epoch; None if it is to stop before they are known.
        """
        ready: dict[int, float | None] = {}
        while len(ready) < len(self.lanes.workers):
            if self.stop.soon:
                return None
            for lane, message in self.lanes.workers.messages(timeout=0.5):
                if isinstance(message, Died):  # another one has begun
                    self.lanes.died(lane)
                    continue
                assert isinstance(message, Ready), message
                self.lanes.ready(lane, message)
                ready.setdefault(lane, message.epoch_seconds)
            self.display.tick()
        seconds = [each for each in ready.values() if each is not None]
        return sum(seconds) / len(seconds) if seconds else None

    def run(self) -> Ending:
        """Train. Whatever ends it, the trials that still run are put back into the queue."""
        try:
            while (ending := self._ending()) is None:
                if not self.stop.soon:
                    self._begin_trials()
                self._say_why_it_waits()
                for lane, message in self.lanes.workers.messages(timeout=0.5):
                    if isinstance(message, Ready):
                        self.lanes.ready(lane, message)
                    elif isinstance(message, Died):
                        self._worker_died(lane, message.reason)
                    else:
                        self.lanes.said(lane, message)
                        self._let_go_on(lane, message)
                while (news := self.lanes.next()) is not None:
                    self._handle(*news)
                    if not self.stop.soon:
                        self._begin_trials()
                self._look_around()
                self.display.tick()
            return ending
        except DatabaseAway:
            self.lanes.running.clear()  # the next run finds them
            self.held = None
            raise
        finally:
            for run in [*self.lanes.running.values(), *([self.held] if self.held else [])]:
                self._put_back(run)
            clear_folder(self.checkpoints)

    def _ending(self) -> Ending | None:
        self.display.done = len(store.finished(self.study))
        if self.display.done >= self.total:
            return "finished"
        if self.stop.now or (self.stop.soon and not self.lanes.running):
            return "interrupted" if self.stop.exit_code else "timeout"
        return None

    def _say_why_it_waits(self) -> None:
        status = ""
        if self.stop.soon:
            again = " again" if self.stop.exit_code else ""
            status = f"stopping after the epochs that run (Ctrl-C{again}: at once)"
        elif not self.lanes.running and len(self.lanes.idle) == len(self.lanes.workers):
            status = f"waiting for trials of {self._others()}"
        self.display.say(status)

    def _begin_trials(self) -> None:
        while self.lanes.idle:
            run = self.held or self._next()
            if run is None:
                return
            lane = self.lanes.place_for(run)
            self.held = run if lane is None else None
            self.display.held = None if self.held is None else run.trial.number
            if lane is None:
                return
            self.lanes.begin(lane, run)
            self.lanes.workers.start(lane, self._job(run))
            self.display.started(lane, run.trial.number)

    def _next(self) -> Running | None:
        """The next trial to train; None if the study has as many as it is to have."""
        while True:
            try:
                run = ask(self.study, self.space, self.base)
            except TotalReached:
                return None
            known = {"": store.finished(self.study), **self.elsewhere}
            twin = None if self.train_again else finished_twin(known, run.config)
            if twin is None:
                return run
            self.display.finished(repeat(self.study, run, *twin))
            self._job(run).checkpoint.unlink(missing_ok=True)

    def take_over(self) -> None:
        """Finish the trials at the head of the queue that other studies have trained."""
        if run := self._next():
            self._put_back(run)

    def _handle(self, lane: int, run: Running, message: Message) -> None:
        if isinstance(message, Trained):
            self._trained(lane, run, message)
            return
        self.display.left(lane)
        self.lanes.take(lane)  # once told it can't be put back
        match message:
            case Done() if run.paused:
                self._put_back(run)
            case Done():
                self._finish(run)
            case OutOfMemory(reason):
                self._finish(run, out_of_memory=reason)
            case Broken(reason, traceback):
                self.display.print(traceback.rstrip())
                self._fail(run, reason, traceback)

    def _let_go_on(self, lane: int, message: Message) -> None:
        """An epoch after which no pruner can stop its trial need not wait for its turn."""
        run = self.lanes.running[lane]
        if self.stop.soon or not isinstance(message, Trained) or len(message.epochs) != 1:
            return
        (epoch,) = message.epochs
        if not epoch.diverged and (epoch.number < self.spared or run.origin == HAND_TUNED):
            run.ahead += 1
            self.lanes.workers.answer(lane, go_on=True)

    def _trained(self, lane: int, run: Running, message: Trained) -> None:
        if message.note and message.note not in run.noted:  # a full disk would say it every epoch
            self.display.print(f"trial {run.trial.number}: {message.note}")
            run.noted.add(message.note)
        run.stopped = report(run, *message.epochs)
        over = run.stopped or len(run.epochs) == run.config.epochs
        if run.ahead:  # it has been told
            run.ahead -= 1
        else:
            run.paused = self.stop.soon and not over
            self.lanes.workers.answer(lane, go_on=not (run.stopped or run.paused))
        if not over and not run.paused:
            self.lanes.goes_on(run)
        self.display.epochs(lane, message.epochs)

    def _finish(self, run: Running, out_of_memory: str = "") -> None:
        with self._mine(run):
            self.display.finished(tell(self.study, run, out_of_memory))
            self._job(run).checkpoint.unlink(missing_ok=True)

    def _worker_died(self, lane: int, reason: str) -> None:
        run = self.lanes.died(lane)
        if run is None:
            return
        self.display.left(lane)
        epoch = len(run.epochs) + 1
        with self._mine(run):
            if another_death(run, reason):
                self._fail(run, f"{reason}, twice in epoch {epoch}")
                return
            self._put_back(run)
            self.display.print(
                f"trial {run.trial.number}: {reason}, in epoch {epoch}; another one takes over"
            )

    def _fail(self, run: Running, reason: str, traceback: str = "") -> None:
        kind = reason.split(", twice")[0]
        with self._mine(run):
            self.display.finished(fail(self.study, run, reason, traceback))
            self._job(run).checkpoint.unlink(missing_ok=True)
            self.failures[kind] += 1
        if self.failures[kind] < ALIKE:
            return
        line = f"{ALIKE} trials failed alike, the last one was {run.trial.number}: {reason}"
        if traceback:
            raise RuntimeError(f"{line}\n{traceback}")
        raise UserError(line)

    @contextmanager
    def _mine(self, run: Running) -> Iterator[None]:
        """What is done here to a trial is left if another process has taken it over."""
        try:
            yield
        except UpdateFinishedTrialError:
            self.display.print(
                f"trial {run.trial.number}: another process took it over while this one was silent"
            )

    def _put_back(self, run: Running) -> None:
        self.database.requeue(run.trial._trial_id, self.database.owner)

    def _job(self, run: Running) -> Job:
        key = digest(self.identity, run.config.settings())
        behind = max(run.known, default=0)
        return Job(run.config, self.checkpoints / f"{key}.safetensors", key, behind)

    def _look_around(self) -> None:
        """Show life to other machines, and take over trials whose process is gone."""
        now = time.monotonic()
        if now - self.beaten > HEARTBEAT_SECONDS:
            self.beaten = now
            show_life(self.database)
        if now - self.looked > LOOK_SECONDS:
            self.looked = now
            lost = store.requeue_abandoned(self.study, self.database)
            if lost:
                found = f"{counted(lost, 'trial')} of a process that is gone"
                self.display.print(f"       taking over {found}")

    def waiting(self, reason: str, seconds: float) -> None:
        """The database is away. Raises DatabaseAway if someone wants to stop meanwhile."""
        self.display.waiting(reason, seconds)
        if self.stop.now or (self.stop.soon and seconds > STOP_SECONDS):
            raise DatabaseAway(
                f"stopped while the storage is out of reach: {reason}; what was stored is safe, "
                "the same command continues"
            )

    def _others(self) -> str:
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        owners = {str(Owner.of(trial.user_attrs.get(OWNER))) for trial in running}
        return ", ".join(sorted(owners)) or "others"
