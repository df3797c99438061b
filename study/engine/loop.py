"""The study loop: ask for settings, train them in workers, report every epoch, prune, tell."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from fer.errors import UserError
from study.engine.display import Display
from study.engine.ending import fail, finish
from study.engine.neighbours import Neighbours
from study.engine.queue import Queue
from study.engine.schedule import Schedule
from study.engine.slow import SlowTrial
from study.engine.stop import Stop
from study.engine.trial import State, Trial, another_death, diverged, put_back, starve
from study.spec.spec import Spec
from study.storage.artifacts import Show
from study.storage.owned import OwnedDatabase
from study.storage.records import Ending, finished
from study.storage.retry import DatabaseAway
from study.storage.watched_file import StudyGone
from study.workers.messages import (
    Broken,
    Crew,
    Died,
    Done,
    Message,
    OutOfMemory,
    Ready,
    Trained,
)
from study.workers.protocol import Workers

ALIKE = 3  # failures with the same reason that end the study

Outcome = Literal["finished", "timeout", "interrupted"]


class Loop:
    """Trains the trials of `study` until `total` of them are finished, its epochs are spent, or a
    stop is requested.

    The pruner stops no trial before the end of epoch `earliest_pruning`. No trial starts before
    every awaited worker is ready; `say_plan` is then called with the number of trials at once and
    the mean seconds per epoch, if measured. `hardware` is what the study was started on.
    """

    def __init__(
        self,
        study: optuna.Study,
        database: OwnedDatabase,
        spec: Spec,
        queue: Queue,
        total: int | None,
        earliest_pruning: int,
        workers: Workers,
        schedule: Schedule,
        stop: Stop,
        display: Display,
        say_plan: Callable[[int, float | None], None],
        show: Show,
        hardware: Mapping[str, Any],
    ) -> None:
        self._study, self._database = study, database
        self._spec, self._queue = spec, queue
        self._total, self._earliest_pruning = total, earliest_pruning
        self._workers, self._schedule = workers, schedule
        self._stop, self._display = stop, display
        self._say_plan, self._plan_is_said, self._show = say_plan, False, show
        self._held: Trial | None = None  # asked for, but no lane has room yet
        self._ahead: Counter[int] = Counter()  # epochs answered early, by lane
        self._hardware, self._hardware_of = hardware, dict[int, Mapping[str, Any]]()  # by lane
        self._done = 0
        self._slow = SlowTrial()
        self._notes: set[tuple[int, str]] = set()  # notes already printed, by trial
        self._failures: Counter[str] = Counter()
        self._neighbours = Neighbours(study, database, display.print)

    def run(self) -> Outcome:
        """Run the study. However it ends, trials still running are put back into the queue."""
        try:
            while (outcome := self._outcome()) is None:
                self._end_idle_workers()
                self._begin_trials()
                self._show_status()
                self._receive()
                self._neighbours.look()
                self._display.tick()
            if outcome == "finished":
                self._queue.close(for_good=True)
            return outcome
        except (DatabaseAway, StudyGone):
            self._schedule.clear()  # the next run requeues them
            self._held = None
            raise
        finally:
            for trial in [*self._schedule.clear(), *([self._held] if self._held else [])]:
                put_back(self._database, trial)
            self._queue.close()

    def _outcome(self) -> Outcome | None:
        self._done = done = len(finished(self._study))
        self._display.so_far(done, self._queue.spent)
        enough = self._total is not None and done >= self._total
        if enough or (not self._held and self._queue.exhausted):
            return "finished"
        if self._stop.now or (self._stop.soon and not self._schedule.running):
            return "interrupted" if self._stop.exit_code else "timeout"
        return None

    def _end_idle_workers(self) -> None:
        """End workers for which no trial is left: they hold memory, and nodes of a cluster."""
        if self._total is not None:
            left = self._total - self._done
            for lane in self._workers.need(left, self._schedule.running.keys()):
                self._schedule.died(lane)

    def _begin_trials(self) -> None:
        if self._stop.soon:
            return
        if not self._plan_is_said:
            if not self._schedule.measured(self._workers.awaited):
                return
            self._say_plan(self._schedule.lanes, self._schedule.pace)
            self._plan_is_said = True
        while self._schedule.idle:
            trial = self._held or self._queue.next()
            if trial is None:
                return
            lane = self._schedule.place_for(trial)
            self._held = trial if lane is None else None
            self._display.holds(None if self._held is None else trial.number)
            if lane is None:
                return
            trial.begin()
            self._schedule.begin(lane, trial)
            self._workers.start(lane, self._queue.job(trial))
            self._display.started(lane, trial.number)

    def _receive(self) -> None:
        """Handle the workers' messages: those about trials in schedule order, others at once."""
        for source, news in self._workers.messages(timeout=0.5):
            self._answer_early(source, news)
            for lane, message in self._schedule.in_turn(source, news):
                self._handle(lane, message)
                self._begin_trials()

    def _handle(self, lane: int, message: Message) -> None:
        match message:
            case Ready():
                self._schedule.ready(lane, message)
                self._hardware_of[lane] = message.hardware
            case Died():
                self._worker_died(message)
            case Crew(lanes, text):
                self._display.crew(lanes, text)
            case Trained():
                self._trained(lane, message)
            case Done():
                self._ended(lane)
            case OutOfMemory(reason):
                self._ran_out(lane, reason)
            case Broken(reason, traceback):
                self._display.print(traceback.rstrip())
                self._fail(self._off(lane), reason, traceback)

    def _answer_early(self, lane: int, message: Message) -> None:
        """Let a trial continue before its message is due if no pruner could stop it now."""
        trial = self._schedule.running.get(lane)
        if self._stop.soon or trial is None or not isinstance(message, Trained) or message.resumed:
            return
        (epoch,) = message.epochs
        spared = epoch.number < self._earliest_pruning or self._is_exempt(trial)
        if spared and not diverged(epoch) and epoch.number < self._spec.epochs:
            self._ahead[lane] += 1
            self._workers.answer(lane, go_on=True)

    def _is_exempt(self, trial: Trial) -> bool:
        """Whether the trial is exempt from pruning (the control and second chances)."""
        is_control = bool(self._spec.control) and trial.origin == self._spec.control
        return is_control or trial.continues is not None

    def _trained(self, lane: int, message: Trained) -> None:
        trial = self._schedule.running[lane]
        if message.note and (trial.number, message.note) not in self._notes:
            self._display.print(f"trial {trial.number}: {message.note}")
            self._notes.add((trial.number, message.note))
        if trial.state == State.TRAINING:
            with self._mine(trial):
                if not message.resumed:
                    first = message.epochs[0].number
                    trial.note_hardware(first, self._hardware_of[lane], self._hardware)
                trial.report(list(message.epochs), self._spec.epochs, not self._is_exempt(trial))
        if self._ahead[lane]:
            self._ahead[lane] -= 1
        else:
            if self._stop.soon and trial.state == State.TRAINING:
                trial.pause()
            self._workers.answer(lane, go_on=trial.state == State.TRAINING)
        if trial.state == State.TRAINING:
            self._schedule.goes_on(lane)
        self._display.epochs(lane, list(message.epochs), message.resumed)

    def _ended(self, lane: int, out_of_memory: str = "") -> None:
        trial = self._off(lane)
        if trial.state == State.PAUSING and not out_of_memory:
            put_back(self._database, trial)
            return
        with self._mine(trial):
            done = finish(self._study, trial, out_of_memory, self._show)
            self._display.finished(done)
            if done.ending == Ending.PRUNED:
                self._queue.keep_if_near(trial)
            else:
                self._queue.forget(trial)

    def _ran_out(self, lane: int, reason: str) -> None:
        """End a trial after an OOM, or requeue it to run alone if it ran next to others."""
        trial = self._schedule.running[lane]
        if trial.starved or not self._schedule.accompanied(lane):
            self._ended(lane, out_of_memory=reason)
            return
        self._off(lane)
        with self._mine(trial):
            starve(trial, reason)
            put_back(self._database, trial)
            self._display.print(
                f"trial {trial.number}: out of memory next to others; it will be retried alone"
            )

    def _off(self, lane: int) -> Trial:
        """Take the trial off its lane before finishing it: a finished trial cannot be requeued."""
        self._display.left(lane)
        self._ahead[lane] = 0
        return self._schedule.end(lane)

    def _worker_died(self, death: Died) -> None:
        # All lanes first: nothing may be sent to the new process before it is ready.
        trials = [self._schedule.died(lane) for lane in death.lanes]
        for lane, trial in zip(death.lanes, trials, strict=True):
            self._ahead[lane] = 0
            if trial is not None:
                self._display.left(lane)
                self._try_again(trial, death.reason, death.innocent)

    def _try_again(self, trial: Trial, reason: str, innocent: bool) -> None:
        """Requeue a trial whose worker died, or fail it if that happened before in this epoch.

        A death for which the trial is `innocent`, such as a lost node, does not count.
        """
        epoch = len(trial.epochs) + 1
        with self._mine(trial):
            if not innocent and another_death(trial, reason):
                self._fail(trial, f"{reason}, twice in epoch {epoch}")
                return
            put_back(self._database, trial)
            self._display.print(
                f"trial {trial.number}: {reason}, in epoch {epoch}; it will be retried"
            )

    def _fail(self, trial: Trial, reason: str, traceback: str = "") -> None:
        kind = reason.split(", twice")[0]
        with self._mine(trial):
            self._display.finished(fail(self._study, trial, reason, traceback))
            self._queue.forget(trial)
            self._failures[kind] += 1
        if self._failures[kind] < ALIKE:
            return
        line = f"{ALIKE} trials failed the same way, last trial {trial.number}: {reason}"
        if traceback:
            raise RuntimeError(f"{line}\n{traceback}")
        raise UserError(line)

    @contextmanager
    def _mine(self, trial: Trial) -> Iterator[None]:
        """Stop working on the trial if another process has taken it over."""
        try:
            yield
        except UpdateFinishedTrialError:
            self._display.print(f"trial {trial.number}: another process took it over or ended it")
            trial.pause()  # if it is still training

    def _show_status(self) -> None:
        slow = self._slow.in_words(self._schedule.due, self._schedule.pace)
        status = ""
        if self._stop.soon:
            again = " again" if self._stop.exit_code else ""
            status = f"stopping after the current epochs (Ctrl-C{again}: stop now)"
        elif not self._plan_is_said:
            status = self._workers.status
        elif not self._schedule.running and self._schedule.are_idle(self._workers.awaited):
            status = f"waiting for trials run by {self._neighbours.running()}"
        self._display.say(status or slow)
