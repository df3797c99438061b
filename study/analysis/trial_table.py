"""The trials of a study as rows for other programs."""

import csv
import io
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer.strict_json import to_json
from study.spec.identity import IDENTITY
from study.spec.space import condition_of
from study.storage.records import CONFIG, ORIGIN, ending, kept, result_of

Row = dict[str, Any]


def trial_rows(study: optuna.Study) -> list[Row]:
    """Return one row per trial, whatever its state and origin; all have the same columns.

    Common columns come first, then the other values, then the settings that vary. Values and
    settings named like an earlier column are prefixed: `value_NAME`, `setting_NAME`. Missing
    entries are None.
    """
    trials = study.get_trials(deepcopy=False)
    runs = any(trial.state == TrialState.RUNNING for trial in trials)
    parts: list[tuple[str, list[Row]]] = [
        ("", [_told(trial, runs) for trial in trials]),
        ("value_", [_values(trial) for trial in trials]),
        ("setting_", [_settings(study, trial) for trial in trials]),
    ]
    table: list[Row] = [{} for _ in trials]
    for prefix, rows in parts:
        earlier = set(table[0]) if table else set()
        for name in dict.fromkeys(name for row in rows for name in row):
            column = f"{prefix}{name}" if name in earlier else name
            for whole, row in zip(table, rows, strict=True):
                whole[column] = row.get(name)
    return table


def _told(trial: FrozenTrial, runs: bool) -> Row:
    """Return the common columns: ending, scores and cost.

    The holdout is left out while the study `runs`: nobody should choose by it.
    """
    result = result_of(trial)
    values = trial.values or []
    row: Row = {
        "number": trial.number,
        "ending": ending(trial),
        "score": values[0] if len(values) == 1 else None,
        "best_epoch": None,
        "best_epoch_score": None,
        "epochs": len(trial.intermediate_values),
        "seconds": None,
        "origin": str(trial.user_attrs.get(ORIGIN, "search")),
    }
    if result is not None:
        row |= {"score": result.score, "best_epoch": result.epoch, "seconds": result.seconds}
        row |= {"best_epoch_score": result.best, "epochs": result.epochs}
        if result.holdout is not None and not runs:
            row["holdout"] = result.holdout
    return row


def _values(trial: FrozenTrial) -> Row:
    """Return the values stored in addition to the score."""
    result = result_of(trial)
    return {} if result is None else dict(result.values)


def _settings(study: optuna.Study, trial: FrozenTrial) -> Row:
    """Return the settings that the study varies, as stored, else as drawn or queued."""
    identity: Any = kept(study, IDENTITY)
    definition = identity.get("space_definition", {}) if isinstance(identity, dict) else {}
    whole, queued = kept(trial, CONFIG), trial.system_attrs.get("fixed_params")
    whole = whole if isinstance(whole, dict) else {}
    drawn = {**(queued if isinstance(queued, dict) else {}), **trial.params}
    found: Row = {}
    for name in (*definition, *drawn):
        setting = condition_of(name, definition, whole).get("setting", name)
        if setting in whole or name in drawn:
            found.setdefault(setting, whole.get(setting, drawn.get(name)))
    return found


def as_csv(rows: list[Row]) -> str:
    """Return rows as CSV with a header; None is empty, numbers have full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(rows: list[Row]) -> str:
    """Return rows as a JSON list of objects; None and NaN become null."""
    return to_json(rows, indent=1) + "\n"
