"""How often one setting beats another, and how many seeds it takes to tell them apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from study.analysis.effects import Effect
from study.analysis.images import left_with_many_seeds
from study.analysis.noise import Noise, usable
from study.analysis.verdicts import ALPHA, POWER, WIDE, Estimate, estimates

MEANINGFUL = 0.75
"""Share of runs a setting must win for the difference to matter in practice (arXiv 2103.03098)."""
MANY = 100  # more seeds than this are impractical
FEW = 4  # seeds, below which a warning is printed
DISAGREE = 0.22
"""Measured share of FER-2013 images on which two runs with the same settings disagree."""


@dataclass(frozen=True)
class Odds:
    """The probability that a run beats a run of the control with the same seed, and its 95%
    interval."""

    better: float
    low: float
    high: float


def odds_of(estimate: Estimate, best_of: int = 1) -> Odds:
    """Return the odds from the difference in standard deviations of one run; the interval inverts
    the noncentral t distribution.

    The lower end is corrected for selection if the estimate is for the best of `best_of`.
    """
    root = estimate.of_a_run / estimate.of_seeds  # of the seeds
    ratio = estimate.mean / estimate.of_seeds
    levels = (1 - ALPHA / 2 / best_of, ALPHA / 2)
    ends = (special.nctdtrinc(estimate.df, p, ratio) / root for p in levels)
    low, high = (float(special.ndtr(each)) for each in ends)
    return Odds(float(special.ndtr(ratio / root)), low, high)


def seeds_needed(difference: float, of_a_run: float, images: float = 0.0) -> float:
    """Return the seeds with which a paired t test detects a difference with a power of 80%.

    `difference` and `of_a_run`, the standard deviation of the difference of two runs, are in
    points; `images` is the variance that more seeds do not reduce. Infinite if over MANY.
    """
    for seeds in range(2, MANY + 1):
        if abs(difference) >= found_by(seeds, 1, of_a_run, images):
            return seeds
    return math.inf


def found_by(
    seeds: int, settings: int, of_a_run: float, images: float = 0.0, best_of: int = 1
) -> float:
    """Return the difference in points detected with a power of 80% at the 5% level, corrected for
    testing the best of `best_of`."""
    df = (seeds - 1) * settings
    quantile = float(special.stdtrit(df, 1 - ALPHA / 2 / best_of))
    return float(special.nctdtrinc(df, 1 - POWER, quantile)) * math.sqrt(
        of_a_run**2 / seeds + images
    )


def few_seeds(
    seeds: int,
    settings: int,
    cases: int,
    noise: Noise = Noise(),  # noqa: B008 - it is frozen
) -> str:
    """Warn that few seeds detect only large differences; empty from FEW seeds on.

    Each of `settings` is compared with a control. `cases` is the number of validation cases, 0 if
    unknown; `noise` that of similar comparisons.
    """
    if seeds >= FEW:
        return ""
    if seeds < 2:
        return "note: one seed decides nothing: use --seeds 2 or more, preferably 6"
    of_a_run = (2 * noise.variance) ** 0.5
    if not noise.df:
        of_a_run = 100 * (DISAGREE / cases) ** 0.5 if cases else 0.0
    if not of_a_run:
        return ""
    few, more = (found_by(each, settings, of_a_run, best_of=settings) for each in (seeds, 6))
    find = f"a difference of about {few:.1f} points"
    if few > WIDE:
        find = f"no difference below {WIDE:.0f} points"
    return f"note: {seeds} seeds detect {find} with 80% power, six seeds one of {more:.1f}"


def between(label: str, other: str, estimate: Estimate, images: float) -> str:
    """Report how many seeds would tell two settings apart."""
    names = f"{label} from {other} ({abs(estimate.mean):.2f} points apart)"
    least, likely, most = range_of_seeds(estimate, images)
    if math.isinf(least):
        return f"Even {MANY} seeds would hardly tell {names}; more validation images might."
    about, *ends = (
        f"over {MANY}" if math.isinf(each) else f"{each:.0f}" for each in (likely, least, most)
    )
    takes = f"takes {about} seeds [{', '.join(ends)}]"
    return f"More seeds: telling {names} with 80% power {takes}."


def range_of_seeds(estimate: Estimate, images: float) -> tuple[float, float, float]:
    """Return the seeds that tell two settings apart if the true difference is the upper end of its
    95% interval, the estimate, or the lower end."""
    apart = abs(estimate.mean)
    width = float(special.stdtrit(estimate.df, 1 - ALPHA / 2)) * estimate.of_seeds
    ends = (apart + width, apart, max(0.0, apart - width))
    least, likely, most = (seeds_needed(each, estimate.of_a_run, images) for each in ends)
    return least, likely, most


def seeds_for_the_best(found: Sequence[Effect], control: str, elsewhere: Noise) -> float:
    """Return the seeds that likely tell the best value from the control; infinite if over MANY or
    unknown."""
    ranked = told(found, control, elsewhere)
    if not ranked:
        return math.inf
    best, estimate = next(iter(ranked.items()))
    ours, theirs = (next(each for each in found if each.label == x) for x in (best, control))
    return range_of_seeds(estimate, left_with_many_seeds(ours, theirs))[1]


def told(found: Sequence[Effect], control: str, elsewhere: Noise) -> dict[str, Estimate]:
    """Return the differences to the control with a known standard error, largest first."""
    ours = next(effect for effect in found if effect.label == control)
    if ours.diverged:
        return {}
    known = estimates([each for each in found if each is not ours], ours, elsewhere)
    certain = {label: each for label, each in known.items() if math.isfinite(each.error)}
    return dict(sorted(certain.items(), key=lambda item: -item[1].mean))


def in_words(found: Sequence[Effect], control: str, elsewhere: Noise) -> list[str]:
    """Report how often the best beats the control, and how many seeds would tell it from the
    control and from the runner-up where these seeds do not."""
    by_label = {effect.label: effect for effect in found}
    ranked = told(found, control, elsewhere)
    if not ranked:
        return [
            f"How often a run beats {control} is unknown: {why_nothing_is_told(found, control)}."
        ]
    best, estimate = next(iter(ranked.items()))
    odds = odds_of(estimate, best_of=len(ranked))
    lines = [
        f"A run of {best} beats one of {control} with the same seed in {odds.better:.0%} of cases "
        f"[{odds.low:.0%}, {odds.high:.0%}]; {MEANINGFUL:.0%} or more is a meaningful improvement."
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
    """Return why no difference to the control has a known standard error."""
    ours = next(effect for effect in found if effect.label == control)
    if ours.diverged:
        return f"{control} diverged"
    if any(len({*each.seeds} & {*ours.seeds}) > 1 for each in usable(found) if each is not ours):
        return "the difference is the same for all seeds, so the noise cannot be estimated"
    return "that takes two seeds of both"
