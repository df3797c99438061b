"""The plan and the time left, on recorded studies."""

import statistics
from dataclasses import replace

import pytest

from study.engine.eta import Forecast
from study.engine.pruners import earliest_pruning, expected_share, protected_trials

# Epochs of each trial, in the order in which they ended: two on FER-2013, one on demo faces.
STUDIES = {
    epochs: [int(each) for each in spent.split()]
    for epochs, spent in {
        6: "6 6 6 6 6 6 6 6 6 6 3 3 3 3 6 6 3 5 3 3 3 6 3 3 3 3 4 6 3 6",
        10: "10 10 10 10 10 10 10 10 10 10 3 3 3 3 10 10 3 3 5 3 3 10 10 3 10 10 10 3 10 10",
        5: "5 5 5 5 5 5 5 5 5 5 3 5 3 5 5 3 5 5 5 3 3 3 5 5 5 5 5 5 3 5",
    }.items()
}


def forecast(trials: int, epochs: int, pruner: str, workers: int = 2) -> Forecast:
    return Forecast(
        trials=trials,
        epochs=epochs,
        workers=workers,
        epoch_seconds=10.0,
        share=expected_share(pruner, epochs),
        earliest=earliest_pruning(pruner, epochs),
        protected=protected_trials(pruner, 1),
    )


def replay(spent: list[int], expected: Forecast, pace: float) -> list[tuple[float, float]]:
    """Seconds left as foretold and as it came, before each trial ends, one worker after another.

    Each epoch takes `pace` seconds.
    """
    total, elapsed, seen = sum(spent) * pace, 0.0, []
    for epochs in spent:
        left = expected.seconds_left([])
        assert left is not None
        seen.append((left, total - elapsed))
        for _ in range(epochs):
            expected.epoch(pace)
        elapsed += epochs * pace
        expected.finished(epochs)
    return seen


@pytest.mark.parametrize("epochs", STUDIES)
def test_the_plan_is_within_a_quarter_and_so_is_most_of_the_time_left(epochs: int) -> None:
    spent = STUDIES[epochs]
    seen = replay(spent, forecast(len(spent), epochs, "median", workers=1), 10.0)
    ratios = [foretold / came for foretold, came in seen]
    assert 0.75 < ratios[0] < 1.25
    assert 0.75 < statistics.median(ratios) < 1.25


def test_without_pruning_it_is_exact() -> None:
    seen = replay([4] * 9, forecast(9, 4, "none", workers=1), 10.0)
    for foretold, came in seen:
        assert foretold == pytest.approx(came)


def test_a_pace_other_than_measured_is_learnt() -> None:
    seen = replay([4] * 30, forecast(30, 4, "none", workers=1), 20.0)
    assert seen[0][0] == pytest.approx(seen[0][1] / 2)
    assert seen[-1][0] == pytest.approx(seen[-1][1], rel=0.1)


def test_more_workers_take_less_time_and_running_epochs_count() -> None:
    four, two = (forecast(20, 5, "none", workers).seconds_left([]) for workers in (4, 2))
    assert four is not None
    assert two is not None
    assert four < two
    plan = forecast(2, 5, "none")
    assert plan.seconds_left([3, 3]) == pytest.approx(20.0)
    assert plan.seconds_left([0, 3]) == pytest.approx(50.0)


def test_a_pace_that_nobody_measured_is_known_after_the_first_epoch() -> None:
    unknown = replace(forecast(2, 4, "none", workers=1), epoch_seconds=None)
    assert unknown.seconds_left([]) is None
    unknown.epoch(3.0)
    assert unknown.seconds_left([1]) == pytest.approx(3.0 * 7)
