"""A search's trials as its page draws them."""

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

MANY = 1000  # trials, beyond which a page would be too large with all that is known of each
GONE = (Ending.DIVERGED, Ending.OUT_OF_MEMORY, Ending.FAILED)


@dataclass(frozen=True)
class Row:
    """A trial with settings of this program's, as far as it was trained."""

    trial: FrozenTrial
    result: Result | None
    settings: Mapping[str, Any]
    curve: Sequence[float]  # scores by epoch, the first is that of epoch 1
    score: float | None  # mean of the last epochs; None without one

    @property
    def number(self) -> int:
        """In the study."""
        return self.trial.number

    @property
    def ending(self) -> str:
        """How it ended, or its state if it did not."""
        return ending(self.trial)

    @property
    def origin(self) -> str:
        """Who put it in by hand; empty if the search found it."""
        origin: str = self.trial.user_attrs.get(ORIGIN, "")
        return origin

    @property
    def values(self) -> Mapping[str, float]:
        """What it reached beside the score."""
        return self.result.values if self.result else {}

    @property
    def complete(self) -> bool:
        """Whether it ran to its end, and has a result."""
        return self.trial.state == TrialState.COMPLETE and self.result is not None

    @property
    def gone(self) -> bool:
        """Whether it failed, so that its score is not one of a whole trial."""
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
        """The shape of its marks, for readers who do not tell the colours apart."""
        return "cross" if self.gone else "diamond" if self.origin else "dot"

    @property
    def title(self) -> str:
        """What is shown over its marks."""
        score = "no score" if self.score is None else f"{self.score:.4f}"
        of = f", {self.origin}" if self.origin else ""
        return f"trial {self.number}{of}: {score}, {self.ending} after {len(self.curve)} epochs"


@dataclass(frozen=True)
class Trials:
    """The trials of a search that have settings of its own, by number."""

    identity: Identity
    rows: Sequence[Row]
    others: int  # of other programs, which count for nothing

    @property
    def metric(self) -> str:
        """What a score is."""
        metric: str = self.identity.get("metric", "score")
        return metric

    @property
    def epochs(self) -> int:
        """Of a whole trial."""
        epochs: int = self.identity["epochs"]
        return epochs

    @property
    def space(self) -> Mapping[str, Any]:
        """The definition of the space."""
        space: Mapping[str, Any] = self.identity["space_definition"]
        return space

    @property
    def many(self) -> bool:
        """Whether there are so many that marks can't have titles."""
        return len(self.rows) > MANY

    @cached_property
    def complete(self) -> list[Row]:
        """Those that ran to their end, the best first."""
        found = [row for row in self.rows if row.complete and row.score is not None]
        return sorted(found, key=lambda row: -(row.score or 0.0))

    @property
    def hand(self) -> Row | None:
        """The best of those that were put in by hand."""
        return next((row for row in self.complete if row.origin), None)

    @cached_property
    def worth_seeing(self) -> tuple[float, float]:
        """Ends of an axis of scores that shows the good ones apart: as far below the median of
        the complete trials as the best is above it, twice over."""
        scores = [row.score or 0.0 for row in self.complete]
        middle = sorted(scores)[len(scores) // 2]
        least = middle - 2 * (scores[0] - middle or 0.05)
        hand = [self.hand.score or 0.0] if self.hand else []
        inside = [score for score in (*scores, *hand) if score >= least]
        low, high = min((*inside, *hand)), max(inside)
        margin = 0.06 * (high - low) or 0.02
        return low - margin, high + margin


def trials_of(study: optuna.Study) -> Trials:
    """The trials of a search that this program began."""
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
    """The setting that a parameter of a trial gives."""
    setting: str = condition_of(name, trials.space, row.settings).get("setting", name)
    return setting


def varied_settings(trials: Trials) -> list[str]:
    """The settings that the search varies, in the order of its space."""
    settings = trials.rows[0].settings if trials.rows else {}
    found = dict.fromkeys(
        condition_of(name, trials.space, settings).get("setting", name) for name in trials.space
    )
    return [
        name for name in found if len({shown(row.settings.get(name)) for row in trials.rows}) > 1
    ]


def described(row: Row, names: Sequence[str]) -> str:
    """Settings of a trial in a line."""
    return ", ".join(
        f"{name} {shown(row.settings[name])}" for name in names if name in row.settings
    )
