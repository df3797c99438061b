"""Markdown notes on a study and its trials, stored as optuna-dashboard stores them.

Does not depend on that package, whose `save_note` needs a commit for each line.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from study.storage.database import Database
from study.storage.retry import patient
from study.storage.tables import STUDY_SYSTEM
from study.storage.writing import Row, attribute, lock_study, write

LONGEST = 2045
"""Maximum characters per attribute. The dashboard joins the parts of a longer note."""

Notes = Mapping[int | None, str]
"""Notes by trial id; None is the note on the study."""


@patient
def write_notes(database: Database, study_id: int, notes: Notes) -> None:
    """Write notes in one transaction, replacing existing ones."""
    with database.transaction() as connection:
        lock_study(connection, study_id)
        rows: list[Row] = []
        for trial_id, text in notes.items():
            stored = _stored(connection, study_id, trial_id)
            version = _version(trial_id)
            parts = {
                f"{_prefix(trial_id)}{i}": text[start : start + LONGEST]
                for i, start in enumerate(range(0, len(text), LONGEST))
            }
            # Clear leftover parts of a longer note: the dashboard would show them.
            left = dict.fromkeys(stored.keys() - parts.keys() - {version}, "")
            new = {version: int(stored.get(version, 0)) + 1, **parts, **left}
            rows += [attribute(STUDY_SYSTEM, study_id, *each) for each in new.items()]
        write(connection, rows, replace=True)


def _stored(connection: sa.Connection, study_id: int, trial_id: int | None) -> dict[str, Any]:
    """Return the attributes of a note."""
    keys = STUDY_SYSTEM.c.key
    mine = sa.or_(keys == _version(trial_id), keys.startswith(_prefix(trial_id), autoescape=True))
    chosen = sa.select(keys, STUDY_SYSTEM.c.value_json)
    rows = connection.execute(chosen.where(STUDY_SYSTEM.c.study_id == study_id, mine))
    return {key: json.loads(text) for key, text in rows}


def note_in(system: Mapping[str, Any], trial_id: int | None) -> str | None:
    """Return the note on a trial or the study from the study's system attributes, or None."""
    if _version(trial_id) not in system:
        return None
    prefix = _prefix(trial_id)
    numbers = sorted(int(key.removeprefix(prefix)) for key in system if key.startswith(prefix))
    return "".join(str(system[f"{prefix}{number}"]) for number in numbers)


def renumbered(system: Mapping[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """Return a study's system attributes with trial ids replaced; `ids` maps old to new.

    Attributes of trials not in `ids` are dropped.
    """
    found = {}
    for key, value in system.items():
        of_trial = re.match(r"dashboard:(?:artifacts:)?(\d+):", key)
        if of_trial is None:
            found[key] = value
        elif (new := ids.get(int(of_trial[1]))) is not None:
            start, end = of_trial.span(1)
            found[f"{key[:start]}{new}{key[end:]}"] = value
    return found


def _version(trial_id: int | None) -> str:
    return "dashboard:note_ver" if trial_id is None else f"dashboard:{trial_id}:note_ver"


def _prefix(trial_id: int | None) -> str:
    return "dashboard:note_str:" if trial_id is None else f"dashboard:{trial_id}:note_str:"
