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
from optuna.trial import TrialState

from fer.checkpoint import clear_folder
from fer.config import Config
from fer.errors import UserError
from study import storage as store
from study.database import Database
from study.display import Display, counted
from study.identity import Identity, digest
from study.ownership import HEARTBEAT_SECONDS, OWNER, Owner, TotalReached
from study.patience import DatabaseAway
from study.sessions import show_life
from study.space import Space
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
from study.workers import Died, Message, Workers

ALIKE = 3  # failures of the same kind that end the study
STOP_SECONDS = 5.0  # that a database which is away is waited for after the first signal
LOOK_SECONDS = 5.0  # between looks at trials whose process is gone

Ending = Literal["finished", "timeout", "interrupted"]


@dataclass
class Loop:
    """Trains trials of `study` in `workers` until it has `total` of them or is to stop."""

    study: optuna.Study
    database: Database
    total: int
    space: Space
    base: Config
    identity: Identity
    checkpoints: Path
    train_again: bool  # settings that a finished trial had
    workers: Workers
    stop: Stop
    display: Display
    running: dict[int, Running] = field(default_factory=dict)  # by worker
    idle: set[int] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)
    looked: float = 0.0
    beaten: float = 0.0

    def measure(self) -> float | None:
        """Wait until every worker has measured its speed beside the others.

        The mean seconds of an epoch; None if it is to stop before they are known.
        """
        seconds: dict[int, float] = {}
        while len(seconds) < len(self.workers):
            if self.stop.soon:
                return None
            for worker, message in self.workers.messages(timeout=0.5):
                if isinstance(message, Died):  # another one has begun
                    self.idle.discard(worker)
                    continue
                assert isinstance(message, Ready), message
                self.idle.add(worker)
                if message.epoch_seconds is not None:
                    seconds[worker] = message.epoch_seconds
            self.display.tick()
        return sum(seconds.values()) / len(seconds)

    def run(self) -> Ending:
        """Train. Whatever ends it, the trials that still run are put back into the queue."""
        try:
            while (ending := self._ending()) is None:
                if not self.stop.soon:
                    self._begin_trials()
                self._say_why_it_waits()
                for worker, message in self.workers.messages(timeout=0.5):
                    self._handle(worker, message)
                self._look_around()
                self.display.tick()
            return ending
        except DatabaseAway:
            self.running.clear()  # the next run finds them
            raise
        finally:
            for run in self.running.values():
                self._put_back(run)
            clear_folder(self.checkpoints)

    def _ending(self) -> Ending | None:
        self.display.done = len(store.finished(self.study))
        if self.display.done >= self.total:
            return "finished"
        if self.stop.now or (self.stop.soon and not self.running):
            return "interrupted" if self.stop.exit_code else "timeout"
        return None

    def _say_why_it_waits(self) -> None:
        status = ""
        if self.stop.soon:
            status = "stopping after the epochs that run (Ctrl-C again: at once)"
        elif not self.running and len(self.idle) == len(self.workers):
            status = f"waiting for trials of {self._others()}"
        self.display.say(status)

    def _begin_trials(self) -> None:
        while self.idle:
            try:
                run = ask(self.study, self.space, self.base)
            except TotalReached:
                return
            twin = None if self.train_again else finished_twin(self.study, run)
            if twin is not None:
                self.display.finished(repeat(self.study, run, twin))
                continue
            worker = min(self.idle)
            self.idle.remove(worker)
            self.running[worker] = run
            self.workers.start(worker, self._job(run))
            self.display.started(worker, run.trial.number)

    def _handle(self, worker: int, message: Message) -> None:
        if isinstance(message, Ready):
            self.idle.add(worker)
            return
        if isinstance(message, Died):
            self.idle.discard(worker)
            if worker in self.running:
                self._worker_died(self._take(worker), message.reason)
            return
        if isinstance(message, Trained):
            self._trained(worker, self.running[worker], message)
            return
        run = self._take(worker)
        self.idle.add(worker)
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

    def _trained(self, worker: int, run: Running, message: Trained) -> None:
        if message.note and not run.noted:  # a full disk would say it every epoch
            self.display.print(f"trial {run.trial.number}: {message.note}")
            run.noted = True
        run.stopped = report(run, *message.epochs)
        over = run.stopped or len(run.epochs) == run.config.epochs
        run.paused = self.stop.soon and not over
        self.workers.answer(worker, go_on=not (run.stopped or run.paused))
        self.display.epochs(worker, message.epochs)

    def _take(self, worker: int) -> Running:
        """The trial of a worker, which runs no more: once told it can't be put back."""
        self.display.left(worker)
        return self.running.pop(worker)

    def _finish(self, run: Running, out_of_memory: str = "") -> None:
        with self._mine(run):
            self.display.finished(tell(self.study, run, out_of_memory))
            self._job(run).checkpoint.unlink(missing_ok=True)

    def _worker_died(self, run: Running, reason: str) -> None:
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
