"""Optuna's tables in schema version SCHEMA: all that is used beyond its public interface."""

import math
from datetime import UTC, datetime

import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import TrialState

SCHEMA = "v3.2.0.a"
"""Supported schema version, checked whenever a database is opened."""

METADATA = sa.MetaData()

STUDIES = sa.Table(
    "studies",
    METADATA,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("study_name", sa.String(512)),
)
DIRECTIONS = sa.Table(
    "study_directions",
    METADATA,
    sa.Column("study_direction_id", sa.Integer, primary_key=True),
    sa.Column("direction", sa.Enum(StudyDirection)),
    sa.Column("study_id", sa.ForeignKey("studies.study_id")),
    sa.Column("objective", sa.Integer),
)
TRIALS = sa.Table(
    "trials",
    METADATA,
    sa.Column("trial_id", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer),
    sa.Column("study_id", sa.ForeignKey("studies.study_id")),
    sa.Column("state", sa.Enum(TrialState)),
    sa.Column("datetime_start", sa.DateTime),  # UTC, like the next
    sa.Column("datetime_complete", sa.DateTime),
)
PARAMETERS = sa.Table(
    "trial_params",
    METADATA,
    sa.Column("param_id", sa.Integer, primary_key=True),
    sa.Column("trial_id", sa.ForeignKey("trials.trial_id")),
    sa.Column("param_name", sa.String(512)),
    sa.Column("param_value", sa.Float(53)),  # the internal representation
    sa.Column("distribution_json", sa.Text),
)
VALUES = sa.Table(
    "trial_values",
    METADATA,
    sa.Column("trial_value_id", sa.Integer, primary_key=True),
    sa.Column("trial_id", sa.ForeignKey("trials.trial_id")),
    sa.Column("objective", sa.Integer),
    sa.Column("value", sa.Float(53)),
    sa.Column("value_type", sa.Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")),
)
REPORTS = sa.Table(
    "trial_intermediate_values",
    METADATA,
    sa.Column("trial_intermediate_value_id", sa.Integer, primary_key=True),
    sa.Column("trial_id", sa.ForeignKey("trials.trial_id")),
    sa.Column("step", sa.Integer),
    sa.Column("intermediate_value", sa.Float(53)),
    sa.Column(
        "intermediate_value_type",
        sa.Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype"),
    ),
)
HEARTBEATS = sa.Table(
    "trial_heartbeats",
    METADATA,
    sa.Column("trial_heartbeat_id", sa.Integer, primary_key=True),
    sa.Column("trial_id", sa.ForeignKey("trials.trial_id")),
    sa.Column("heartbeat", sa.DateTime, default=sa.func.current_timestamp()),
)


def _attributes(name: str, owner: str, owners: str) -> sa.Table:
    return sa.Table(
        name,
        METADATA,
        sa.Column(f"{name.removesuffix('s')}_id", sa.Integer, primary_key=True),
        sa.Column(owner, sa.ForeignKey(f"{owners}.{owner}")),
        sa.Column("key", sa.String(512)),
        sa.Column("value_json", sa.Text),
    )


STUDY_USER = _attributes("study_user_attributes", "study_id", "studies")
STUDY_SYSTEM = _attributes("study_system_attributes", "study_id", "studies")
TRIAL_USER = _attributes("trial_user_attributes", "trial_id", "trials")
TRIAL_SYSTEM = _attributes("trial_system_attributes", "trial_id", "trials")

UNIQUE: dict[sa.Table, tuple[str, str]] = {
    STUDY_USER: ("study_id", "key"),
    STUDY_SYSTEM: ("study_id", "key"),
    TRIAL_USER: ("trial_id", "key"),
    TRIAL_SYSTEM: ("trial_id", "key"),
    PARAMETERS: ("trial_id", "param_name"),
    VALUES: ("trial_id", "objective"),
    REPORTS: ("trial_id", "step"),
}
"""Unique columns of each table."""

_TYPES = {math.inf: "INF_POS", -math.inf: "INF_NEG"}
_NUMBERS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


def split(value: float) -> tuple[float | None, str]:
    """Split a number into two columns: databases differ in how they store infinity and NaN."""
    if math.isnan(value):
        return None, "NAN"
    return (None, _TYPES[value]) if value in _TYPES else (value, "FINITE")


def joined(value: float | None, kind: str) -> float:
    """Restore a number from two columns."""
    return _NUMBERS[kind] if value is None else value


def to_utc(moment: datetime | None) -> datetime | None:
    """Convert a naive local time to naive UTC, as stored."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def to_local(moment: datetime | None) -> datetime | None:
    """Convert a stored time to naive local time, as in Optuna."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
