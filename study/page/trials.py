"""The trials of a search, as drawn on its page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.page.markup import shown
from study.spec.identity import IDENTITY, Identity
from study.spec.score import score_of
from study.spec.space import condition_of
from study.storage.records import CONFIG, ORIGIN, Ending, Result, ending, kept, result_of
from study.words import counted

MANY = 1000  # trials, beyond which full details of each would make the page too large
GONE = (Ending.DIVERGED, Ending.OUT_OF_MEMORY, Ending.FAILED)


@dataclass(frozen=True)
class Row:
    """A trial created by this program, as far as it was trained."""

    trial: FrozenTrial
    result: Result | None
    settings: Mapping[str, Any]
    curve: Sequence[float]  # scores by epoch, starting with epoch 1
    score: float | None  # mean of the last epochs; None without one

    @property
    def number(self) -> int:
        """Its number in the study."""
        return self.trial.number

    @property
    def ending(self) -> str:
        """How it ended, or its state if unfinished."""
        return ending(self.trial)

    @property
    def origin(self) -> str:
        """Origin of hand-made settings; empty if found by the search."""
        origin: str = self.trial.user_attrs.get(ORIGIN, "")
        return origin

    @property
    def values(self) -> Mapping[str, float]:
        """Its values other than the score."""
        return self.result.values if self.result else {}

    @property
    def complete(self) -> bool:
        """Whether it completed and has a result."""
        return self.trial.state == TrialState.COMPLETE and self.result is not None

    @property
    def gone(self) -> bool:
        """Whether it failed, so that its score is not that of a complete trial."""
        return self.ending in GONE

    @property
    def kind(self) -> str:
        """The CSS class of its marks."""
        if self.gone:
            return "bad"
        if not self.complete:
            return "grey"
        return "hand" if self.origin else "found"

    @property
    def mark(self) -> str:
        """The shape of its marks, for readers who cannot tell the colours apart."""
        return "cross" if self.gone else "diamond" if self.origin else "dot"

    @property
    def title(self) -> str:
        """The tooltip of its marks."""
        score = "no score" if self.score is None else f"{self.score:.4f}"
        of = f", {self.origin}" if self.origin else ""
        after = counted(len(self.curve), "epoch")
        return f"trial {self.number}{of}: {score}, {self.ending} after {after}"


@dataclass(frozen=True)
class Trials:
    """The trials of a search created by this program, by number."""

    identity: Identity
    rows: Sequence[Row]
    others: int  # number of trials added by other programs, which are ignored

    @property
    def metric(self) -> str:
        """Name of the score."""
        metric: str = self.identity.get("metric", "score")
        return metric

    @property
    def epochs(self) -> int:
        """Epochs of a complete trial."""
        epochs: int = self.identity["epochs"]
        return epochs

    @property
    def space(self) -> Mapping[str, Any]:
        """The definition of the space."""
        space: Mapping[str, Any] = self.identity["space_definition"]
        return space

    @property
    def many(self) -> bool:
        """Whether there are too many for marks to have tooltips."""
        return len(self.rows) > MANY

    @cached_property
    def complete(self) -> list[Row]:
        """Complete trials, best first."""
        found = [row for row in self.rows if row.complete and row.score is not None]
        return sorted(found, key=lambda row: -(row.score or 0.0))

    @property
    def hand(self) -> Row | None:
        """The best hand-made trial."""
        return next((row for row in self.complete if row.origin), None)

    @cached_property
    def worth_seeing(self) -> tuple[float, float]:
        """Ends of an axis zoomed to the good scores: it extends twice as far below the median of
        the complete trials as the best is above it."""
        scores = [row.score or 0.0 for row in self.complete]
        middle = sorted(scores)[len(scores) // 2]
        least = middle - 2 * (scores[0] - middle or 0.05)
        hand = [self.hand.score or 0.0] if self.hand else []
        inside = [score for score in (*scores, *hand) if score >= least]
        low, high = min((*inside, *hand)), max(inside)
        margin = 0.06 * (high - low) or 0.02
        return low - margin, high + margin


def trials_of(study: optuna.Study) -> Trials:
    """Return the trials of a search created by this program."""
    every = study.get_trials(deepcopy=False)
    rows = [row for trial in every if (row := _row(trial)) is not None]
    strange = [
        trial
        for trial in every
        if trial.state.is_finished() and trial.number not in {row.number for row in rows}
    ]
    return Trials(kept(study, IDENTITY), rows, len(strange))


def _row(trial: FrozenTrial) -> Row | None:
    settings, result = kept(trial, CONFIG), result_of(trial)
    if not isinstance(settings, dict) or not isinstance(trial.user_attrs.get(ORIGIN, ""), str):
        return None
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and result is None:
        return None
    curve = [score for _, score in sorted(trial.intermediate_values.items())]
    curve = curve[: next((i for i, each in enumerate(curve) if not math.isfinite(each)), None)]
    score = result.score if result else None
    if score is None and curve:
        score = score_of(curve)
    return Row(trial, result, settings, curve, score)


def setting_of(name: str, trials: Trials, row: Row) -> str:
    """Return the setting that a parameter of a trial sets."""
    setting: str = condition_of(name, trials.space, row.settings).get("setting", name)
    return setting


def varied_settings(trials: Trials) -> list[str]:
    """Return the settings that the search varies, in the order of its space."""
    settings = trials.rows[0].settings if trials.rows else {}
    found = dict.fromkeys(
        condition_of(name, trials.space, settings).get("setting", name) for name in trials.space
    )
    return [
        name for name in found if len({shown(row.settings.get(name)) for row in trials.rows}) > 1
    ]


def described(row: Row, names: Sequence[str]) -> str:
    """Return settings of a trial on one line."""
    return ", ".join(
        f"{name} {shown(row.settings[name])}" for name in names if name in row.settings
    )
