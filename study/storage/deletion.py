"""Files that belong to a study, and whether the study may be deleted."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer.errors import UserError
from study.spec.identity import IDENTITY, conditions_of, trial_key
from study.storage.artifacts import PREFIX
from study.storage.database import Database
from study.storage.leases import silent_trials
from study.storage.owner import Owner
from study.storage.records import CONFIG, OWNER, kept
from study.storage.studies import is_abandoned

ARTIFACT = (PREFIX, f"dashboard:{PREFIX}")
"""Prefixes of an artifact's system attribute, which ends with its id, the file name."""


def refuse_if_running(study: optuna.Study, database: Database) -> None:
    """Raise UserError naming the process if one runs a trial of the study."""
    silent = silent_trials(database, database.get_study_id_from_name(study.study_name))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_abandoned(trial, silent):
            owner = Owner.of(kept(trial, OWNER)) or "another program"
            raise UserError(
                f"study {study.study_name!r}: {owner} runs trial {trial.number}; stop it first"
            )


def checkpoints_of(
    study: optuna.Study, studies: Iterable[optuna.Study], folder: Path
) -> list[Path]:
    """Return the checkpoints of a study's interrupted trials in a folder.

    Studies under the same conditions share the checkpoints of equal settings: those that a trial
    of the other `studies` may resume from are left out.
    """
    keys = set(_keys(study, study.get_trials(deepcopy=False)))
    for other in studies:
        if other.study_name != study.study_name and keys:
            trials = other.get_trials(deepcopy=False)
            keys -= set(_keys(other, (each for each in trials if not _is_complete(each))))
    return sorted(file for key in keys for file in folder.glob(f"{key}.*"))


def _is_complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


def _keys(study: optuna.Study, trials: Iterable[FrozenTrial]) -> Iterator[str]:
    identity = kept(study, IDENTITY)
    if not isinstance(identity, dict):  # created by another program, which has no checkpoints
        return
    conditions = conditions_of(identity)
    for trial in trials:
        settings = kept(trial, CONFIG)
        if isinstance(settings, dict):
            yield trial_key(conditions, settings)


def artifacts_of(
    study: optuna.Study, studies: Iterable[optuna.Study], database: Database, folder: Path
) -> list[Path]:
    """Return the artifact files of a study and its trials in a folder.

    Copies of a study share its artifacts: those that other `studies` also name are left out.
    """
    names = _artifacts(study, database)
    for other in studies:
        if other.study_name != study.study_name and names:
            names -= _artifacts(other, database)
    # Match against existing files: a name from a database could be a path out of the folder.
    files = folder.iterdir() if names and folder.is_dir() else ()
    return sorted(file for file in files if file.name in names and file.is_file())


def _artifacts(study: optuna.Study, database: Database) -> set[str]:
    """Return the artifact ids of a study and its trials."""
    study_id = database.get_study_id_from_name(study.study_name)
    attributes = [database.get_study_system_attrs(study_id)]
    attributes += [trial.system_attrs for trial in study.get_trials(deepcopy=False)]
    keys = (key for each in attributes for key in each if key.startswith(ARTIFACT))
    return {key.rpartition(":")[2] for key in keys}
