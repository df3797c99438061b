"""Drop settings of a comparison that are clearly beaten by the best: more seeds on them would be
wasted."""

import math
import statistics
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial
from scipy import special

from study.analysis.effects import Effect, effects_in
from study.analysis.noise import Noise
from study.analysis.verdicts import Estimate, estimates, gains
from study.spec.identity import Identity
from study.storage.records import ORIGIN, Ending, finished, result_of, with_scores
from study.words import counted

RISK = 0.01
"""Upper bound on the probability of dropping the best setting.

Shared by all comparisons with it and all looks (Bonferroni). Simulated in docs/search.md.
"""


def rule(trials: Sequence[FrozenTrial], identity: Identity, looks: int) -> dict[str, str]:
    """Return the beaten labels of a comparison and why; see `study.engine.race.Rule`."""
    control = next(iter(identity["space_definition"]["variants"]))
    return beaten(effects_in(with_scores(trials), identity), control, looks)


def beaten(found: Sequence[Effect], control: str, looks: int) -> dict[str, str]:
    """Return the values that diverged or are behind the best by more than noise, and why.

    The control is exempt, and so are values with fewer seeds than others: they are out already, or
    a run failed. `looks` is the maximum number of calls.
    """
    values = [effect for effect in found if effect.label != control]
    most = max((len(effect.seeds) for effect in values), default=0)
    racing = [effect for effect in values if len(effect.seeds) == most]
    left = [effect for effect in racing if not effect.diverged]
    if not left:
        return {}
    best = max(left, key=lambda effect: effect.mean)
    against = estimates([each for each in found if each is not best], best, Noise())
    level = RISK / (looks * max(1, len(values) - 1))
    after = f"after {counted(most, 'seed')}"
    out = {each.label: f"diverged, {after}" for each in racing if each.diverged}
    for each in left:
        estimate = against.get(each.label)
        if estimate is not None and chance(estimate, gains(each, best)) < level:
            out[each.label] = f"{-estimate.mean:.2f} points behind {best.label} {after}"
    return out


def chance(estimate: Estimate, differences: Sequence[float]) -> float:
    """Return the one-sided p-value that a value equal to another falls at least this far behind.

    Its own noise is used where it is larger than the pooled noise.
    """
    if not math.isfinite(estimate.error):
        return 1.0
    own = statistics.variance(differences) / len(differences)
    error = math.sqrt(estimate.error**2 + max(0.0, own - estimate.of_seeds**2))
    return float(special.stdtr(estimate.df, estimate.mean / error))


def in_words(study: optuna.Study) -> str:
    """Report what was dropped from a comparison and why; empty if everything was trained."""
    trials = finished(study)
    reasons: dict[str, str] = {}
    spared = 0
    for trial in trials:
        result = result_of(trial)
        if result is not None and result.ending == Ending.OUT_OF_RACE:
            spared += 1
            label = trial.user_attrs.get(ORIGIN, "").rpartition(", seed ")[0]
            reasons.setdefault(label, result.reason)
    if not reasons:
        return ""
    each = "; ".join(f"{label}, {reason}" for label, reason in reasons.items())
    return f"Dropped by the race, which saved {spared} of {counted(len(trials), 'run')}: {each}."
