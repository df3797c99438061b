"""How much selection overfits the validation cases, measured on held-out cases.

Overtuning (arXiv 2506.19540): validation improves while the true error does not.
"""

import math
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from study.spec.identity import IDENTITY
from study.storage.records import kept, scored


@dataclass(frozen=True)
class Incumbent:
    """A trial that was the best so far by its score, and its score on the held-out cases."""

    number: int
    score: float
    holdout: float


def incumbents(study: optuna.Study) -> list[Incumbent]:
    """Return the successive best trials in order of completion; empty without a holdout."""
    complete = [each for each in scored(study) if each[0].state == TrialState.COMPLETE]
    found: list[Incumbent] = []
    for trial, result in sorted(complete, key=lambda each: str(each[0].datetime_complete)):
        score = result.score or 0.0
        if result.holdout is not None and (not found or score > found[-1].score):
            found.append(Incumbent(trial.number, score, result.holdout))
    return found


def relative_overtuning(trace: list[Incumbent]) -> float:
    """Return the holdout loss of the last incumbent relative to the best one, as a share of the
    gain of the best over the first: 0 is none, above 1 is worse than the first.

    NaN if there is a loss but no incumbent improved on the first.
    """
    first, last = trace[0].holdout, trace[-1].holdout
    best = max(each.holdout for each in trace)
    lost, gained = best - last, best - first
    if not lost:
        return 0.0
    return lost / gained if gained else math.nan


def standard_error_of_a_difference(accuracy: float, cases: int) -> float:
    """Return an upper bound for two accuracies near this one on the same cases: binomial, as if
    the models agreed on cases only by chance. They agree on more."""
    return math.sqrt(2 * accuracy * (1 - accuracy) / cases)


def in_words(study: optuna.Study) -> str:
    """Report overtuning in a sentence; empty without a holdout, and while trials run so that
    nobody selects by it."""
    trace = incumbents(study)
    if not trace or study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        return ""
    first, last = trace[0], trace[-1]
    noise = _noise(last.holdout, kept(study, IDENTITY).get("held_out"))
    if len(trace) < 2:
        return f"Holdout: trial {last.number}, the best, scores {last.holdout:.4f}.{noise}"
    validation, holdout = 100 * (last.score - first.score), 100 * (last.holdout - first.holdout)
    words = (
        f"Holdout: from the first incumbent (trial {first.number}) to the last (trial "
        f"{last.number}) the score rose by {validation:.2f} points; on the holdout it changed by "
        f"{holdout:+.2f}"
    )
    best = max(trace, key=lambda each: each.holdout)
    if best.holdout == last.holdout:
        return f"{words}: no overtuning.{noise}"
    behind = f"{100 * (best.holdout - last.holdout):.2f} points behind trial {best.number}"
    if best.holdout == first.holdout:
        return f"{words}, {behind}: overtuned, no later incumbent beat the first.{noise}"
    return f"{words}, {behind}: relative overtuning {relative_overtuning(trace):.2f}.{noise}"


def _noise(accuracy: float, cases: int | None) -> str:
    if not cases:
        return ""
    error = 100 * standard_error_of_a_difference(accuracy, cases)
    return (
        f" On these {cases:,} images a difference has a standard error of up to {error:.2f} "
        "points: smaller differences are not significant."
    )
