"""The life of a trial: ask for it, report its epochs, tell how it ended."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.pipeline import Epoch
from study.spec.score import holdout_of, score_of
from study.spec.spec import Spec
from study.storage.artifacts import Show, put
from study.storage.notes import write_notes
from study.storage.owned import OwnedDatabase
from study.storage.records import (
    CONFIG,
    CONTINUES,
    DEATHS,
    FAILURE,
    ORIGIN,
    RESULT,
    STARVED,
    TRAINED_ON,
    Ending,
    Result,
    as_text,
    attributes_misfit,
    kept,
    result_of,
)
from study.storage.studies import artifacts_beside

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
    starved: bool = False  # whether memory did not suffice for it beside others
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
        # While stored epochs are trained again, there is nothing new to decide on.
        elif (
            prunable and epochs and epochs[-1].number >= self.behind and self.handle.should_prune()
        ):
            self.state = State.STOPPING


def diverged(epoch: Epoch) -> bool:
    """Whether the epoch's score or any of its values is NaN or infinite."""
    return not all(map(math.isfinite, (epoch.score, *epoch.values.values())))


@dataclass(frozen=True)
class Finished:
    """A finished trial, for the display."""

    number: int
    ending: Ending
    result: Result
    settings: dict[str, Any]
    origin: str
    remark: str = ""
    trained: bool = True  # in this study


class Unfit(Exception):
    """A trial queued by another program cannot be trained. It has been marked as failed."""

    def __init__(self, finished: Finished) -> None:
        super().__init__(finished.remark)
        self.finished = finished


def ask(study: optuna.Study, spec: Spec) -> Trial:
    """Return the next trial of the study, with its settings stored before it trains.

    Raises Unfit if it does not fit the study, TotalReached if the study has all its trials.
    """
    trial = study.ask()
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    (known,) = (each for each in running if each.number == trial.number)
    if reason := misfit(known, spec):
        raise Unfit(fail(study, Trial(trial, {}, "", frozenset()), reason))
    asked = Trial(
        trial,
        spec.suggest(trial),
        origin=known.user_attrs.get(ORIGIN, ""),
        known=frozenset(known.intermediate_values),
        continues=kept(known, CONTINUES),
        deaths=kept(known, DEATHS, {}),
        trained_on=dict(kept(known, TRAINED_ON, [])),
        starved=kept(known, STARVED) is not None,
    )
    asked.store({CONFIG: asked.settings})
    return asked


def misfit(trial: FrozenTrial, spec: Spec) -> str | None:
    """Return why a trial added by another program does not fit the study, or None."""
    return attributes_misfit(trial) or spec.misfit(trial)


def finish(
    study: optuna.Study, trial: Trial, out_of_memory: str = "", show: Show = lambda *_: None
) -> Finished:
    """Store a finished trial: its score, its result, and what the dashboard shows of it.

    Raises TakenOver if the trial now belongs to another process.
    """
    result = _result(trial, out_of_memory)
    own: dict[str, Any] = {RESULT: result.stored()}
    shown = None
    if result.ending == Ending.COMPLETE:
        shown = show(trial.database.get_trial(trial.id), result)
    if shown is not None:  # attributes of a finished trial can no longer be set
        own |= put(artifacts_beside(trial.database.url), shown.pictures, {})
    trial.store(own, result.shown())
    _tell(study, trial, result.score, complete=result.ending == Ending.COMPLETE)
    if shown is not None:
        study_id = trial.database.get_study_id_from_name(study.study_name)
        write_notes(trial.database, study_id, {trial.id: shown.note})
    chance = "" if trial.continues is None else f"second chance of trial {trial.continues}"
    return _finished(trial, result, out_of_memory or chance)


