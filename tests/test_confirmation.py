"""The report of a confirmation beyond its verdicts, and the next steps it suggests."""

import io
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats

from study.analysis import confirmation, images
from study.analysis.comparison import confirmed, effects_table
from study.analysis.effects import Effect
from study.analysis.noise import Noise
from study.analysis.odds import in_words, odds_of, range_of_seeds, seeds_needed, told
from study.analysis.picture import draw_difference, save_plot
from study.analysis.verdicts import Verdict, judge
from study.options import replaced
from tests.test_verdict_rates import SD, SHARED, comparisons

OF_A_RUN = SD * math.sqrt(2 * (1 - SHARED))  # the difference of two runs with the same seed


def effect(label: str, *scores: float) -> Effect:
    return Effect(label, tuple(range(len(scores))), scores)


HAND = effect("hand", 0.50, 0.51, 0.505)
BETTER, WORSE = effect("better", 0.60, 0.612, 0.604), effect("worse", 0.40, 0.413, 0.404)
NEAR = effect("near", 0.512, 0.507, 0.514)


@pytest.mark.parametrize("means", [[0] * 6, [0, 1, 1, 1, 1, 1], [0, 2, 1, 0, 0, 0]])
def test_the_odds_of_the_best_of_several_cover_the_truth(means: list[float]) -> None:
    outside, repeats = 0, 400
    for found in comparisons(means, 6, repeats=repeats):
        ranked = told(found, "0", Noise())
        best, estimate = next(iter(ranked.items()))
        truth = stats.norm.cdf((means[int(best)] - means[0]) / OF_A_RUN)
        odds = odds_of(estimate, best_of=len(ranked))
        outside += not odds.low <= truth <= odds.high
    assert outside / repeats <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize(("gain", "seeds"), [(1.0, 3), (1.0, 6), (0.5, 6)])
def test_the_range_of_the_seeds_that_it_takes_covers_the_truth(gain: float, seeds: int) -> None:
    truth, inside, repeats = seeds_needed(gain, OF_A_RUN), 0, 200
    for found in comparisons([0, gain], seeds, repeats=repeats):
        least, likely, most = range_of_seeds(told(found, "0", Noise())["1"], 0.0)
        assert least <= likely <= most
        inside += least <= truth <= most
    assert inside / repeats > 0.88


def test_what_cannot_be_told_is_said_with_the_reason() -> None:
    def said(*found: Effect) -> str:
        (line,) = in_words(found, "hand", Noise())
        return line

    assert said(HAND, effect("once", 0.6)).endswith("that takes two seeds of both.")
    alike = effect("alike", *(score + 0.02 for score in HAND.scores))
    assert "the same for all seeds" in said(HAND, alike)
    gone = Effect("hand", HAND.seeds, HAND.scores, diverged=1)
    assert said(gone, BETTER).endswith("hand diverged.")
    spread = [images.spread_in_words([HAND, NEAR], {"split_seed": each}) for each in (42, "seed")]
    assert spread[0].endswith("unknown: no run stored which images were correct.")
    assert spread[1].endswith("unknown: each seed has its own images.")
    assert "two seeds" in images.spread_in_words([effect("once", 0.5)], {})


def test_seeds_are_named_only_where_these_do_not_tell() -> None:
    assert len(in_words([HAND, BETTER], "hand", Noise())) == 1
    assert "telling near from hand" in in_words([HAND, NEAR], "hand", Noise())[1]


def test_the_overestimate_of_the_search_is_its_score_minus_that_of_fresh_seeds() -> None:
    found = [HAND, BETTER, WORSE, NEAR]
    searched = {"better": 0.62, "worse": 0.42, "near": 0.52}
    lost = [100 * (searched[each.label] - each.mean) for each in found[1:]]
    interval = stats.ttest_1samp(lost, 0).confidence_interval(0.95)
    words = confirmation.flattered(found, searched)
    ends = f"{np.mean(lost):.2f} points on average [{interval.low:+.2f}, {interval.high:+.2f}]"
    assert ends in words
    assert f"better {lost[0]:+.2f}, worse {lost[1]:+.2f}" in words
    assert "on average" not in confirmation.flattered(found[:2], searched)
    assert confirmation.flattered([HAND], searched) == ""


