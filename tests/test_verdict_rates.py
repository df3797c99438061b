"""False positive rate and power of verdicts, in simulated comparisons."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from study.analysis.effects import Effect
from study.analysis.noise import PRIOR_DF, Noise
from study.analysis.verdicts import UNDECIDED, Verdict, claim, judge

Verdicts = dict[str, Verdict]
SD, SHARED = 1.3, 0.37  # over seeds, in points; correlation between values
REPEATS = 1000


def at_most(share: float, repeats: int = REPEATS) -> float:
    """A share and three standard errors of the simulation."""
    return share + 3 * math.sqrt(share * (1 - share) / repeats)


def comparisons(
    means: Sequence[float],
    seeds: int,
    sds: Sequence[float] | float = 1.0,
    diverged: int | None = None,
    missing: int = 0,
    scale: NDArray[np.float64] | float = 1.0,
    repeats: int = REPEATS,
) -> list[list[Effect]]:
    """Values named by their number, the control "0"; means in points from 40, `sds` in SD.

    Of `missing` values, after the control, the first seed was not trained. All of a comparison's
    noise is multiplied by its `scale`.
    """
    rng = np.random.default_rng(12)
    of_seeds = math.sqrt(SHARED) * rng.standard_normal((repeats, 1, seeds))
    own = math.sqrt(1 - SHARED) * rng.standard_normal((repeats, len(means), seeds))
    spread = SD * np.broadcast_to(sds, len(means))[:, None]
    spread = spread * np.broadcast_to(scale, repeats)[:, None, None]
    scores = (40 + np.array(means)[:, None] + spread * (of_seeds + own)) / 100

    def effect(value: int, row: list[float]) -> Effect:
        first = 1 if 1 <= value <= missing else 0
        kept = range(first, seeds)
        lost = int(value == diverged)
        return Effect(str(value), tuple(kept), tuple(row[first:]), lost)

    return [[effect(value, row) for value, row in enumerate(each)] for each in scores.tolist()]


def judged(found: list[list[Effect]], elsewhere: Noise | None = None) -> list[Verdicts]:
    return [judge(each, "0", elsewhere=elsewhere) for each in found]


def share(verdicts: list[Verdicts], label: str, word: str) -> float:
    return float(np.mean([each[label].word == word for each in verdicts]))


def alarms(verdicts: list[Verdicts], labels: Sequence[str]) -> float:
    """Share of the comparisons in which one of the values is told apart."""
    return float(np.mean([any(each[x].word != UNDECIDED for x in labels) for each in verdicts]))


@pytest.mark.parametrize("seeds", [2, 3, 5, 6])
@pytest.mark.parametrize("values", [2, 5, 8])
def test_equal_values_are_told_apart_in_five_percent_at_most(values: int, seeds: int) -> None:
    equal = [str(value) for value in range(1, values)]
    assert alarms(judged(comparisons([0.0] * values, seeds)), equal) <= at_most(0.05)


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_values_that_failed_to_learn_raise_no_alarm_among_the_good_ones(seeds: int) -> None:
    found = comparisons([0, 0, 0, -20, -12], seeds, sds=[1, 1, 1, 3, 3])
    verdicts = judged(found)
    assert alarms(verdicts, "12") <= at_most(0.05)
    assert share(verdicts, "3", "worse") > (0.95 if seeds > 2 else 0.8)


@pytest.mark.parametrize("seeds", [3, 5, 6])
def test_two_values_equally_bad_are_seldom_told_apart(seeds: int) -> None:
    found = comparisons([-20, -20, 0, 0, 0], seeds, sds=[2.3, 2.3, 1, 1, 1])
    assert alarms(judged(found), "1") <= at_most(0.05)


def test_a_value_that_diverged_leaves_the_others_their_rate() -> None:
    verdicts = judged(comparisons([0] * 5, 3, diverged=4))
    assert alarms(verdicts, "123") <= at_most(0.05)
    assert share(verdicts, "4", "worse") == 1
    assert judged(comparisons([0] * 5, 3, diverged=0, repeats=20)) == [{}] * 20


@pytest.mark.parametrize("seeds", [3, 5])
def test_seeds_that_a_value_lacks_raise_no_alarm(seeds: int) -> None:
    verdicts = judged(comparisons([0] * 5, seeds, missing=2))
    assert alarms(verdicts, "1234") <= at_most(0.05)


def test_a_seed_that_a_value_lacks_costs_power_but_not_its_difference() -> None:
    whole = judged(comparisons([0, 3, 0, 0], 3))
    part = judged(comparisons([0, 3, 0, 0], 3, missing=1))
    assert np.mean([each["1"].mean for each in part]) == pytest.approx(3, abs=0.1)
    assert 0.3 < share(part, "1", "better") < share(whole, "1", "better")


@pytest.mark.parametrize(("seeds", "power"), [(3, 0.65), (5, 0.96)])
def test_three_points_among_six_values_are_found_as_often_as_measured(
    seeds: int, power: float
) -> None:
    found = share(judged(comparisons([0, 3, 0, 0, 0, 0], seeds)), "1", "better")
    assert found == pytest.approx(power, abs=0.04)


def test_a_control_twenty_points_below_is_found_with_three_seeds() -> None:
    found = comparisons([-20, 0, 0, 0, -28], 3, sds=[3, 1, 1, 1, 3])
    verdicts = judged(found)
    assert min(share(verdicts, label, "better") for label in "123") > 0.98
    words = [claim(*each, "0", ())[0] for each in zip(found, verdicts, strict=True)]
    assert np.mean([word == "does not hold" for word in words]) > 0.98


def test_that_all_rivals_are_worse_needs_no_correction() -> None:
    found = comparisons([0, -3, -3, -3, -3], 3)
    holds = [
        claim(each, judge(each, "0"), "0", ())[0] == "holds" for each in found
    ]  # with Bonferroni's level it would be a third
    assert np.mean(holds) > 0.5
    close = comparisons([0, 0, -4, -4, -4], 3)
    wrong = [claim(each, judge(each, "0"), "0", ())[0] == "holds" for each in close]
    assert np.mean(wrong) <= at_most(0.025)


@pytest.mark.parametrize(("values", "seeds"), [(2, 3), (2, 6), (5, 2), (5, 3), (8, 5)])
def test_the_detectable_difference_is_detected_in_eighty_percent(values: int, seeds: int) -> None:
    equal = judged(comparisons([0] * values, seeds))
    undecided = [each["1"] for each in equal if alarms([each], [*each]) == 0]
    # Of standard errors, which are estimated: their root mean square is unbiased.
    said = math.sqrt(np.mean([verdict.found**2 for verdict in undecided]))
    verdicts = judged(comparisons([0, said, *[0] * (values - 2)], seeds))
    assert share(verdicts, "1", "better") == pytest.approx(0.8, abs=0.04)


def test_other_comparisons_lend_power_and_take_no_certainty() -> None:
    rng = np.random.default_rng(3)
    # Of three comparisons whose true variances scatter as with 20 degrees of freedom, two are
    # others, with four degrees of freedom each.
    true = 20 / rng.chisquare(20, (3, REPEATS))
    seen = SD**2 * (1 - SHARED) * (true[1:] * rng.chisquare(4, (2, REPEATS)) / 4).mean(0)

    def moderated(mean: float) -> list[Verdicts]:
        found = comparisons([0, mean], 3, scale=np.sqrt(true[0]))
        return [
            judge(each, "0", elsewhere=Noise(variance, PRIOR_DF))
            for each, variance in zip(found, seen.tolist(), strict=True)
        ]

    alone = judged(comparisons([0, 3], 3, scale=np.sqrt(true[0])))
    assert alarms(moderated(0), "1") <= at_most(0.05)
    assert share(moderated(3), "1", "better") > 1.5 * share(alone, "1", "better")
