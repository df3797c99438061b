"""Notes and pictures for the Optuna dashboard."""

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.analysis.summary import complete_of
from study.dashboard import notes, pictures
from study.spec.identity import Identity
from study.storage.artifacts import Show, Shown, ids_in, put
from study.storage.database import Database
from study.storage.notes import note_in, write_notes
from study.storage.opening import artifacts_beside
from study.storage.records import Result
from study.storage.studies import current

MANY, BEST = 200, 20
"""The first MANY complete trials get notes and pictures, later ones only if among the BEST best
when they end: a dashboard goes through all notes for each trial."""


def show_trials(identity: Identity, study: optuna.Study) -> Show:
    """Return what to show for complete trials; write a note on a new study."""
    database = study._storage
    if note_in(database.get_study_system_attrs(study._study_id), None) is None:
        assert isinstance(database, Database)
        text = notes.above(notes.of_new(study), None)
        write_notes(database, study._study_id, {None: text})

    def show(trial: FrozenTrial, result: Result) -> Shown | None:
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not stands_out(result.score or 0.0, [other.value or 0.0 for other in others]):
            return None
        note = notes.of_trial(trial, result, identity)
        return Shown(note, pictures.of_trial(trial, result, identity))

    return show


def stands_out(score: float, others: Sequence[float]) -> bool:
    """Whether a trial is among the first, or among the best so far."""
    return len(others) < MANY or sum(other > score for other in others) < BEST


def show_study(study: optuna.Study, studies: Sequence[optuna.Study], url: str) -> None:
    """Write the note on a study of the database at `url`, its pictures, and missing notes on
    complete trials. The study's storage must be writable."""
    identity, database = current(study), study._storage
    if identity is None or not isinstance(database, Database):
        return
    system = database.get_study_system_attrs(study._study_id)
    written = notes.of_study(study, studies, url)
    found: dict[int | None, str] = {None: notes.above(written, note_in(system, None))}
    for trial, result in complete_of(study)[:MANY]:
        if note_in(system, trial._trial_id) is None:
            found[trial._trial_id] = notes.of_trial(trial, result, identity)
    write_notes(database, study._study_id, found)
    drawn = pictures.of_study(study, studies)
    for key, value in put(artifacts_beside(url), drawn, ids_in(system)).items():
        database.set_study_system_attr(study._study_id, key, value)
