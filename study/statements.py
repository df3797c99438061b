"""Statements that store parts of a trial, and leave alone what is stored already."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

from study.connections import insert_new
from study.ownership import ATTRIBUTE

Statement = tuple[Any, dict[str, Any]]
"""An INSERT and its row."""

PARAMETER: Any = models.TrialParamModel.__table__
REPORT: Any = models.TrialIntermediateValueModel.__table__


def parameter(
    engine: sa.Engine, trial_id: int, name: str, value: float, distribution: BaseDistribution
) -> Statement:
    """A parameter, `value` as Optuna stores it."""
    row = {
        "trial_id": trial_id,
        "param_name": name,
        "param_value": value,
        "distribution_json": distribution_to_json(distribution),
    }
    return insert_new(engine, PARAMETER), row


def report(engine: sa.Engine, trial_id: int, step: int, accuracy: float) -> Statement:
    """The accuracy of an epoch."""
    kind = models.TrialIntermediateValueModel
    value, value_type = kind.intermediate_value_to_stored_repr(accuracy)
    row = {
        "trial_id": trial_id,
        "step": step,
        "intermediate_value": value,
        "intermediate_value_type": value_type,
    }
    return insert_new(engine, REPORT), row


def everything(engine: sa.Engine, trial_id: int, trial: FrozenTrial) -> Iterator[Statement]:
    """All that a process knows of a trial it runs."""
    for name, distribution in trial.distributions.items():
        value = distribution.to_internal_repr(trial.params[name])
        yield parameter(engine, trial_id, name, value, distribution)
    for key, attribute in trial.user_attrs.items():
        row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(attribute)}
        yield insert_new(engine, ATTRIBUTE), row
    for step, accuracy in trial.intermediate_values.items():
        yield report(engine, trial_id, step, accuracy)
