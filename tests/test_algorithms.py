"""Pruners and samplers."""

import math
from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from fer.config import Config
from study.engine.pruners import (
    COMPARED,
    FOUND,
    MARGIN,
    MedianPruner,
    describe_pruner,
    make_pruner,
    noise_of,
)
from study.engine.samplers import make_sampler
from study.spec.space import suggest
from study.spec.spaces import SPACES
from study.storage.records import ORIGIN, RESULT

curves = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def plainly(complete: list[list[float]], found: list[bool], curve: list[float]) -> bool:
    """The rule as docs/search.md has it."""
    reached = [other for other in complete if len(other) >= len(curve)]
    if len(reached) < COMPARED or sum(found) < FOUND:
        return False
    noise = [
        np.sqrt(np.mean(np.diff(other, 2) ** 2) / 6) if len(other) > 2 else 0.0
        for other in complete
    ]
    scores = [np.mean(other[max(0, len(curve) - 3) : len(curve)]) for other in reached]
    return bool(np.mean(curve[-3:]) < np.median(scores) - MARGIN * np.median(noise))


@settings(deadline=None, max_examples=60)
@given(
    trials=st.lists(st.tuples(curves, st.booleans(), st.booleans()), max_size=24),
    earliest=st.integers(1, 4),
)
def test_a_trial_is_stopped_behind_the_median_by_more_than_noise(
    trials: list[tuple[list[float], bool, bool]], earliest: int
) -> None:
    study = optuna.create_study(direction="maximize")
    told: list[FrozenTrial] = []
    complete: list[list[float]] = []
    found: list[bool] = []
    pruner = MedianPruner(told, earliest)
    for values, ends, by_hand in trials:
        study.enqueue_trial({}, user_attrs={ORIGIN: "hand-made"} if by_hand else {})
        trial = study.ask()
        for step, value in enumerate(values, 1):
            trial.report(value, step)
            frozen = study.get_trials(deepcopy=False)[trial.number]
            expected = step >= earliest and plainly(complete, found, values[:step])
            # The two may round a tie differently.
            if pruner.prune(study, frozen) != expected:
                changed = [v + 1e-9 for v in values[:step]], [v - 1e-9 for v in values[:step]]
                assert plainly(complete, found, changed[0]) != plainly(complete, found, changed[1])
        if ends:
            told.append(study.tell(trial, values[-1]))
            if len(values) >= earliest:  # one told without its epochs says nothing
                complete.append(values)
                found.append(not by_hand)
        else:
            study.tell(trial, state=TrialState.PRUNED)


def complete_trials(curves: Sequence[Sequence[float]], origin: str = "") -> list[FrozenTrial]:
    return [
        optuna.create_trial(
            value=curve[-1],
            intermediate_values=dict(enumerate(curve, 1)),
            user_attrs={ORIGIN: origin} if origin else {},
        )
        for curve in curves
    ]


def running_trial(study: optuna.Study, curve: Sequence[float]) -> FrozenTrial:
    trial = study.ask()
    for step, value in enumerate(curve, 1):
        trial.report(value, step)
    return study.get_trials(deepcopy=False)[trial.number]


def test_hand_made_settings_alone_stop_nothing() -> None:
    study = optuna.create_study(direction="maximize")
    bad = [0.1, 0.1, 0.1]
    by_hand = complete_trials([[0.5, 0.5, 0.5]] * COMPARED, "hand-made")
    drawn = complete_trials([[0.5, 0.5, 0.5]] * FOUND)
    assert not MedianPruner(by_hand, 3).prune(study, running_trial(study, bad))
    assert MedianPruner([*by_hand, *drawn], 3).prune(study, running_trial(study, bad))


