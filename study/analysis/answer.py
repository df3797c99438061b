"""The verdict on a study, identical wherever it is shown: is the best trial really better?

No winner is announced before `study.confirm` has retrained it: a search trains each setting with
one seed, so its best trial is also the luckiest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from study.analysis.comparison import confirmed
from study.analysis.effects import effects
from study.analysis.flattery import Lead, lead_without_flattery
from study.analysis.masks import cases_of, unpacked
from study.analysis.noise import noise_elsewhere
from study.analysis.verdicts import claim, judge, known
from study.spec.identity import IDENTITY, kind_of
from study.spec.report import FACTORS
from study.spec.spec import Kind
from study.storage.records import ORIGIN, Result, kept, scored, to_come
from study.words import counted

Ranked = Sequence[tuple[FrozenTrial, Result]]
RIVALS = 100  # best trials to compare: those further behind are never picked


@dataclass(frozen=True)
class Answer:
    """The outcome of a study. Gains are in points (hundredths of the score), with the ends of
    their 95% interval."""

    words: str
    short: str = ""
    gain: float | None = None  # of the best over the hand-made settings
    low: float | None = None
    high: float | None = None
    confirmed: bool | None = None  # None before a confirmation has all its runs

    @property
    def is_worse(self) -> bool:
        """Whether a confirmation shows that the control is better."""
        return self.confirmed is False and self.high is not None and self.high < 0


def answer_of(study: optuna.Study, studies: Iterable[optuna.Study]) -> Answer:
    """Return the verdict on a study created by this program.

    `studies` are all studies of its database: one may be its confirmation, and comparisons
    provide an estimate of the noise.
    """
    studies, kind = list(studies), kind_of(kept(study, IDENTITY))
    if kind == Kind.SEARCH:
        again = confirmation_of(study.study_name, studies)
        return of_confirmation(again, studies) if again else of_search(study)
    if kind == Kind.CONFIRM:
        return of_confirmation(study, studies)
    return of_claim(study, studies) if kind == Kind.COMPARE else Answer("")


def confirmation_of(search: str, studies: Iterable[optuna.Study]) -> optuna.Study | None:
    """Return the largest confirmation of a search with at least two settings and two seeds of
    each, or None."""
    largest, most = None, 0
    for study in studies:
        identity = kept(study, IDENTITY, {})
        if kind_of(identity) != Kind.CONFIRM or identity["space_definition"]["search"] != search:
            continue
        trained = [len(each.seeds) for each in effects(study, identity) if len(each.seeds) > 1]
        if len(trained) > 1 and sum(trained) > most:
            largest, most = study, sum(trained)
    return largest


def of_confirmation(study: optuna.Study, studies: Sequence[optuna.Study]) -> Answer:
    """Return the verdict of a confirmation: what fresh seeds show about the best settings."""
    identity = kept(study, IDENTITY)
    found = effects(study, identity)
    control = next(iter(identity["space_definition"]["variants"]))
    verdicts = judge(found, control, elsewhere=noise_elsewhere(studies, identity))
    words = confirmed(found, verdicts, control)
    told = known(verdicts)
    if not told:
        return Answer(f"Confirmation: {words}.", "no verdict")
    best = max(told, key=lambda label: (told[label].word == "better", told[label].mean))
    verdict = told[best]
    real = verdict.word == "better"
    seeds = counted(next(len(each.seeds) for each in found if each.label == best), "fresh seed")
    is_worse = verdict.word == "worse"
    if left := to_come(study):  # looking early and often finds winners by chance
        return Answer(
            f"Not confirmed yet, {counted(left, 'run')} to come. So far {words}.",
            f"{verdict.points} so far, {counted(left, 'run')} to come",
            *(verdict.mean, verdict.low, verdict.high),
        )
    relation = "beats" if real else "is worse than" if is_worse else "not told apart from"
    short = f"{relation} {control}: {verdict.points}, {seeds}"
    return Answer(
        f"Confirmed over {seeds}: {words}." if real else f"Not confirmed over {seeds}: {words}.",
        short,
        *(verdict.mean, verdict.low, verdict.high),
        confirmed=real,
    )


def of_claim(study: optuna.Study, studies: Sequence[optuna.Study]) -> Answer:
    """Return whether the report's claim about a setting holds."""
    identity = kept(study, IDENTITY)
    found, factor = effects(study, identity), FACTORS[identity["space"]]
    if not factor.claim or not factor.control:
        return Answer("")
    verdicts = judge(found, factor.control, factor.rivals, noise_elsewhere(studies, identity))
    word, why = claim(found, verdicts, factor.control, factor.rivals)
    return Answer(f"The report: {factor.claim}. {word.capitalize()}: {why}.", word)


def of_search(study: optuna.Study) -> Answer:
    """Return how far the best found settings lead the best hand-made ones, based on one seed."""
    complete = sorted(
        (each for each in scored(study) if each[0].state == TrialState.COMPLETE),
        key=lambda each: -(each[1].score or 0.0),
    )
    given = [each for each in complete if each[0].user_attrs.get(ORIGIN)]
    found = [each for each in complete if each not in given]
    if not complete:
        return Answer("No trial is complete yet.")
    if not found:
        return Answer("Only hand-made settings have completed: the search has found nothing yet.")
    if not given:
        return Answer("No hand-made settings have completed: there is nothing to compare with.")
    (ours, reached), (theirs, had) = found[0], given[0]
    raw = 100 * ((reached.score or 0.0) - (had.score or 0.0))
    hand = f"the best hand-made settings ({theirs.user_attrs[ORIGIN]})"
    where = f"{abs(raw):.2f} points {'ahead of' if raw >= 0 else 'behind'} {hand}"
    if abs(raw) < 0.005:
        where = f"as good as {hand}"
    words = f"Trial {ours.number}, the best found by the search, is {where}"
    lead = lead_of(found, given, kept(study, IDENTITY)["seed"])
    if lead is None:
        words += "; the scores alone do not show how much of that is noise. Not confirmed."
        return Answer(words, f"{raw:+.2f}, not confirmed", raw)
    ends = f"{lead.gain:+.2f} [{lead.low:+.2f}, {lead.high:+.2f}]"
    told = "may be real" if lead.low > 0 else "is not better" if lead.high < 0 else "may be noise"
    words += (
        f"; corrected for picking the best of {len(found)} found and {len(given)} hand-made ones, "
        f"{ends} (95%, on the same validation images). It {told}. Not confirmed."
    )
    return Answer(words, f"{ends}, not confirmed", lead.gain, lead.low, lead.high)


def lead_of(found: Ranked, given: Ranked, seed: int) -> Lead | None:
    """Return the lead of `found` over `given`, both best first, corrected for selection bias.

    None if the pipeline does not report which validation cases were correct. The masks are those
    of the last epoch, so the difference to the score (mean of the last epochs) is added.
    """
    sides = [[result.right for _, result in side[:RIVALS]] for side in (found, given)]
    masks = {len(mask) for side in sides for mask in side}
    if len(masks) != 1 or 0 in masks:
        return None
    cases = cases_of(*found[0])
    ours, theirs = (
        np.array([unpacked(each, cases) for each in side], np.float32) for side in sides
    )
    lead = lead_without_flattery(ours, theirs, np.random.default_rng(seed))
    of_masks = 100 * float(ours.mean(1).max() - theirs.mean(1).max())
    of_scores = 100 * ((found[0][1].score or 0.0) - (given[0][1].score or 0.0))
    shift = of_scores - of_masks
    return Lead(lead.gain + shift, lead.low + shift, lead.high + shift)
