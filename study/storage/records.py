"""What is stored with a trial beside Optuna's own: its settings, its result, how it ended."""

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
"""System attributes of a trial: the program's own. `kept` reads them."""
OWNER = "owner"
"""Likewise, the process that runs the trial."""
CONTINUES = "continues"
"""Likewise, of a second chance: the number of the stopped trial that it trains on."""
CONTINUES_FROM = "continues_from"
"""Likewise, how many of that trial's epochs it does not train again: 0 without its state."""
TRAINED_ON = "trained_on"
"""Likewise, of a trial that was not trained on its study's hardware alone: from which epoch on it
was on which, as pairs."""
ORIGIN = "origin"
"""The user attribute that says who put in a trial's settings; a search's own trials have none."""
NAMES = frozenset(
    {CONFIG, RESULT, FAILURE, DEATHS, OWNER, CONTINUES, CONTINUES_FROM, TRAINED_ON, ORIGIN}
)
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Ending(StrEnum):
    """How a trial ended. All but the first and the last are pruned for Optuna."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_RACE = "out of the race"  # its settings are clearly beaten: not trained
    FAILED = "failed"


Number = Annotated[float, BeforeValidator(number)]
"""JSON has null where there was no number."""


@dataclass(frozen=True)
class Result:
    """What a finished trial gave."""

    ending: str
    score: float | None  # see `study.spec.score`; None if it trained none
    epoch: int | None  # the best one
    epochs: int  # trained
    seconds: float
    best: float | None = None  # of the best epoch
    values: Mapping[str, Number] = field(default_factory=dict)  # beside the score, likewise
    # By epoch. Not for comparing trials: they have every bit, and show whether one repeats.
    curves: Mapping[str, list[Number]] = field(default_factory=dict)
    # base64 of numpy.packbits: which validation cases were right in the last epoch
    right: str = ""
    # Likewise on cases that are neither trained on nor chosen by: no part of choosing reads it.
    holdout: float | None = None
    # Of the last epoch: rows true class, columns said.
    confusion: list[list[int]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)  # the surest
    reason: str = ""
    repeats: int | None = None  # the trial that had these settings, of the study named next
    repeats_study: str = ""

    def stored(self) -> dict[str, Any]:
        """As JSON; what is empty is left out."""
        kept = {
            key: value for key, value in asdict(self).items() if value not in (None, "", {}, [])
        }
        return dict(finite(kept))

    def shown(self) -> dict[str, Any]:
        """What a person wants to see beside the score: user attributes, flat and few.

        Losses, and whatever is of training, are among the curves.
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
    """Which cases were right, as it is stored."""
    return base64.b64encode(right).decode()


def kept(of: Any, name: str, otherwise: Any = None) -> Any:
    """What the program stores under that name with a trial or a study, which may be frozen.

    It is a system attribute. Until the dashboard had notes all were user attributes.
    """
    if isinstance(of, optuna.Study):
        system = of._storage.get_study_system_attrs(of._study_id)
    else:
        system = of.system_attrs
    return system[name] if name in system else of.user_attrs.get(name, otherwise)


class _Attributes(BaseModel):
    """What the program stores with a trial, and reads without further question."""

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
    """What in the attributes of a trial this program did not write, in words; None if nothing."""
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
    """On which hardware a trial of a study was trained, by the first epoch there."""
    return {1: hardware_of(identity), **dict(kept(trial, TRAINED_ON, []))}


def other_hardware(trials: Iterable[FrozenTrial], identity: Mapping[str, Any]) -> dict[str, int]:
    """How many trials of a study were trained on what hardware beside its own, if only in part."""
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
    """The result stored with a trial; None if there is none, or it is not this program's."""
    stored = kept(trial, RESULT)
    if not isinstance(stored, dict):
        return None
    if "accuracy" in stored:
        stored = _of_format_2(stored)
    # Format 3 and before had the best epoch's as the score.
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
    """How a trial ended, or its state if it did not."""
    stored = kept(trial, RESULT) or {}
    if trial.state == TrialState.PRUNED:
        # Older studies kept whether it diverged, and no ending.
        return stored.get("ending") or ("diverged" if stored.get("diverged") else "pruned")
    if trial.state == TrialState.WAITING and trial.intermediate_values:
        return "interrupted"
    return {TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def settings_of(trial: FrozenTrial) -> dict[str, Any]:
    """The settings of a trial. Raises UserError if none are stored."""
    settings = kept(trial, CONFIG)
    if not isinstance(settings, dict):
        raise UserError(f"trial {trial.number} has no stored settings")
    return settings


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count toward a study's total: complete and pruned ones."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def scored(study: optuna.Study) -> list[tuple[FrozenTrial, Result]]:
    """The finished trials that this program trained and that reached a score, with their results.

    Whoever tells a trial through the dashboard leaves no result.
    """
    return with_scores(finished(study))


def with_scores(trials: Iterable[FrozenTrial]) -> list[tuple[FrozenTrial, Result]]:
    """Those of some finished trials that this program trained and that reached a score."""
    found = [(trial, result_of(trial)) for trial in trials]
    return [
        (trial, result)
        for trial, result in found
        if result is not None and result.score is not None
    ]


def finished_twin(
    finished: Mapping[str, list[FrozenTrial]], settings: Mapping[str, Any]
) -> tuple[str, FrozenTrial] | None:
    """One of the finished trials that had these very settings and trained, after its study.

    A complete one, if there is one: a stopped trial may have got a second chance.
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