def _result(trial: Trial, out_of_memory: str) -> Result:
    """Return the result of a trial's epochs."""
    valid = [epoch for epoch in trial.epochs if not diverged(epoch)]
    best = max(valid, key=lambda epoch: epoch.score, default=None)
    ending = Ending.COMPLETE if valid else Ending.PRUNED
    if out_of_memory:
        ending = Ending.OUT_OF_MEMORY
    elif trial.epochs and diverged(trial.epochs[-1]):
        ending = Ending.DIVERGED
    elif trial.state == State.STOPPING:
        ending = Ending.PRUNED
    names = dict.fromkeys(name for epoch in trial.epochs for name in epoch.values)
    return Result(
        ending=ending,
        score=score_of([epoch.score for epoch in valid]) if valid else None,
        epoch=best.number if best else None,
        epochs=len(trial.epochs),
        seconds=round(time.monotonic() - trial.start, 2),
        best=best.score if best else None,
        values={
            name: score_of([epoch.values.get(name, math.nan) for epoch in valid])
            for name in (names if valid else ())
        },
        curves={
            name: [epoch.values.get(name, math.nan) for epoch in trial.epochs] for name in names
        },
        right=as_text(trial.epochs[-1].right) if trial.epochs else "",
        holdout=holdout_of(epoch.holdout for epoch in valid),
        confusion=[list(row) for row in trial.epochs[-1].confusion] if trial.epochs else [],
        mistakes=list(trial.epochs[-1].mistakes) if trial.epochs else [],
        reason=out_of_memory,
    )


def repeat(study: optuna.Study, trial: Trial, where: str, twin: FrozenTrial) -> Finished:
    """Finish a trial with the result of `twin`, a finished trial with the same settings.

    `where` is the study of `twin`, or empty if it is this one.
    """
    for number, score in twin.intermediate_values.items():
        if number not in trial.known:
            trial.handle.report(score, number)
    found = result_of(twin)
    assert found is not None
    result = replace(found, seconds=0.0, repeats=twin.number, repeats_study=where)
    trial.store({RESULT: result.stored()}, result.shown())
    complete = twin.state == TrialState.COMPLETE
    _tell(study, trial, twin.value if complete else result.score, complete)
    of = f" of study {where}" if where else ""
    remark = f"repeats trial {twin.number}{of}"
    return replace(_finished(trial, result, remark), trained=not where)


def leave_out(study: optuna.Study, trial: Trial, reason: str) -> Finished:
    """Finish a trial without training it because its settings are out of the race."""
    result = Result(Ending.OUT_OF_RACE, None, None, len(trial.known), 0.0, reason=reason)
    trial.store({RESULT: result.stored()})
    _tell(study, trial, None, complete=False)
    return replace(_finished(trial, result, reason), trained=False)


def fail(study: optuna.Study, trial: Trial, reason: str, traceback: str = "") -> Finished:
    """Mark a trial as failed: it does not count and is not tried again."""
    trial.store({FAILURE: {"reason": reason, "traceback": traceback}})
    study.tell(trial.handle, state=TrialState.FAIL)
    trial.state = State.TOLD
    seconds = time.monotonic() - trial.start
    result = Result(Ending.FAILED, None, None, len(trial.epochs), seconds)
    return _finished(trial, result, reason)


def put_back(database: OwnedDatabase, trial: Trial) -> None:
    """Put a trial back into the queue with the same number, settings and stored epochs."""
    study_id = database.get_study_id_from_name(trial.handle.study.study_name)
    database.requeue(study_id, trial.number, database.owner)
    trial.state = State.TOLD


def another_death(trial: Trial, reason: str) -> bool:
    """Record that the trial's worker died; return whether to give up on the trial."""
    epoch = len(trial.epochs) + 1
    times = trial.deaths["times"] + 1 if trial.deaths.get("epoch") == epoch else 1
    trial.deaths = {"epoch": epoch, "times": times, "reason": reason}
    trial.store({DEATHS: trial.deaths})
    return bool(times >= ATTEMPTS)


def starve(trial: Trial, reason: str) -> None:
    """Note that memory did not suffice beside others: it runs alone from now on."""
    trial.starved = True
    trial.store({STARVED: reason})


def _tell(study: optuna.Study, trial: Trial, score: float | None, complete: bool) -> None:
    """Tell Optuna the score of a trial.

    `Study.tell` would use the last report of a pruned trial as its score, so a dashboard would
    show another number than the tables here.
    """
    if complete:
        study.tell(trial.handle, score)
    else:
        state, values = TrialState.PRUNED, None if score is None else [score]
        study.sampler.after_trial(study, trial.database.get_trial(trial.id), state, values)
        trial.database.set_trial_state_values(trial.id, state, values)
    trial.state = State.TOLD


def _finished(trial: Trial, result: Result, remark: str) -> Finished:
    ending = Ending(result.ending)
    return Finished(trial.number, ending, result, trial.settings, trial.origin, remark)
