"""What seeds tell of two settings: how often one beats the other, and how many it would take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from study.analysis.effects import Effect
from study.analysis.images import left_with_many_seeds
from study.analysis.noise import Noise
from study.analysis.verdicts import ALPHA, POWER, Estimate, estimates

MEANINGFUL = 0.75
"""Share of runs that a setting must win to be called better in practice (arXiv 2103.03098)."""
MANY = 100  # seeds that nobody trains


@dataclass(frozen=True)
class Odds:
    """The probability that a run beats a run of the control with the same seed, and the ends of
    its 95% interval."""

    better: float
    low: float
    high: float


def odds_of(estimate: Estimate) -> Odds:
    """From the difference in standard deviations of one run; its interval inverts noncentral t."""
    root = estimate.of_a_run / estimate.of_seeds  # of the seeds
    ratio = estimate.mean / estimate.of_seeds
    ends = (special.nctdtrinc(estimate.df, p, ratio) / root for p in (1 - ALPHA / 2, ALPHA / 2))
    low, high = (float(special.ndtr(each)) for each in ends)
    return Odds(float(special.ndtr(ratio / root)), low, high)


def seeds_needed(difference: float, of_a_run: float, images: float = 0.0) -> float:
    """Seeds with which a paired t test finds a difference of two settings in 80% of repeats.

    `difference` and `of_a_run`, the standard deviation of the difference of two runs, are in
    points; `images` is the variance that stays with many seeds. Infinite if it takes over MANY.
    """
    for seeds in range(2, MANY + 1):
        if abs(difference) >= found_by(seeds, 1, of_a_run, images):
            return seeds
    return math.inf


def found_by(seeds: int, settings: int, of_a_run: float, images: float = 0.0) -> float:
    """Points that so many seeds of some settings and a control find in 80% of repeats at 5%."""
    df = (seeds - 1) * settings
    quantile = float(special.stdtrit(df, 1 - ALPHA / 2))
    return float(special.nctdtrinc(df, 1 - POWER, quantile)) * math.sqrt(
        of_a_run**2 / seeds + images
    )


def between(label: str, other: str, estimate: Estimate, images: float) -> str:
    """How many seeds would tell two settings apart, in words."""
    apart = abs(estimate.mean)
    names = f"{label} from {other}, {apart:.2f} points apart,"
    width = float(special.stdtrit(estimate.df, 1 - ALPHA / 2)) * estimate.of_seeds
    least, likely, most = (
        seeds_needed(points, estimate.of_a_run, images)
        for points in (apart + width, apart, max(0.0, apart - width))
    )
    if math.isinf(least):
        return f"More seeds hardly tell {names} even over {MANY}: more validation images might."
    about, *ends = (
        f"over {MANY}" if math.isinf(each) else f"{each:.0f}" for each in (likely, least, most)
    )
    takes = f"takes {about} seeds [{', '.join(ends)}]"
    return f"More seeds: to tell {names} in 80% of repeats {takes}."


def told(found: Sequence[Effect], control: str, elsewhere: Noise) -> dict[str, Estimate]:
    """The differences to the control of the values that have noise, the largest first."""
    ours = next(effect for effect in found if effect.label == control)
    if ours.diverged:
        return {}
    known = estimates([each for each in found if each is not ours], ours, elsewhere)
    usable = {label: each for label, each in known.items() if math.isfinite(each.error)}
    return dict(sorted(usable.items(), key=lambda item: -item[1].mean))


def in_words(found: Sequence[Effect], control: str, elsewhere: Noise) -> list[str]:
    """How often the best beats the control, and what seeds would tell the best from the control
    and from the second."""
    by_label = {effect.label: effect for effect in found}
    ranked = told(found, control, elsewhere)
    if not ranked:
        return []
    best, estimate = next(iter(ranked.items()))
    odds = odds_of(estimate)
    lines = [
        f"A run of {best} beats one of {control} with the same seed in {odds.better:.0%} of cases "
        f"[{odds.low:.0%}, {odds.high:.0%}]; from {MEANINGFUL:.0%} on it is worth having."
    ]
    rivals = [control, *list(ranked)[1:2]]
    for rival in rivals:
        against = told([by_label[best], by_label[rival]], rival, elsewhere).get(best)
        against = estimate if rival == control else against
        if against is not None:
            images = left_with_many_seeds(by_label[best], by_label[rival])
            lines.append(between(best, rival, against, images))
    return lines