def test_a_command_is_repeated_with_other_values_of_some_options() -> None:
    words = shlex.split("--top 3 --seeds 4 --out=a.png --study=mine --no-race")
    again = replaced(words, study="-x y", seeds=9)
    assert again == ["--top", "3", "--out=a.png", "--no-race", "--study=-x y", "--seeds", "9"]
    assert replaced([], study="mine") == ["--study", "mine"]


def test_an_interval_beyond_the_possible_is_not_given_in_numbers() -> None:
    two = [effect("hand", 0.40, 0.43), effect("found", 0.45, 0.44)]
    verdict = judge(two, "hand")["found"]
    assert verdict.points == "+3.00 [too few seeds]"
    assert (verdict.word, verdict.low) == ("not told apart", -math.inf)
    assert "80%" not in confirmed(two, {"found": verdict}, "hand")
    one_sided = [effect("hand", 0.40, 0.43, 0.41), effect("found", 0.35, 0.25, 0.36)]
    assert re.fullmatch(
        r"-9\.33 \[-\d+\.\d\d, \+\d\.\d\d\]", judge(one_sided, "hand")["found"].points
    )
    low = [effect("hand", 0.06, 0.05, 0.055), effect("found", 0.01, 0.012, 0.003)]
    bounded = judge(low, "hand")["found"]
    assert bounded.low >= -5.5
    assert "[-5" in bounded.points
    beyond = [effect("hand", 4.0, 4.3), effect("found", 4.5, 4.4)]  # scores that are no shares
    assert judge(beyond, "hand")["found"].low < -100


def test_a_picture_draws_the_interval_of_the_table(tmp_path: Path) -> None:
    axes = Figure().subplots()
    verdict = Verdict("better", 0.5, 1.5, 2.5)
    draw_difference(axes, 3, [1.0, 2.0], verdict)
    drawn = [np.ravel(np.asarray(line.get_xdata())).tolist() for line in axes.lines]
    assert drawn == [[1.0, 2.0], [verdict.mean], [verdict.low, verdict.high]]
    draw_difference(axes, 4, [1.0], Verdict("one seed", mean=1.0))
    draw_difference(axes, 5, [1.0], Verdict("worse"))  # it diverged
    assert len(axes.lines) == 3 + 2 + 1
    found = [HAND, BETTER, NEAR]
    save_plot(found, "title", "hand", judge(found, "hand"), tmp_path / "against.png")
    save_plot(found, "title", "", {}, tmp_path / "scores.png")
    assert all(file.stat().st_size > 5000 for file in tmp_path.glob("*.png"))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_table_shows_every_difference_whole_on_a_narrow_terminal(width: int) -> None:
    names = ("trial 3 (hand-made adagrad, sigmoid)", "trial 12")
    values = {"macro_f1": (0.5,) * 3, "balanced_accuracy": (0.5,) * 3}
    found = [
        Effect(name, each.seeds, each.scores, values=values, holdout=(0.25, 0.26))
        for name, each in zip(("hand-tuned", *names), (HAND, BETTER, NEAR), strict=True)
    ]
    verdicts = judge(found, "hand-tuned")
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(effects_table(found, "best of the last", "hand-tuned", verdicts, width))
    text = captured.get()
    assert all(verdicts[name].points in text for name in names)
    assert "not told apart" in text
    assert "0.5050" in text
    assert all(len(line) <= width for line in text.splitlines())
    assert ("macro_f1" in text) == (width > 100)
    assert ("0.2550" in text) == (width > 80)
