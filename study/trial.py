"""One trial of a study: asked for, reported epoch by epoch, and told how it ended."""

import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer.config import Config
from fer.training.fit import Epoch
from study import storage as store
from study.space import HAND_TUNED, suggest

Ending = Literal["complete", "pruned", "diverged", "out of memory", "failed"]
"""The middle three are pruned trials for Optuna: its samplers learn from them."""

ATTEMPTS = 2  # in one epoch, after which a trial that ends its worker is not tried again


@dataclass
class Running:
    """A trial that is asked for and not told yet."""

    trial: optuna.Trial
    config: Config
    origin: str
    known: frozenset[int]  # epochs stored before it was interrupted
    start: float = field(default_factory=time.monotonic)
    epochs: list[Epoch] = field(default_factory=list)
    stopped: bool = False  # told to stop early, by the pruner
    paused: bool = False  # told to stop for now
    due: float = 0.0  # when its next epoch is, on the clock that orders reports
    noted: set[str] = field(default_factory=set)  # what a person was told of it
    ahead: int = 0  # epochs after which it was told to go on before they were handled


@dataclass(frozen=True)
class Finished:
    """A finished trial, as the display tells it."""

    number: int
    ending: Ending
    accuracy: float | None  # the best over its epochs
    epoch: int | None  # of the best accuracy
    epochs: int
    config: Config
    origin: str
    seconds: float
    remark: str = ""
    trained: bool = True  # in this study


def ask(study: optuna.Study, space: dict[str, Any], base: Config) -> Running:
    """The next trial of the study, its settings stored before it trains.

    Raises TotalReached if the study has as many as it is to have.
    """
    trial = study.ask()
    config = suggest(trial, space, base)
    trial.set_user_attr(store.CONFIG, config.settings())
    known = study._storage.get_trial(trial._trial_id).intermediate_values
    return Running(trial, config, trial.user_attrs.get(store.ORIGIN, ""), frozenset(known))


def report(run: Running, *epochs: Epoch) -> bool:
    """Store the accuracy of new epochs; whether the trial should stop early."""
    for epoch in epochs:
        run.epochs.append(epoch)
        if epoch.number not in run.known:
            run.trial.report(epoch.accuracy, epoch.number)
    if run.epochs and run.epochs[-1].diverged:
        return True
    # Stored epochs that are trained again say nothing before the last of them.
    new = bool(epochs) and epochs[-1].number >= max(run.known, default=0)
    # The report's final settings run to the end: the search is measured against them.
    return new and run.origin != HAND_TUNED and run.trial.should_prune()


def tell(study: optuna.Study, run: Running, out_of_memory: str = "") -> Finished:
    """Store a finished trial: its best accuracy over the epochs, and what belongs to it.

    Raises TakenOver if it belongs to another process by now.
    """
    best = max(run.epochs, key=lambda epoch: epoch.accuracy, default=None)
    ending: Ending = "complete"
    if out_of_memory:
        ending = "out of memory"
    elif run.epochs[-1].diverged:
        ending = "diverged"
    elif run.stopped and len(run.epochs) < run.config.epochs:
        ending = "pruned"
    seconds = time.monotonic() - run.start
    result: dict[str, Any] = {
        "ending": ending,
        "accuracy": best and best.accuracy,
        "epoch": best and best.number,
        "macro_f1": best and best.macro_f1,
        "balanced_accuracy": best and best.balanced_accuracy,
        "epochs": len(run.epochs),
        "seconds": round(seconds, 2),
        # Not for comparing trials: these have every bit, and show whether one can be repeated.
        "losses": [epoch.loss for epoch in run.epochs],
        "train_losses": [epoch.train_loss for epoch in run.epochs],
    }
    if out_of_memory:
        result["reason"] = out_of_memory
    run.trial.set_user_attr(store.RESULT, result)
    if best is not None and ending == "complete":
        study.tell(run.trial, best.accuracy)
    else:
        study.tell(run.trial, state=TrialState.PRUNED)
    return _told(run, result, out_of_memory)


def repeat(study: optuna.Study, run: Running, where: str, twin: FrozenTrial) -> Finished:
    """Store a trial whose settings the finished trial `twin` had, with its result.

    `where` is the study of `twin` if it is another one.
    """
    for number, accuracy in twin.intermediate_values.items():
        if number not in run.known:
            run.trial.report(accuracy, number)
    result = {**twin.user_attrs[store.RESULT], "seconds": 0.0, "repeats": twin.number}
    if where:
        result["repeats_study"] = where
    run.trial.set_user_attr(store.RESULT, result)
    if twin.state == TrialState.COMPLETE:
        study.tell(run.trial, twin.value)
    else:
        study.tell(run.trial, state=TrialState.PRUNED)
    of = f" of study {where}" if where else ""
    remark = f"has the settings and result of trial {twin.number}{of}"
    return replace(_told(run, result, remark), trained=not where)


def finished_twin(
    finished: dict[str, list[FrozenTrial]], config: Config
) -> tuple[str, FrozenTrial] | None:
    """One of the finished trials that had these very settings and trained, after its study."""
    settings = config.settings()
    for where, trials in finished.items():
        for trial in trials:
            if trial.user_attrs.get(store.CONFIG) == settings:
                result = trial.user_attrs.get(store.RESULT, {})
                if ending(trial) != "out of memory" and "repeats" not in result:
                    return where, trial
    return None


def fail(study: optuna.Study, run: Running, reason: str, traceback: str = "") -> Finished:
    """Store that a trial could not be trained; it does not count and is not tried again."""
    run.trial.set_user_attr(store.FAILURE, {"reason": reason, "traceback": traceback})
    study.tell(run.trial, state=TrialState.FAIL)
    return _told(run, {"ending": "failed", "epochs": len(run.epochs)}, reason)


def another_death(run: Running, reason: str) -> bool:
    """Note that the trial's worker ended; whether that was once too often in this epoch."""
    epoch = len(run.epochs) + 1
    last = run.trial.user_attrs.get(store.DEATHS, {})
    times = last["times"] + 1 if last.get("epoch") == epoch else 1
    deaths = {"epoch": epoch, "times": times, "reason": reason}
    run.trial.set_user_attr(store.DEATHS, deaths)
    return times >= ATTEMPTS


def ending(trial: FrozenTrial) -> str:
    """How a trial ended, or its state if it did not."""
    result = trial.user_attrs.get(store.RESULT, {})
    if trial.state == TrialState.PRUNED:
        # Older studies kept whether it diverged, and no ending.
        return result.get("ending") or ("diverged" if result.get("diverged") else "pruned")
    if trial.state == TrialState.WAITING and trial.intermediate_values:
        return "interrupted"
    return {TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def _told(run: Running, result: dict[str, Any], remark: str) -> Finished:
    return Finished(
        number=run.trial.number,
        ending=result["ending"],
        accuracy=result.get("accuracy"),
        epoch=result.get("epoch"),
        epochs=result["epochs"],
        config=run.config,
        origin=run.origin,
        seconds=result.get("seconds") or 0.0,
        remark=remark,
    )
