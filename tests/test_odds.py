"""The probability that one setting beats another, and how many seeds would settle it."""

import math
import re
import statistics

import numpy as np
import pytest
from scipy import stats

from study.analysis import images, odds
from study.analysis.effects import Effect
from study.analysis.noise import Noise
from study.analysis.odds import found_by, odds_of, seeds_needed, told
from study.analysis.verdicts import judge
from tests.test_image_noise import found_in, searched
from tests.test_verdict_rates import comparisons


def pairs(rng: np.random.Generator, gain: float, seeds: int, spread: float = 1.0) -> list[Effect]:
    """A control and a value that is `gain` points better, each run with noise of its own."""
    scores = 0.4 + 0.01 * spread * rng.standard_normal((2, seeds))
    scores[1] += 0.01 * gain
    return [
        Effect(name, tuple(range(seeds)), tuple(row.tolist()))
        for name, row in zip(("hand", "found"), scores, strict=True)
    ]


@pytest.mark.parametrize("gain", [0.0, 1.0, 2.5])
def test_the_interval_of_the_odds_covers_the_truth(gain: float) -> None:
    rng = np.random.default_rng(3)
    truth = stats.norm.cdf(gain / math.sqrt(2))
    inside = 0
    for _ in range(400):
        (estimate,) = told(pairs(rng, gain, 6), "hand", Noise()).values()
        found = odds_of(estimate)
        assert found.low <= found.better <= found.high
        inside += found.low <= truth <= found.high
    assert inside / 400 == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize(("difference", "of_a_run"), [(1.0, 1.0), (0.5, 1.2), (3.0, 1.0)])
def test_so_many_seeds_find_a_difference_in_80_percent_of_repeats(
    difference: float, of_a_run: float
) -> None:
    seeds = int(seeds_needed(difference, of_a_run))
    rng = np.random.default_rng(1)

    def found(count: int) -> float:
        gains = difference + of_a_run * rng.standard_normal((4000, count))
        return float((stats.ttest_1samp(gains, 0, axis=1).pvalue < 0.05).mean())

    assert found(seeds) > 0.78
    assert seeds == 2 or found(seeds - 1) < 0.82


def test_no_number_of_seeds_finds_what_the_images_hide() -> None:
    assert math.isinf(seeds_needed(1.0, 0.5, images=0.5))
    assert seeds_needed(1.0, 0.5, images=0.01) < math.inf
    assert math.isinf(seeds_needed(0.0, 1.0))
    assert found_by(6, 1, 1.0) < found_by(3, 1, 1.0)


def test_the_warning_about_few_seeds_agrees_with_the_verdicts() -> None:
    after = [judge(found, "0")["1"].found for found in comparisons([0] * 16, 3, repeats=50)]
    before = odds.few_seeds(3, 15, 1000, Noise(1.0, 30))
    said = re.search(r"3 seeds detect a difference of about (\S+) points", before)
    assert said is not None
    assert float(said[1]) == pytest.approx(statistics.fmean(after), rel=0.05)


def test_the_words_name_the_rivals_and_the_seeds_that_it_takes() -> None:
    rng = np.random.default_rng(0)
    hand, found = pairs(rng, 0.5, 6)
    second = Effect("second", hand.seeds, tuple(reversed(hand.scores)))
    lines = odds.in_words([hand, found, second], "hand", Noise())
    assert re.match(
        r"A run of found beats one of hand with the same seed in \d+% of cases", lines[0]
    )
    assert re.search(r"telling found from hand \(\d\.\d\d points apart\) with 80% power", lines[1])
    assert "found from second" in lines[2]
    alone = [Effect("hand", (0,), (0.4,)), Effect("found", (0,), (0.5,))]
    (line,) = odds.in_words(alone, "hand", Noise())
    assert line.endswith("is unknown: that takes two seeds of both.")


def test_the_spread_is_split_into_flips_of_images_and_what_moves_them_together() -> None:
    rng = np.random.default_rng(2)
    spread = images.spread_of(found_in(searched(rng, 4000)))
    assert spread is not None
    assert spread.images == 4000
    flips = 100 * math.sqrt(0.1 / 4000)  # two seeds disagree on a fifth
    assert spread.flips == pytest.approx(flips, rel=0.15)
    assert spread.together == pytest.approx(0.3, abs=0.2)
    moved = searched(rng, 4000)
    moved[:, ::2, :200] = True  # half of the seeds have 200 images more right
    together = images.spread_of(found_in(moved))
    assert together is not None
    assert together.together > 3 * spread.together
    assert images.spread_of(found_in(moved, masks=False)) is None
