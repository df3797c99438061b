"""Second chances: at the end of a search the best of the stopped trials are trained on.

A second chance is a trial of its own, with the settings and the state of the stopped one: for
Optuna a finished trial does not change.
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
    """How many second chances a search of that many proposed trials gives: `rate` a trial, and
    at least one."""
    return max(1, int(proposed * rate + 1e-9)) if rate and proposed else 0


def stopped(
    trials: Sequence[FrozenTrial], epochs: int, among: Sequence[FrozenTrial] | None = None
) -> list[FrozenTrial]:
    """The trials that the pruner stopped before the last of `epochs`, and that nobody of `trials`
    took up; with `among` those of them."""
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
    """The numbers of the trials that others continue."""
    return {
        first
        for trial in trials
        if (first := kept(trial, CONTINUES)) is not None and trial.state != TrialState.FAIL
    }


def to_train(trial: FrozenTrial, epochs: int) -> int:
    """How many of its `epochs` a trial that was begun, or waits, has still to train."""
    begun_with: int = kept(trial, CONTINUES_FROM, 0)
    return epochs - max(begun_with, len(trial.intermediate_values))


Curve = tuple[tuple[Any, ...], Sequence[float]]
"""A kind of curve, and scores by epoch."""


def expected_ends(stopped: Sequence[Curve], complete: Sequence[Curve]) -> list[float]:
    """The score that each stopped curve would end with if it gained what complete ones did.

    That is the median from its last epoch on, over the complete ones of its kind, or all of them
    where there are none.
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
    """A trial for the queue that trains a stopped one on, `resumed` if its state is kept.

    What was put in by hand stays so.
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
    """Stopped trials, the one first that is expected to end best, by the complete ones of
    `trials`."""

    def curve(trial: FrozenTrial) -> Curve:
        return kind_of(trial, curves_by), curve_of(trial)

    complete = [curve(trial) for trial in trials if trial.state == TrialState.COMPLETE]
    ends = expected_ends([curve(trial) for trial in candidates], complete)
    order = sorted(range(len(candidates)), key=lambda i: (-ends[i], candidates[i].number))
    return [candidates[i] for i in order]
