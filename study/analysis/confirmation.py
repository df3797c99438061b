"""What a confirmation says of the best of a search beyond its table, and what to do then."""

import math
import statistics
from collections.abc import Mapping, Sequence

import optuna
from scipy import special

from study.analysis import images, odds, race
from study.analysis.comparison import confirmed, in_brackets
from study.analysis.effects import Effect, effects
from study.analysis.noise import Noise
from study.analysis.verdicts import ALPHA, Verdict, highest, known
from study.spec.identity import IDENTITY, Identity
from study.storage.records import kept

SAME = ("epochs", "subset", "split_seed", "scored_epochs")
"""What a confirmation and its search must share, that their scores may be compared."""
ENOUGH = 6  # seeds that a confirmation has at least, unless a person says otherwise
AGAIN = "the best again, with more seeds"


def in_words(
    study: optuna.Study,
    search: optuna.Study,
    searched: Mapping[str, float],
    verdicts: Mapping[str, Verdict],
    noise: Noise,
) -> list[str]:
    """Paragraphs on a confirmation. `searched` are the scores by which the search chose, by label,
    `noise` that of other comparisons like it."""
    identity, of_search = kept(study, IDENTITY), kept(search, IDENTITY)
    control = control_of(identity)
    found = effects(study, identity)
    alike = all(identity.get(key) == of_search.get(key) for key in SAME)
    said = [
        f"{in_brackets(found, identity)}\n",
        confirmed(found, verdicts, control),
        *odds.in_words(found, control, noise),
        flattered(found, searched) if alike else "",
        images.spread_in_words(found, identity),
        race.in_words(study),
    ]
    return [each for each in said if each]


def control_of(identity: Identity) -> str:
    """What a confirmation compares with: its first variant."""
    return str(next(iter(identity["space_definition"]["variants"])))


def flattered(found: Sequence[Effect], searched: Mapping[str, float]) -> str:
    """How much of the scores by which settings were chosen is gone with other seeds."""
    lost = {
        effect.label: 100 * (searched[effect.label] - effect.mean)
        for effect in found
        if effect.scores and effect.label in searched
    }
    if not lost:
        return ""
    each = ", ".join(f"{label} {points:+.2f}" for label, points in lost.items())
    if len(lost) < 3:
        return f"Points by which the search flattered them: {each}."
    mean = statistics.fmean(lost.values())
    error = statistics.stdev(lost.values()) / math.sqrt(len(lost))
    width = float(special.stdtrit(len(lost) - 1, 1 - ALPHA / 2)) * error
    return (
        f"The search flattered them by {mean:.2f} points on average "
        f"[{mean - width:+.2f}, {mean + width:+.2f}]: {each}."
    )


def seeds_for_a_verdict(
    found: Sequence[Effect], control: str, verdicts: Mapping[str, Verdict], noise: Noise
) -> int | None:
    """With how many seeds to go on; None if there is a verdict, or more would hardly bring one."""
    told = known(verdicts)
    if any(each.word == "better" for each in told.values()):
        return None
    more = max(ENOUGH, 2 + max(len(effect.seeds) for effect in found))
    if not told:  # one seed, or nothing but what diverged
        return more
    if all(each.word == "worse" for each in told.values()):
        return None
    needed = odds.seeds_for_the_best(found, control, noise)
    return None if math.isinf(needed) else max(math.ceil(needed), more)


def next_steps(
    verdicts: Mapping[str, Verdict], control: str, again: str, steps: Mapping[str, str]
) -> dict[str, str]:
    """Commands to go on with after a confirmation, and what each is for.

    `again` is the command that trains more seeds, empty if these would bring nothing; `steps` are
    those after any study.
    """
    told = known(verdicts)
    better = {label: each for label, each in told.items() if each.word == "better"}
    lines = {again: AGAIN} if again else {}
    for line, why in steps.items():
        if "study.confirm" in line:
            continue
        if "study.export" in line:
            why = f"the settings of {highest(better)}, confirmed" if better else ""
            why = why or "the best so far, not confirmed"
            if told and all(each.word == "worse" for each in told.values()):
                why = f"the best settings: {control}"
        lines[line] = why
    return lines
