"""What this program stores with a trial: settings, result, how it ended."""

import base64
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, BeforeValidator, StrictInt, TypeAdapter, ValidationError

from fer.errors import UserError
from fer.strict_json import finite, number
from study.pipeline import Mistake
from study.spec.identity import hardware_in_words, hardware_of

CONFIG, RESULT, FAILURE, DEATHS = "config", "result", "failure", "deaths"
"""System attributes of a trial used by this program; read them with `kept`."""
OWNER = "owner"
"""System attribute: the process that runs the trial."""
CONTINUES = "continues"
"""System attribute of a second chance: the number of the stopped trial it continues."""
CONTINUES_FROM = "continues_from"
"""System attribute of a second chance: how many of those epochs it resumed from; 0 without a
checkpoint."""
TRAINED_ON = "trained_on"
"""System attribute of a trial not trained only on its study's hardware: pairs of first epoch and
hardware."""
STARVED = "starved"
"""System attribute of a trial that ran out of memory next to others: the error message."""
ORIGIN = "origin"
"""User attribute: where a trial's settings came from; missing if the sampler proposed them."""
NAMES = frozenset(
    {
        *(CONFIG, RESULT, FAILURE, DEATHS, OWNER, CONTINUES, CONTINUES_FROM, TRAINED_ON, STARVED),
        ORIGIN,
    }
)
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Ending(StrEnum):
    """How a trial ended. All but the first and the last are PRUNED for Optuna."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_RACE = "out of the race"  # its settings were clearly beaten, so it was not trained
    FAILED = "failed"


Number = Annotated[float, BeforeValidator(number)]
"""NaN and infinity are stored as null in JSON."""


@dataclass(frozen=True)
class Result:
    """Result of a finished trial."""

    ending: str
    score: float | None  # see `study.spec.score`; None without a trained epoch
    epoch: int | None  # the best epoch
    epochs: int  # epochs trained
    seconds: float
    best: float | None = None  # of the best epoch
    values: Mapping[str, Number] = field(default_factory=dict)  # mean of the last epochs
    # By epoch, at full precision, to check that a trial repeats. Not for comparing trials.
    curves: Mapping[str, list[Number]] = field(default_factory=dict)
    # base64 of numpy.packbits: which validation cases were correct in the last epoch
    right: str = ""
    # Score on the holdout. Never used for selection.
    holdout: float | None = None
    # Confusion matrix of the last epoch: rows true class, columns predicted class.
    confusion: list[list[int]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)  # the most confident ones
    reason: str = ""
    repeats: int | None = None  # the trial whose result was reused, in the study below
    repeats_study: str = ""

    def stored(self) -> dict[str, Any]:
        """Convert to JSON, omitting empty fields."""
        kept = {
            key: value for key, value in asdict(self).items() if value not in (None, "", {}, [])
        }
        return dict(finite(kept))

    def shown(self) -> dict[str, Any]:
        """Return the user attributes to show alongside the score: flat and few.

        Losses and training metrics are found in the curves.
        """
        values = {
            name: round(value, 6)
            for name, value in self.values.items()
            if name not in NAMES
            and math.isfinite(value)
            and "loss" not in name
            and not name.startswith("train")
        }
        own = {"best_epoch": self.epoch, "epochs": self.epochs, "seconds": round(self.seconds, 2)}
        return values | {name: each for name, each in own.items() if each is not None}


def as_text(right: bytes) -> str:
    """Encode which cases were correct, as stored."""
    return base64.b64encode(right).decode()


def kept(of: Any, name: str, otherwise: Any = None) -> Any:
    """Return the program's attribute `name` of a trial or study, which may be frozen.

    Reads the system attribute, or the user attribute in data of earlier versions.
    """
    if isinstance(of, optuna.Study):
        system = of._storage.get_study_system_attrs(of._study_id)
    else:
        system = of.system_attrs
    return system[name] if name in system else of.user_attrs.get(name, otherwise)


class _Attributes(BaseModel):
    """The program's attributes of a trial, whose types are relied on when reading."""

    config: dict[str, Any] = {}
    result: dict[str, Any] = {}
    origin: str = ""
    failure: dict[str, Any] = {}
    deaths: dict[str, StrictInt | str] = {}
    continues: StrictInt = 0
    continues_from: StrictInt = 0
    trained_on: list[tuple[StrictInt, dict[str, Any]]] = []


_RESULT = TypeAdapter(Result)


