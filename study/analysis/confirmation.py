"""What a confirmation reports in addition to its table."""

import math
import statistics
from collections.abc import Mapping, Sequence

import optuna
from scipy import special

from study.analysis import images, odds, race
from study.analysis.comparison import confirmed, in_brackets
from study.analysis.effects import Effect, effects
from study.analysis.noise import Noise
from study.analysis.verdicts import ALPHA, Verdict
from study.spec.identity import IDENTITY, Identity
from study.storage.records import kept, to_come
from study.words import counted

SAME = ("epochs", "subset", "split_seed", "scored_epochs")
"""What a confirmation and its search must share for their scores to be comparable."""


def in_words(
    study: optuna.Study,
    search: optuna.Study,
    searched: Mapping[str, float],
    verdicts: Mapping[str, Verdict],
    noise: Noise,
) -> list[str]:
    """Return paragraphs on a confirmation. `searched` maps labels to the scores by which the
    search chose; `noise` is that of similar comparisons."""
    identity, of_search = kept(study, IDENTITY), kept(search, IDENTITY)
    control = control_of(identity)
    found = effects(study, identity)
    alike = all(identity.get(key) == of_search.get(key) for key in SAME)
    said = [
        f"{in_brackets(found, identity)}\n",
        f"{counted(left, 'run')} to come; so far:" if (left := to_come(study)) else "",
        confirmed(found, verdicts, control),
        *odds.in_words(found, control, noise),
        flattered(found, searched) if alike else "",
        images.spread_in_words(found, identity),
        race.in_words(study),
    ]
    return [each for each in said if each]


def control_of(identity: Identity) -> str:
    """Return the label of the control of a confirmation: its first variant."""
    return str(next(iter(identity["space_definition"]["variants"])))


def flattered(found: Sequence[Effect], searched: Mapping[str, float]) -> str:
    """Report how much lower the chosen settings score with fresh seeds (selection bias)."""
    lost = {
        effect.label: 100 * (searched[effect.label] - effect.mean)
        for effect in found
        if effect.scores and effect.label in searched
    }
    if not lost:
        return ""
    each = ", ".join(f"{label} {points:+.2f}" for label, points in lost.items())
    if len(lost) < 3:
        return f"Points by which the search overestimated these settings: {each}."
    mean = statistics.fmean(lost.values())
    error = statistics.stdev(lost.values()) / math.sqrt(len(lost))
    width = float(special.stdtrit(len(lost) - 1, 1 - ALPHA / 2)) * error
    return (
        f"The search overestimated these settings by {mean:.2f} points on average "
        f"[{mean - width:+.2f}, {mean + width:+.2f}]: {each}."
    )
