"""The studies of a database: find or create them, and requeue abandoned trials."""

import sys
from collections.abc import Collection
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from fer.errors import UserError
from study.spec.identity import (
    IDENTITY,
    SEARCH,
    Identity,
    check,
    check_format,
    is_search,
    same_conditions,
    same_question,
)
from study.storage import owner as ownership
from study.storage.leases import (
    SESSIONS,
    begin_study,
    change_attribute,
    keep_apart,
    silent_trials,
)
from study.storage.opening import hidden, open_to_read, without_log
from study.storage.owned import OwnedDatabase
from study.storage.owner import Owner
from study.storage.records import ORIGIN, OWNER, kept

COMMAND = "command"
"""User attribute with the last command that trained for a study, without passwords."""
COMMIT = "commit"
"""System attribute with the Git commit of the training code that created a study, if known."""
SEARCH_CHANGES = "search_changes"
"""System attribute with each change of sampler and pruner, and the first trial it applies to."""
METRIC_NAMES = "study:metric_names"
"""Attribute set by Optuna's `Study.set_metric_names`, shown on the dashboard's axes."""


def begin_or_check(
    database: OwnedDatabase,
    name: str,
    identity: Identity,
    queue: list[FrozenTrial],
    command: str = "",
    commit: str = "",
    change_search: bool = False,
) -> tuple[int, bool]:
    """Create the study `name` with `queue` as its first trials, or check that it can continue.

    Returns its id and whether it is new. Raises UserError naming the differences if it was
    started with another identity. With `change_search` a change of sampler or pruner is recorded
    instead.
    """
    try:
        made_by = {COMMAND: command} if command else {}
        own = {IDENTITY: identity, METRIC_NAMES: [identity.get("metric", "score")]}
        own |= {COMMIT: commit} if commit else {}
        new = begin_study(database, name, own, made_by, queue)
        study = optuna.load_study(study_name=name, storage=database)
        study_id = database.get_study_id_from_name(name)
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(f"cannot write to storage {hidden(database.url)}: {reason}") from None
    if not new:
        stored = current(study)
        check(name, stored, identity, change_search, kept(study, COMMIT, ""))
        assert stored is not None
        keep_apart(database, study_id, (IDENTITY, SEARCH_CHANGES, SESSIONS))
        database.set_study_system_attr(study_id, METRIC_NAMES, own[METRIC_NAMES])
        change = {key: identity[key] for key in SEARCH if stored.get(key) != identity.get(key)}
        if change:
            first = database.get_n_trials(study_id)
            noted = {"from_trial": first, **change}
            change_attribute(database, study_id, SEARCH_CHANGES, lambda old: [*(old or []), noted])
    return study_id, new


def current(study: optuna.Study) -> Identity | None:
    """Return a study's identity with its current sampler and pruner.

    None if it was not created by this program.
    """
    identity: Identity | None = kept(study, IDENTITY)
    if identity is None:
        return None
    for change in kept(study, SEARCH_CHANGES, []):
        identity = identity | {key: change[key] for key in SEARCH if key in change}
    return identity


def waiting(parameters: dict[str, Any], origin: str) -> FrozenTrial:
    """Return a waiting trial for the queue of a new study."""
    return create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": parameters},
        user_attrs={ORIGIN: origin},
    )


def similar(database: OwnedDatabase, name: str, identity: Identity) -> str | None:
    """Return the name of another study with the same question on another installation, if any."""
    for study in database.get_all_studies():
        stored = kept(study, IDENTITY)
        other = study.study_name != name and stored != identity
        if other and same_question(stored, identity):
            return str(study.study_name)
    return None


def trained_elsewhere(
    database: OwnedDatabase, name: str, identity: Identity
) -> dict[str, list[FrozenTrial]]:
    """Return the complete trials of other studies under the same conditions, by study name."""
    return {
        study.study_name: database.get_all_trials(
            database.get_study_id_from_name(study.study_name),
            deepcopy=False,
            states=(TrialState.COMPLETE,),
        )
        for study in database.get_all_studies()
        if study.study_name != name and same_conditions(kept(study, IDENTITY), identity)
    }


def load_studies(url: str) -> list[optuna.Study]:
    """Load all studies at an SQLAlchemy URL. Raise UserError if there is no database."""
    storage = open_to_read(url)
    names = optuna.get_all_study_names(storage)
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def load_study(url: str, name: str | None, search: bool = False) -> optuna.Study:
    """Load the study `name`, or the most recent study (with `search`, the most recent search).

    Raises UserError if there is none.
    """
    studies = {study.study_name: study for study in load_studies(url)}
    wanted = [
        study for study in studies.values() if not search or is_search(kept(study, IDENTITY))
    ]
    if name is None and wanted:
        name = max(wanted, key=last_activity).study_name
    if name is None or name not in studies:
        lacks = f"no study {name!r}" if name else f"no {'search' if search else 'study'}"
        has = f", it has {', '.join(studies)}" if studies else ""
        copied = f"; {hint}" if (hint := without_log(url)) else ""
        raise UserError(f"{lacks} in {hidden(url)}{has}{copied}")
    if studies[name].get_trials(False, (TrialState.RUNNING,)) and (hint := without_log(url)):
        print(f"note: {hidden(url)} has running trials; {hint}", file=sys.stderr)
    check_format(name, kept(studies[name], IDENTITY, {}))
    return studies[name]


def last_activity(study: optuna.Study) -> float:
    """Return when a trial last started or ended, as a Unix timestamp; 0 without trials."""
    times = [
        moment.timestamp()
        for trial in study.get_trials(deepcopy=False)
        for moment in (trial.datetime_start, trial.datetime_complete)
        if moment is not None
    ]
    return max(times, default=0.0)


def requeue_abandoned(study: optuna.Study, database: OwnedDatabase) -> int:
    """Put trials whose process is gone back into the queue; return how many.

    On this machine this is known at once, on others after five minutes without a heartbeat.
    """
    study_id = database.get_study_id_from_name(study.study_name)
    silent = silent_trials(database, study_id)
    count = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if database.owns(study_id, trial.number):
            continue
        stored = kept(trial, OWNER)
        lost = stored == database.owner or is_abandoned(trial, silent)
        count += lost and database.requeue(study_id, trial.number, stored)
    return count


def is_abandoned(trial: FrozenTrial, silent: Collection[int]) -> bool:
    """Whether the process of a running trial is gone.

    On this machine this is known at once; on others, if its number is in `silent`.
    """
    owner = Owner.of(kept(trial, OWNER))
    if owner is None:  # run by plain Optuna
        return datetime.now() - (trial.datetime_start or datetime.min) > ownership.GRACE
    return owner.is_gone() or (trial.number in silent and not owner.is_here())
