"""Read trials from Optuna's tables, many at once."""

import json
from collections import defaultdict
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial

from study.storage.tables import (
    PARAMETERS,
    REPORTS,
    TRIAL_SYSTEM,
    TRIAL_USER,
    TRIALS,
    VALUES,
    joined,
    to_local,
)

AT_ONCE = 5_000  # ids per statement: databases limit the number of parameters

distribution_of: Any = lru_cache(maxsize=4096)(json_to_distribution)
"""Parse a distribution from JSON; returns the same object for the same text."""


def read_trials(
    connection: sa.Connection, study_id: int, ids: Collection[int] | None = None
) -> dict[int, FrozenTrial]:
    """Return a study's trials by ascending id, with `ids` only those."""
    of_study = TRIALS.c.study_id == study_id
    if ids is None:
        return _read(connection, of_study)
    found: dict[int, FrozenTrial] = {}
    wanted = sorted(ids)
    for start in range(0, len(wanted), AT_ONCE):
        some = TRIALS.c.trial_id.in_(wanted[start : start + AT_ONCE])
        found |= _read(connection, sa.and_(of_study, some))
    return found


def read_trial(connection: sa.Connection, trial_id: int) -> FrozenTrial | None:
    """Return a trial, or None if there is none."""
    return _read(connection, TRIALS.c.trial_id == trial_id).get(trial_id)


def distribution_in(
    connection: sa.Connection, trial_id: int, name: str
) -> BaseDistribution | None:
    """Return a parameter's distribution in the study of a trial; None if no trial has it yet."""
    study = sa.select(TRIALS.c.study_id).where(TRIALS.c.trial_id == trial_id).scalar_subquery()
    text = connection.scalar(
        sa.select(PARAMETERS.c.distribution_json)
        .join(TRIALS)
        .where(TRIALS.c.study_id == study, PARAMETERS.c.param_name == name)
        .order_by(PARAMETERS.c.param_id)
        .limit(1)
    )
    return None if text is None else distribution_of(text)


def _read(connection: sa.Connection, which: Any) -> dict[int, FrozenTrial]:
    """Return the trials that meet a condition, by id."""
    rows = connection.execute(sa.select(TRIALS).where(which).order_by(TRIALS.c.trial_id)).all()
    if not rows:
        return {}

    def of(table: sa.Table, *columns: Any) -> Any:
        chosen = sa.select(table.c.trial_id, *columns).join(TRIALS).where(which)
        return connection.execute(chosen.order_by(table.primary_key.columns[0]))

    parameters, distributions = _parameters(of)
    values = _numbers(of, VALUES, "objective", "value", "value_type")
    reports = _numbers(of, REPORTS, "step", "intermediate_value", "intermediate_value_type")
    user, system = _attributes(of, TRIAL_USER), _attributes(of, TRIAL_SYSTEM)
    return {
        row.trial_id: FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=[value for _, value in sorted(values[row.trial_id].items())] or None,
            datetime_start=to_local(row.datetime_start),
            datetime_complete=to_local(row.datetime_complete),
            params=parameters[row.trial_id],
            distributions=distributions[row.trial_id],
            user_attrs=user[row.trial_id],
            system_attrs=system[row.trial_id],
            intermediate_values=reports[row.trial_id],
            trial_id=row.trial_id,
        )
        for row in rows
    }


ByTrial = defaultdict[int, dict[Any, Any]]


def _parameters(of: Any) -> tuple[ByTrial, ByTrial]:
    """Return parameters and distributions by trial and name, in the order they were suggested."""
    parameters: ByTrial = defaultdict(dict)
    distributions: ByTrial = defaultdict(dict)
    columns = (PARAMETERS.c.param_name, PARAMETERS.c.param_value, PARAMETERS.c.distribution_json)
    for trial_id, name, value, text in of(PARAMETERS, *columns):
        distribution = distributions[trial_id][name] = distribution_of(text)
        parameters[trial_id][name] = distribution.to_external_repr(value)
    return parameters, distributions


def _numbers(of: Any, table: sa.Table, key: str, value: str, kind: str) -> ByTrial:
    """Return numbers stored in two columns, by trial and `key`."""
    found: ByTrial = defaultdict(dict)
    # As text: converting each row to an enum would be slow.
    columns = (table.c[key], table.c[value], sa.type_coerce(table.c[kind], sa.String))
    for trial_id, which, number, type_ in of(table, *columns):
        found[trial_id][which] = joined(number, type_)
    return found


def _attributes(of: Any, table: sa.Table) -> ByTrial:
    """Return attributes by trial and key."""
    found: ByTrial = defaultdict(dict)
    for trial_id, key, text in of(table, table.c.key, table.c.value_json):
        found[trial_id][key] = json.loads(text)
    return found