def attributes_misfit(trial: FrozenTrial) -> str | None:
    """Return why a trial's attributes were not written by this program, or None."""
    try:
        _Attributes.model_validate({**trial.user_attrs, **trial.system_attrs})
    except ValidationError as error:
        (first, *_) = error.errors()
        return f"its attribute {'.'.join(map(str, first['loc']))} is not this program's"
    if kept(trial, RESULT) is not None and kept(trial, CONFIG) is None:
        return "it has a result without settings"
    return None


def hardware_by_epoch(
    trial: FrozenTrial, identity: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Return the hardware a trial was trained on, by its first epoch there."""
    return {1: hardware_of(identity), **dict(kept(trial, TRAINED_ON, []))}


def other_hardware(trials: Iterable[FrozenTrial], identity: Mapping[str, Any]) -> dict[str, int]:
    """Count the trials trained, at least partly, on hardware other than the study's."""
    own = hardware_of(identity)
    return Counter(
        words
        for trial in trials
        for words in {
            hardware_in_words(each)
            for each in hardware_by_epoch(trial, identity).values()
            if each != own
        }
    )


def result_of(trial: FrozenTrial) -> Result | None:
    """Return the result stored with a trial, or None if missing or not of this program."""
    stored = kept(trial, RESULT)
    if not isinstance(stored, dict):
        return None
    if "accuracy" in stored:
        stored = _of_format_2(stored)
    # Formats up to 3 stored the best epoch's score as the score.
    known = {"score": None, "epoch": None, "best": stored.get("score"), **stored}
    try:
        return _RESULT.validate_python({**known, "ending": str(ending(trial))})
    except ValidationError:
        return None


def _of_format_2(stored: Mapping[str, Any]) -> dict[str, Any]:
    scores = ("macro_f1", "balanced_accuracy")
    values = {key: stored[key] for key in scores if stored.get(key) is not None}
    curves = {"loss": stored.get("losses"), "train_loss": stored.get("train_losses")}
    kept = ("epoch", "epochs", "seconds", "reason", "repeats", "repeats_study")
    return {
        "score": stored["accuracy"],
        "values": values,
        "curves": {key: curve for key, curve in curves.items() if curve},
        **{key: stored[key] for key in kept if stored.get(key) is not None},
    }


def ending(trial: FrozenTrial) -> str:
    """Return how a trial ended, or its state if it has not."""
    stored = kept(trial, RESULT) or {}
    if trial.state == TrialState.PRUNED:
        # Older studies stored `diverged` instead of an ending.
        return stored.get("ending") or ("diverged" if stored.get("diverged") else "pruned")
    if trial.state == TrialState.WAITING and trial.intermediate_values:
        return "interrupted"
    return {TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def settings_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return the settings of a trial. Raise UserError if none are stored."""
    settings = kept(trial, CONFIG)
    if not isinstance(settings, dict):
        raise UserError(f"trial {trial.number} has no stored settings")
    return settings


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count towards a study's total: complete and pruned ones."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def to_come(study: optuna.Study) -> int:
    """Return how many trials are queued or running."""
    states = (TrialState.WAITING, TrialState.RUNNING)
    return len(study.get_trials(deepcopy=False, states=states))


def scored(study: optuna.Study) -> list[tuple[FrozenTrial, Result]]:
    """Return the finished trials with a score that this program trained, with their results.

    Trials told through the dashboard have no result.
    """
    return with_scores(finished(study))


def with_scores(trials: Iterable[FrozenTrial]) -> list[tuple[FrozenTrial, Result]]:
    """Return those of the finished `trials` that have a result with a score."""
    found = [(trial, result_of(trial)) for trial in trials]
    return [
        (trial, result)
        for trial, result in found
        if result is not None and result.score is not None
    ]


def finished_twin(
    finished: Mapping[str, list[FrozenTrial]], settings: Mapping[str, Any]
) -> tuple[str, FrozenTrial] | None:
    """Return a finished trial that was trained with exactly these settings, and its study.

    Complete trials are preferred, because a stopped trial may have had a second chance.
    """
    found = [
        (where, trial)
        for where, trials in finished.items()
        for trial in trials
        if kept(trial, CONFIG) == settings
        and (result := result_of(trial)) is not None
        and result.repeats is None
        and ending(trial) not in (Ending.OUT_OF_MEMORY, Ending.OUT_OF_RACE)
    ]
    return min(found, key=lambda each: each[1].state != TrialState.COMPLETE, default=None)
