"""What seeds tell of two settings: how often one beats the other, and how many it would take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from study.analysis.effects import Effect
from study.analysis.images import left_with_many_seeds
from study.analysis.noise import Noise, usable
from study.analysis.verdicts import ALPHA, POWER, WIDE, Estimate, estimates

MEANINGFUL = 0.75
"""Share of runs that a setting must win to be called better in practice (arXiv 2103.03098)."""
MANY = 100  # seeds that nobody trains
FEW = 4  # seeds, below which a word of warning comes first
DISAGREE = 0.22
"""Share of the images of FER-2013 on which two runs of equal settings disagree, measured."""


@dataclass(frozen=True)
class Odds:
    """The probability that a run beats a run of the control with the same seed, and the ends of
    its 95% interval."""

    better: float
    low: float
    high: float


def odds_of(estimate: Estimate, best_of: int = 1) -> Odds:
    """From the difference in standard deviations of one run; its interval inverts noncentral t.

    The lower end is corrected for the choice where it is that of the best of several.
    """
    root = estimate.of_a_run / estimate.of_seeds  # of the seeds
    ratio = estimate.mean / estimate.of_seeds
    levels = (1 - ALPHA / 2 / best_of, ALPHA / 2)
    ends = (special.nctdtrinc(estimate.df, p, ratio) / root for p in levels)
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


def few_seeds(
    seeds: int,
    settings: int,
    cases: int,
    noise: Noise = Noise(),  # noqa: B008 - it is frozen
) -> str:
    """A warning that so few seeds tell little; empty from FEW on.

    `cases` is the number of validation cases, 0 if unknown; `noise` that of comparisons like it.
    """
    if seeds >= FEW:
        return ""
    if seeds < 2:
        return "note: one seed tells nothing apart: give --seeds 2 or more, better 6"
    of_a_run = (2 * noise.variance) ** 0.5
    if not noise.df:
        of_a_run = 100 * (DISAGREE / cases) ** 0.5 if cases else 0.0
    if not of_a_run:
        return ""
    few, more = (found_by(each, settings, of_a_run) for each in (seeds, 6))
    find = f"a difference of about {few:.1f} points"
    if few > WIDE:
        find = f"no difference below {WIDE:.0f} points"
    return f"note: {seeds} seeds find {find} in 80% of repeats, six seeds one of {more:.1f}"


def between(label: str, other: str, estimate: Estimate, images: float) -> str:
    """How many seeds would tell two settings apart, in words."""
    names = f"{label} from {other}, {abs(estimate.mean):.2f} points apart,"
    least, likely, most = range_of_seeds(estimate, images)
    if math.isinf(least):
        return f"More seeds hardly tell {names} even over {MANY}: more validation images might."
    about, *ends = (
        f"over {MANY}" if math.isinf(each) else f"{each:.0f}" for each in (likely, least, most)
    )
    takes = f"takes {about} seeds [{', '.join(ends)}]"
    return f"More seeds: to tell {names} in 80% of repeats {takes}."


def range_of_seeds(estimate: Estimate, images: float) -> tuple[float, float, float]:
    """Seeds that tell two settings apart, if the difference is the upper end of its 95% interval,
    what was found, or the lower end."""
    apart = abs(estimate.mean)
    width = float(special.stdtrit(estimate.df, 1 - ALPHA / 2)) * estimate.of_seeds
    ends = (apart + width, apart, max(0.0, apart - width))
    least, likely, most = (seeds_needed(each, estimate.of_a_run, images) for each in ends)
    return least, likely, most


def seeds_for_the_best(found: Sequence[Effect], control: str, elsewhere: Noise) -> float:
    """Seeds that likely tell the best value from the control; infinite if over MANY, or if nothing
    is known."""
    ranked = told(found, control, elsewhere)
    if not ranked:
        return math.inf
    best, estimate = next(iter(ranked.items()))
    ours, theirs = (next(each for each in found if each.label == x) for x in (best, control))
    return range_of_seeds(estimate, left_with_many_seeds(ours, theirs))[1]


def told(found: Sequence[Effect], control: str, elsewhere: Noise) -> dict[str, Estimate]:
    """The differences to the control of the values that have noise, the largest first."""
    ours = next(effect for effect in found if effect.label == control)
    if ours.diverged:
        return {}
    known = estimates([each for each in found if each is not ours], ours, elsewhere)
    usable = {label: each for label, each in known.items() if math.isfinite(each.error)}
    return dict(sorted(usable.items(), key=lambda item: -item[1].mean))


def in_words(found: Sequence[Effect], control: str, elsewhere: Noise) -> list[str]:
    """How often the best beats the control, and how many seeds would tell the best from the
    control and from the second, as far as these do not."""
    by_label = {effect.label: effect for effect in found}
    ranked = told(found, control, elsewhere)
    if not ranked:
        return [
            f"How often one beats {control} is unknown: {why_nothing_is_told(found, control)}."
        ]
    best, estimate = next(iter(ranked.items()))
    odds = odds_of(estimate, best_of=len(ranked))
    lines = [
        f"A run of {best} beats one of {control} with the same seed in {odds.better:.0%} of cases "
        f"[{odds.low:.0%}, {odds.high:.0%}]; from {MEANINGFUL:.0%} on it is worth having."
    ]
    rivals = [control, *list(ranked)[1:2]]
    for rival in rivals:
        against = told([by_label[best], by_label[rival]], rival, elsewhere).get(best)
        against = estimate if rival == control else against
        if against is not None and against.p_value > ALPHA:
            images = left_with_many_seeds(by_label[best], by_label[rival])
            lines.append(between(best, rival, against, images))
    return lines


def why_nothing_is_told(found: Sequence[Effect], control: str) -> str:
    """Why no difference to the control has a noise."""
    ours = next(effect for effect in found if effect.label == control)
    if ours.diverged:
        return f"{control} diverged"
    if any(len({*each.seeds} & {*ours.seeds}) > 1 for each in usable(found) if each is not ours):
        return "all seeds differ alike, so nothing shows how large the noise is"
    return "that takes two seeds of both"
