"""End a trial: store its result and tell the study."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.engine.trial import State, Trial, diverged
from study.spec.score import holdout_of, score_of
from study.storage.artifacts import Show, put
from study.storage.notes import write_notes
from study.storage.opening import artifacts_beside
from study.storage.records import FAILURE, RESULT, Ending, Result, as_text, result_of


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
    """Mark a trial as failed: it does not count and is not retried."""
    trial.store({FAILURE: {"reason": reason, "traceback": traceback}})
    study.tell(trial.handle, state=TrialState.FAIL)
    trial.told()
    seconds = time.monotonic() - trial.start
    result = Result(Ending.FAILED, None, None, len(trial.epochs), seconds)
    return _finished(trial, result, reason)


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
    trial.told()


def _finished(trial: Trial, result: Result, remark: str) -> Finished:
    ending = Ending(result.ending)
    return Finished(trial.number, ending, result, trial.settings, trial.origin, remark)
