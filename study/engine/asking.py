"""Ask the study for its next trial."""

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.engine.ending import Finished, fail
from study.engine.trial import Trial
from study.spec.spec import Spec
from study.storage.records import (
    CONFIG,
    CONTINUES,
    DEATHS,
    ORIGIN,
    STARVED,
    TRAINED_ON,
    attributes_misfit,
    kept,
)


class Unfit(Exception):
    """A trial queued by another program cannot be trained. It has been marked as failed."""

    def __init__(self, finished: Finished) -> None:
        super().__init__(finished.remark)
        self.finished = finished


def ask(study: optuna.Study, spec: Spec) -> Trial:
    """Return the next trial of the study, with its settings stored before it trains.

    Raises Unfit if it does not fit the study, TotalReached if the study has all its trials,
    TrialWaiting if another process put one back into the queue meanwhile.
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
