"""Decide whether a value is better or worse than the control, and whether a claim holds.

Differences come from the blocked model `score = value + seed + residual`, whose noise is pooled
over the values near the best and moderated by that of other comparisons. A value far below the
best, or any value if the control is, is compared by its own differences seed by seed.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import special

from study.analysis.effects import Effect
from study.analysis.images import have_masks, with_images
from study.analysis.noise import Blocks, Noise, near_the_best, pooled, usable

ALPHA = 0.05
POWER = 0.8
FAR_RATIO, FAR_DF = 6.0, 3.0
"""Prior variance of runs far below the best, as a multiple of that near the best, and its degrees
of freedom.

More conservative than the estimate from docs/results (see `noise.FAR`). With ratios drawn from
that estimate, two equal values are told apart in 6% with two seeds and in 4 to 5% with more.
"""
WIDE = 10.0
"""An interval beyond this many points on both sides of 0 is not printed: it only shows that there
are too few seeds."""
UNDECIDED = "not told apart"
AT_THIS_BUDGET = f"{UNDECIDED} at this budget"

Word = Literal["better", "worse", "not told apart", "one seed"]


@dataclass(frozen=True)
class Estimate:
    """Mean difference to the control and its standard error (infinite if unknown), in points."""

    mean: float
    error: float
    df: float
    of_seeds: float  # standard error over seeds alone, without the noise of the images
    of_a_run: float  # standard deviation of the difference of two runs with the same seed

    @property
    def p_value(self) -> float:
        """Two-sided."""
        return float(2 * special.stdtr(self.df, -abs(self.mean) / self.error))


@dataclass(frozen=True)
class Verdict:
    """The verdict on a value, and the interval of its difference to the control in points."""

    word: Word
    low: float = -math.inf
    mean: float = math.nan  # NaN if the value diverged
    high: float = math.inf
    found: float = math.inf  # smallest difference detected with a power of 80%
    too_few_seeds: bool = False  # for an informative interval

    @property
    def points(self) -> str:
        """Mean and interval of the difference: `+1.23 [-0.50, +2.96]`."""
        return self.in_points("")

    def in_points(self, unit: str) -> str:
        """Return mean and interval with a unit after the mean."""
        if math.isnan(self.mean):
            return ""
        ends = f" [{self.low:+.2f}, {self.high:+.2f}]" if math.isfinite(self.low) else ""
        ends = " [too few seeds]" if self.too_few_seeds else ends
        return f"{self.mean:+.2f}{unit}{ends}"


def judge(
    found: Sequence[Effect],
    control: str,
    rivals: Collection[str] = (),
    elsewhere: Noise | None = None,
) -> dict[str, Verdict]:
    """Return the verdict on each value that shares a seed with the control, by label.

    Empty if the control diverged. A value that diverged is worse. The `rivals` that a claim is
    about (default: all) form one family, corrected for its size; the others form another.
    `elsewhere` is the noise of similar comparisons.
    """
    ours = next(effect for effect in found if effect.label == control)
    others = [effect for effect in found if effect is not ours]
    if ours.diverged:
        return {}
    verdicts: dict[str, Verdict] = {}
    families: tuple[dict[str, Estimate], dict[str, Estimate]] = ({}, {})
    estimated = estimates(others, ours, elsewhere or Noise())
    for other in others:
        common = {*other.seeds} & {*ours.seeds}
        if other.diverged:
            verdicts[other.label] = Verdict("worse")
        elif other.label in estimated:
            main = not rivals or other.label in rivals
            families[not main][other.label] = estimated[other.label]
        elif common:
            verdicts[other.label] = Verdict("one seed", mean=statistics.fmean(gains(other, ours)))
    for family in families:
        level = hochberg([estimate.p_value for estimate in family.values()])
        decided = {label: decide(estimate, level) for label, estimate in family.items()}
        verdicts |= {label: within_reason(each, ours) for label, each in decided.items()}
    return verdicts


def hochberg(p_values: Sequence[float]) -> float:
    """Return the level at which all hypotheses of a family may be tested (Hochberg 1988,
    Biometrika 75(4)): ALPHA if all are rejected at it, else ALPHA / 2 if all but one are, etc.

    This is valid for several values against one control (Sarkar 1998), and an interval at that
    level excludes 0 exactly when the hypothesis is rejected. Whether all rivals are worse is thus
    tested at ALPHA itself, as an intersection-union test requires.
    """
    for count, p_value in enumerate(sorted(p_values, reverse=True), 1):
        if p_value <= ALPHA / count:
            return ALPHA / count
    return ALPHA / max(1, len(p_values))


def decide(estimate: Estimate, level: float) -> Verdict:
    """Return the verdict, its interval and the detectable difference at a level."""
    quantile = float(special.stdtrit(estimate.df, 1 - level / 2))
    # The noncentrality at which the test has the power POWER.
    found = float(special.nctdtrinc(estimate.df, 1 - POWER, quantile)) * estimate.error
    low, high = (estimate.mean + sign * quantile * estimate.error for sign in (-1, 1))
    word: Word = "better" if low > 0 else "worse" if high < 0 else "not told apart"
    return Verdict(word, low, estimate.mean, high, found)


def within_reason(verdict: Verdict, ours: Effect) -> Verdict:
    """Return a verdict without impossible or uninformative bounds, if scores are in 0..1."""
    if not all(0 <= score <= 1 for score in ours.scores) or math.isinf(verdict.low):
        return verdict
    if (unknown := too_wide(verdict)) is not None:
        return unknown
    low = max(verdict.low, -100 * ours.mean)
    return replace(verdict, low=low, high=min(verdict.high, 100 * (1 - ours.mean)))


def too_wide(verdict: Verdict) -> Verdict | None:
    """The verdict without its interval if that says no more than that there are too few seeds."""
    if math.isinf(verdict.low) or min(-verdict.low, verdict.high) <= WIDE:
        return None
    return replace(verdict, low=-math.inf, high=math.inf, too_few_seeds=True)


def estimates(others: Sequence[Effect], ours: Effect, elsewhere: Noise) -> dict[str, Estimate]:
    """Return the differences to `ours` of the values that share two seeds with it, none of which
    diverged."""
    others = [each for each in usable(others) if len({*each.seeds} & {*ours.seeds}) > 1]
    if not others:
        return {}
    near = near_the_best([ours, *others])
    blocks = Blocks(near)
    noise = pooled((blocks.noise, elsewhere))
    found = {}
    for other in others:
        if ours in near and other in near:
            mean, error = blocks.difference(other.label, ours.label)
            estimate = over_seeds(mean, error * math.sqrt(noise.variance), noise)
        else:
            estimate = paired(gains(other, ours), noise)
        found[other.label] = estimate
    masks = have_masks([ours, *others])
    for other in others:
        estimate = found[other.label]
        if estimate.error < 1e-9:  # the same for all seeds: the noise cannot be estimated
            found[other.label] = replace(estimate, error=math.inf)
        elif masks:
            variance = with_images(estimate.error**2, other, ours)
            found[other.label] = replace(estimate, error=math.sqrt(variance))
    return found


def paired(gains: Sequence[float], near: Noise) -> Estimate:
    """Return the mean of at least two paired differences where one side is far below the best.

    Their own noise is moderated by the noise usual that far down, a multiple of that `near` the
    best.
    """
    own = Noise(statistics.variance(gains) / 2, len(gains) - 1)
    prior = Noise(FAR_RATIO * near.variance, min(FAR_DF, near.df))
    noise = pooled((own, prior))
    return over_seeds(statistics.fmean(gains), math.sqrt(2 * noise.variance / len(gains)), noise)


def over_seeds(mean: float, error: float, noise: Noise) -> Estimate:
    """Return an estimate without the noise of the images."""
    return Estimate(mean, error, noise.df, error, math.sqrt(2 * noise.variance))


def gains(other: Effect, ours: Effect) -> list[float]:
    """Return the difference in points for each common seed."""
    of_ours = dict(zip(ours.seeds, ours.scores, strict=True))
    pairs = zip(other.seeds, other.scores, strict=True)
    return [100 * (score - of_ours[seed]) for seed, score in pairs if seed in of_ours]


def claim(
    found: Sequence[Effect], verdicts: Mapping[str, Verdict], control: str, rivals: Collection[str]
) -> tuple[str, str]:
    """Return whether the control is better than its rivals (default: all others), and why.

    The claim holds if all are worse, and does not hold if one is better.
    """
    if next(effect for effect in found if effect.label == control).diverged:
        return "no verdict", f"{control} diverged"
    named = [each.label for each in found if each.label != control]
    named = [label for label in named if not rivals or label in rivals]
    judged = known({label: verdicts[label] for label in named if label in verdicts})
    by_word: dict[str, dict[str, Verdict]] = {}
    for label, verdict in judged.items():
        by_word.setdefault(verdict.word, {})[label] = verdict
    if better := by_word.get("better"):
        best = highest(better)
        return "does not hold", f"{best} is better, {difference(better[best], control)}"
    diverged = [label for label in named if label in verdicts and math.isnan(verdicts[label].mean)]
    if lacking := [label for label in named if label not in (*judged, *diverged)]:
        return "no verdict", f"two seeds of {control} and of {', '.join(lacking)} are needed"
    if open_ := by_word.get(UNDECIDED):
        best = highest(open_)
        return AT_THIS_BUDGET, undecided(best, open_[best], control)
    if not judged:
        return "holds", "every other value diverged"
    best = highest(judged)
    return "holds", f"{best} is worse, {difference(judged[best], control)}"


def known(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Return the verdicts based on a test: values with two or more seeds, none diverged."""
    return {
        label: verdict
        for label, verdict in verdicts.items()
        if verdict.word != "one seed" and not math.isnan(verdict.mean)
    }


def highest(verdicts: Mapping[str, Verdict]) -> str:
    """Return the value with the largest difference."""
    return max(verdicts, key=lambda label: verdicts[label].mean)


def undecided(label: str, verdict: Verdict, control: str) -> str:
    """Return the difference of a value that is not told apart, and the detectable one."""
    text = f"{label} {difference(verdict, control)}"
    if not math.isfinite(verdict.found) or verdict.too_few_seeds:
        return text
    return f"{text}; a difference of {verdict.found:.1f} points would be detected with 80% power"


def difference(verdict: Verdict, control: str) -> str:
    """Return `+1.23 points against control [-0.50, +2.96]`."""
    return verdict.in_points(f" points against {control}")
