"""Second chances: at the end of a search, training of the best stopped trials continues.

A second chance is a new trial with the settings and checkpoint of the stopped one, because in
Optuna a finished trial cannot change.
"""

import statistics
from collections.abc import Sequence
from functools import cache
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from study.engine.pruners import curve_of, kind_of
from study.spec.score import score_of
from study.storage.records import (
    CONTINUES,
    CONTINUES_FROM,
    ORIGIN,
    TRAINED_ON,
    Ending,
    ending,
    kept,
    result_of,
)


def due(proposed: int, rate: float) -> int:
    """Return how many second chances are due after `proposed` trials: `rate` per trial, at least
    1."""
    return max(1, int(proposed * rate + 1e-9)) if rate and proposed else 0


def stopped(
    trials: Sequence[FrozenTrial], epochs: int, among: Sequence[FrozenTrial] | None = None
) -> list[FrozenTrial]:
    """Return the trials pruned before the last of `epochs` that none of `trials` continues.

    With `among`, only those in it are considered.
    """
    numbers = taken_up(trials)
    return [
        trial
        for trial in (trials if among is None else among)
        if trial.state == TrialState.PRUNED
        and ending(trial) == Ending.PRUNED
        and (result := result_of(trial)) is not None
        and result.repeats is None
        and 0 < len(trial.intermediate_values) < epochs
        and trial.number not in numbers
    ]


def taken_up(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that another trial continues."""
    return {
        first
        for trial in trials
        if (first := kept(trial, CONTINUES)) is not None and trial.state != TrialState.FAIL
    }


def to_train(trial: FrozenTrial, epochs: int) -> int:
    """Return how many of its `epochs` a running or waiting trial has left to train."""
    begun_with: int = kept(trial, CONTINUES_FROM, 0)
    return epochs - max(begun_with, len(trial.intermediate_values))


Curve = tuple[tuple[Any, ...], Sequence[float]]
"""Kind of a learning curve, and its scores by epoch."""


def expected_ends(stopped: Sequence[Curve], complete: Sequence[Curve]) -> list[float]:
    """Extrapolate the final score of each stopped curve from the gains of complete ones.

    Adds the median gain, from its last epoch on, over complete curves of the same kind, or over
    all complete curves if there are none of that kind.
    """

    @cache
    def gain(kind: tuple[Any, ...], epoch: int) -> float:
        alike = [curve for other, curve in complete if other == kind]
        curves = alike or [curve for _, curve in complete]
        curves = [curve for curve in curves if len(curve) > epoch]
        gains = [score_of(curve) - score_of(curve[:epoch]) for curve in curves]
        return statistics.median(gains) if gains else 0.0

    return [score_of(curve) + gain(kind, len(curve)) for kind, curve in stopped]


def second_chance(trial: FrozenTrial, resumed: bool) -> FrozenTrial:
    """Return a trial for the queue that continues a stopped one, `resumed` from its checkpoint.

    It keeps the origin of the stopped trial.
    """
    origin, moves = trial.user_attrs.get(ORIGIN), kept(trial, TRAINED_ON)
    return create_trial(
        state=TrialState.WAITING,
        system_attrs={
            "fixed_params": trial.params,
            CONTINUES: trial.number,
            CONTINUES_FROM: len(trial.intermediate_values) if resumed else 0,
            **({TRAINED_ON: moves} if resumed and moves else {}),
        },
        user_attrs={ORIGIN: origin} if origin else {},
    )


def ranked(
    candidates: Sequence[FrozenTrial], trials: Sequence[FrozenTrial], curves_by: Sequence[str]
) -> list[FrozenTrial]:
    """Sort stopped trials by expected final score, best first, given the complete `trials`."""

    def curve(trial: FrozenTrial) -> Curve:
        return kind_of(trial, curves_by), curve_of(trial)

    complete = [curve(trial) for trial in trials if trial.state == TrialState.COMPLETE]
    ends = expected_ends([curve(trial) for trial in candidates], complete)
    order = sorted(range(len(candidates)), key=lambda i: (-ends[i], candidates[i].number))
    return [candidates[i] for i in order]
