"""How far the best settings that a search found lie ahead of the best that it began with."""

import math

from optuna.trial import FrozenTrial
from scipy import stats

from study.analysis.images import error_of_difference
from study.storage.records import ORIGIN, Result

Ranked = list[tuple[FrozenTrial, Result]]
NORMAL = float(stats.norm.ppf(0.975))


def lead(complete: Ranked, validation: int) -> str:
    """The difference in points with its 95% interval, in words that call nothing beaten.

    The trials are complete ones, the best first; a score is a share of `validation` cases, 0 if
    their number is not known.
    """
    given = [each for each in complete if each[0].user_attrs.get(ORIGIN)]
    found = [each for each in complete if each not in given]
    if not found:
        return "Only settings that it began with ran to the end: the search has found nothing."
    if not given:
        return "No settings put in by hand ran to the end: nothing to compare with."
    ours, theirs = found[0], given[0]
    gain = 100 * (score_of(ours) - score_of(theirs))
    interval, how = interval_of(gain, ours[1], theirs[1], validation)
    best, origin = f"trial {ours[0].number}", theirs[0].user_attrs[ORIGIN]
    if gain < 0:
        line = f"The best was put in by hand ({origin}); {best}, the best found, is behind by "
        return f"{line}{-gain:.2f} points{interval}. {how}"
    line = f"The best found, {best}, is ahead of the best put in by hand ({origin}) by {gain:.2f} "
    line += f"points{interval} before confirmation. {how}"
    return f"{line} The best of {len(found)} is more flattered than that of {len(given)} by hand."


def interval_of(gain: float, ours: Result, theirs: Result, validation: int) -> tuple[str, str]:
    """The 95% interval of the distance in points as text, and what it covers."""
    seed = "the noise of the seed, one for both, is unknown."
    if ours.right and len(ours.right) == len(theirs.right):
        error = error_of_difference(ours.right, theirs.right)
        how = f"In brackets: 95%, by the images that one had right and the other had not; {seed}"
    elif validation and all(0 <= (each.score or 0.0) <= 1 for each in (ours, theirs)):
        shares = [each.score or 0.0 for each in (ours, theirs)]
        error = math.sqrt(sum(share * (1 - share) for share in shares) / validation)
        how = f"In brackets: 95%, at most, of {validation} validation cases; {seed}"
    else:
        return "", f"Without the number of validation cases it has no interval; {seed}"
    width = 100 * NORMAL * error
    return f" [{abs(gain) - width:+.2f}, {abs(gain) + width:+.2f}]", how


def score_of(each: tuple[FrozenTrial, Result]) -> float:
    """A trial's score."""
    return each[1].score or 0.0