def test_repeats_and_trials_without_epochs_are_no_comparison() -> None:
    study = optuna.create_study(direction="maximize")
    curve = dict(enumerate([0.5, 0.5, 0.5], 1))
    result = {"ending": "complete", "score": 0.5, "epoch": 1, "epochs": 3, "seconds": 0.0}
    repeats = [
        optuna.create_trial(
            value=0.5, intermediate_values=curve, user_attrs={RESULT: {**result, "repeats": 0}}
        )
        for _ in range(COMPARED)
    ]
    told = [optuna.create_trial(value=0.5) for _ in range(COMPARED)]
    bad = running_trial(study, [0.1, 0.1, 0.1])
    assert not MedianPruner([*repeats, *told], 3).prune(study, bad)


def test_a_schedule_that_gains_late_is_compared_with_its_own_kind() -> None:
    study = optuna.create_study(direction="maximize")
    complete: list[FrozenTrial] = []
    pruner = MedianPruner(complete, 1, ["schedule"])

    def pruned(value: float) -> bool:
        trial = study.ask()
        trial.suggest_categorical("schedule", ["constant", "one-cycle"])
        trial.report(value, 1)
        decision = pruner.prune(study, study.get_trials(deepcopy=False)[trial.number])
        complete.append(study.tell(trial, value))
        return decision

    for schedule, value in [("constant", 0.5), ("one-cycle", 0.2)] * COMPARED:
        study.enqueue_trial({"schedule": schedule})
        assert not pruned(value)
    for schedule, value, decision in [
        ("one-cycle", 0.21, False),
        ("one-cycle", 0.19, True),
        ("constant", 0.21, True),
    ]:
        study.enqueue_trial({"schedule": schedule})
        assert pruned(value) is decision


def test_until_a_kind_has_enough_trials_only_the_worst_quarter_of_all_is_the_bar() -> None:
    study = optuna.create_study(direction="maximize")
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]  # lower quartile 0.3
    schedules = CategoricalDistribution(["constant", "cosine", "one-cycle"])
    space: dict[str, BaseDistribution] = {"schedule": schedules}
    complete = [
        optuna.create_trial(
            params={"schedule": "constant" if i % 2 else "cosine"},
            distributions=space,
            value=score,
            intermediate_values={1: score},
        )
        for i, score in enumerate(scores)
    ]
    for few, value, decision in [
        (COMPARED - 1, 0.01, False),
        (len(scores), 0.31, False),
        (len(scores), 0.29, True),
    ]:
        study.enqueue_trial({"schedule": "one-cycle"})
        trial = study.ask(space)
        trial.report(value, 1)
        frozen = study.get_trials(deepcopy=False)[trial.number]
        pruner = MedianPruner(complete[:few], 1, ["schedule"])
        assert pruner.prune(study, frozen) is decision


def test_a_trial_without_a_number_is_stopped() -> None:
    study = optuna.create_study(direction="maximize")
    complete = complete_trials([[0.5]] * COMPARED)
    assert MedianPruner(complete, 1).prune(study, running_trial(study, [math.nan]))


def test_noise_is_that_of_an_epoch_whatever_the_curve_it_lies_on() -> None:
    generator = np.random.default_rng(0)
    slope = np.linspace(0.2, 0.6, 400)
    assert noise_of(slope.tolist()) == pytest.approx(0, abs=1e-12)
    noisy = slope + generator.normal(0, 0.01, 400)
    assert noise_of(noisy.tolist()) == pytest.approx(0.01, rel=0.15)
    assert noise_of([0.1, 0.9]) == 0


def test_screening_stops_every_trial_after_the_first_tenth_of_its_epochs() -> None:
    study = optuna.create_study(direction="maximize")
    pruner = make_pruner(describe_pruner("screen", 50, ()), [])
    assert not pruner.prune(study, running_trial(study, [0.9] * 4))
    assert pruner.prune(study, running_trial(study, [0.9] * 5))


def test_a_continued_study_draws_other_settings() -> None:
    drawn = []
    for before in (0, 1, 0):
        study = optuna.create_study(sampler=make_sampler("random", 3, before))
        drawn.append(suggest(study.ask(), SPACES["default"], Config().settings()))
    assert drawn[0] == drawn[2] != drawn[1]
