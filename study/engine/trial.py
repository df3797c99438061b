"""A trial that this process runs: its state and its epochs."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import optuna

from study.pipeline import Epoch
from study.storage.owned import OwnedDatabase
from study.storage.records import (
    DEATHS,
    STARVED,
    TRAINED_ON,
)

ATTEMPTS = 2  # worker deaths in the same epoch after which a trial has failed


class State(Enum):
    """State of a trial. Only this module changes it."""

    WAITING = auto()  # asked for; no lane has room yet
    TRAINING = auto()
    PAUSING = auto()  # told to stop for now
    STOPPING = auto()  # told to stop: pruned or diverged
    TRAINED = auto()  # all its epochs are reported
    TOLD = auto()  # finished in the study, or back in its queue


@dataclass
class Trial:
    """A trial that this process runs."""

    handle: optuna.Trial
    settings: dict[str, Any]
    origin: str
    known: frozenset[int]  # epochs stored before it was interrupted
    continues: int | None = None  # the stopped trial it gives a second chance
    deaths: Mapping[str, Any] = field(default_factory=dict)  # of its workers, as stored
    trained_on: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # see TRAINED_ON
    starved: bool = False  # whether it ran out of memory next to others
    state: State = State.WAITING
    epochs: list[Epoch] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    @property
    def number(self) -> int:
        """Number in the study."""
        return self.handle.number

    @property
    def id(self) -> int:
        """Id in the database."""
        return self.handle._trial_id

    @property
    def database(self) -> OwnedDatabase:
        """The database that holds the trial."""
        assert isinstance(self.handle.storage, OwnedDatabase)
        return self.handle.storage

    @property
    def behind(self) -> int:
        """Number of epochs already stored."""
        return max(self.known, default=0)

    @property
    def alone(self) -> bool:
        """Whether it must run alone: its worker died in the upcoming epoch, or memory ran out next
        to others."""
        return self.starved or len(self.epochs) < int(self.deaths.get("epoch", 0))

    def store(self, system: Mapping[str, Any], user: Mapping[str, Any] | None = None) -> None:
        """Store the program's own attributes, and those to show to the user.

        Raises TakenOver if the trial now belongs to another process.
        """
        self.database.set_trial_attributes(self.id, system, user)

    def begin(self) -> None:
        """The trial has started on a lane."""
        self.state = State.TRAINING

    def pause(self) -> None:
        """The trial was told to stop for now."""
        self.state = State.PAUSING

    def told(self) -> None:
        """The trial is finished in the study, or back in its queue."""
        self.state = State.TOLD

    def note_hardware(
        self, epoch: int, hardware: Mapping[str, Any], of_study: Mapping[str, Any]
    ) -> None:
        """Store which hardware trains the trial from `epoch` on, if it changed."""
        moves = {first: each for first, each in self.trained_on.items() if first < epoch}
        if hardware != (moves[max(moves)] if moves else of_study):
            moves[epoch] = hardware
        if moves != self.trained_on:
            self.trained_on = moves
            self.store({TRAINED_ON: [*moves.items()]})

    def report(self, epochs: list[Epoch], last: int, prunable: bool) -> None:
        """Store the scores of new epochs, and decide whether the trial should stop early.

        `last` is the number of the final epoch.
        """
        for epoch in epochs:
            self.epochs.append(epoch)
            if epoch.number not in self.known:
                self.handle.report(epoch.score, epoch.number)
        if self.epochs and diverged(self.epochs[-1]):
            self.state = State.STOPPING
        elif len(self.epochs) >= last:
            self.state = State.TRAINED
        # Retraining an epoch that is already stored gives nothing new to decide on.
        elif (
            prunable and epochs and epochs[-1].number >= self.behind and self.handle.should_prune()
        ):
            self.state = State.STOPPING


def diverged(epoch: Epoch) -> bool:
    """Whether the epoch's score or any of its values is NaN or infinite."""
    return not all(map(math.isfinite, (epoch.score, *epoch.values.values())))


def put_back(database: OwnedDatabase, trial: Trial) -> None:
    """Put a trial back into the queue with the same number, settings and stored epochs."""
    study_id = database.get_study_id_from_name(trial.handle.study.study_name)
    database.requeue(study_id, trial.number, database.owner)
    trial.told()


def another_death(trial: Trial, reason: str) -> bool:
    """Record that the trial's worker died; return whether to give up on the trial."""
    epoch = len(trial.epochs) + 1
    times = trial.deaths["times"] + 1 if trial.deaths.get("epoch") == epoch else 1
    trial.deaths = {"epoch": epoch, "times": times, "reason": reason}
    trial.store({DEATHS: trial.deaths})
    return bool(times >= ATTEMPTS)


def starve(trial: Trial, reason: str) -> None:
    """Record that the trial ran out of memory next to others: it runs alone from now on."""
    trial.starved = True
    trial.store({STARVED: reason})
