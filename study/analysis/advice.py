"""Checks that a careful reviewer would run on a search before trusting its best trial.

Each function returns one sentence with its number, or "" if there is nothing to report.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from study.spec.identity import IDENTITY, hardware_in_words, hardware_of, in_words
from study.spec.score import score_of
from study.spec.space import condition_of, place, value_at
from study.storage.records import (
    CONFIG,
    Ending,
    Result,
    ending,
    finished,
    kept,
    other_hardware,
    scored,
)
from study.storage.studies import SEARCH_CHANGES
from study.words import counted

Ranked = Sequence[tuple[FrozenTrial, Result]]
BEST = 5  # trials considered together: a single one may be a fluke
EDGE = 0.05  # of a range, at either end
MANY_DIVERGED = 0.1
TRIALS_PER_SETTING = 10
"""Runs per input of an experiment (Loeppky, Sacks and Welch 2009, Technometrics 51(4))."""
MANY_DUPLICATES = 0.05
AGREES = 0.7  # minimum rank correlation for an early ranking to be worth acting on
LEAST = 8  # minimum number of complete trials for a rank correlation
BATCH_SIZE = "batch_size"


def advice(study: optuna.Study) -> list[str]:
    """Return all warnings about a search created by this program."""
    identity = kept(study, IDENTITY)
    space, epochs = identity["space_definition"], identity["epochs"]
    trials = scored(study)
    complete = sorted(
        (each for each in trials if each[0].state == TrialState.COMPLETE),
        key=lambda each: -(each[1].score or 0.0),
    )
    said = [
        *(edge(complete, name, space) for name in (complete[0][0].params if complete else ())),
        diverged(finished(study), space),
        still_rising(complete, epochs),
        best_early(complete, epochs),
        too_few([trial for trial, _ in trials], space),
        batch_size([trial for trial, _ in trials]),
        duplicates(trials),
        *search_changes(kept(study, SEARCH_CHANGES, [])),
        early_order(trials),
        *other_processors(finished(study), identity),
    ]
    return [sentence for sentence in said if sentence]


def edge(complete: Ranked, name: str, space: Mapping[str, Any]) -> str:
    """Warn if the best trial lies at an end of a parameter's range, and say how to extend it.

    A lower end of 0 is ignored: a value that cannot be negative goes no lower.
    """
    best = complete[0][0]
    within, value = best.distributions[name], best.params[name]
    setting = _setting(name, best, space)
    if isinstance(within, CategoricalDistribution):
        return _edge_of_choices(setting, within.choices, value)
    if not isinstance(within, FloatDistribution | IntDistribution) or within.low >= within.high:
        return ""
    at = place(value, within)
    if EDGE < at < 1 - EDGE or (at <= EDGE and within.low == 0):
        return ""
    high = at > 0.5
    near = [
        trial
        for trial, _ in complete[:BEST]
        if trial.distributions.get(name) == within
        and abs(place(trial.params[name], within) - high) <= 2 * EDGE
    ]
    further = value_at(1.5 if high else -0.5, within)
    if not within.log and not high and within.low > 0:
        further = max(further, 0.0)
    end, way = ("upper", "up") if high else ("lower", "down")
    return (
        f"The best trial has {setting} {value:.4g}, at the {end} end of {within.low:g} to "
        f"{within.high:g}, and {len(near)} of the best {min(BEST, len(complete))} are within a "
        f"tenth of it: extend the range {way}wards, for example to {float(f'{further:.2g}'):g}."
    )


def _edge_of_choices(setting: str, choices: Sequence[Any], value: Any) -> str:
    numbers = [each for each in choices if type(each) in (int, float)]
    if len(numbers) < 3 or len(numbers) < len(choices) or min(numbers) < value < max(numbers):
        return ""
    if value == 0:
        return ""
    which, way = ("largest", "above") if value == max(numbers) else ("smallest", "below")
    return (
        f"The best trial has {setting} {value:g}, the {which} of the {len(numbers)} tried: "
        f"try one {way} it."
    )


def _setting(name: str, trial: FrozenTrial, space: Mapping[str, Any]) -> str:
    """Return the setting of a parameter, with the choice it belongs to."""
    only = condition_of(name, space, kept(trial, CONFIG, {}))
    return f"{only['setting']} ({only['value']})" if only else name


def diverged(trials: Sequence[FrozenTrial], space: Mapping[str, Any]) -> str:
    """Warn if many trials diverged, and say where in the space they lie."""
    gone = [trial for trial in trials if ending(trial) == Ending.DIVERGED]
    if len(gone) < 2 or len(gone) < MANY_DIVERGED * len(trials):
        return ""
    share = f"{len(gone)} of {len(trials)} trials ({len(gone) / len(trials):.0%}) diverged"
    where = _common_place(gone, space) or "; the space includes settings that cannot be trained"
    return f"{share}{where}."


def _common_place(gone: Sequence[FrozenTrial], space: Mapping[str, Any]) -> str:
    """Return the range whose upper or lower third holds most of the diverged trials."""
    places: dict[str, list[float]] = {}
    for trial in gone:
        for name, within in trial.distributions.items():
            if isinstance(within, FloatDistribution | IntDistribution):
                setting = condition_of(name, space, kept(trial, CONFIG, {}))
                label = setting.get("setting", name)
                places.setdefault(label, []).append(place(trial.params[name], within))
    found = {
        label: (sum(each > 2 / 3 for each in those), sum(each < 1 / 3 for each in those))
        for label, those in places.items()
    }
    label, (above, below) = max(found.items(), key=lambda each: max(each[1]), default=("", (0, 0)))
    if max(above, below) < 0.75 * len(gone):
        return ""
    end, way = ("upper", "lower") if above >= below else ("lower", "raise")
    return f", {max(above, below)} of them in the {end} third of {label}: {way} that end"


def still_rising(complete: Ranked, epochs: int) -> str:
    """Warn if the best trials were still improving when they ended."""
    last = max(1, epochs // 10)
    late = [result for _, result in complete[:BEST] if (result.epoch or 0) > epochs - last]
    if not complete or epochs < 2 or 2 * len(late) <= len(complete[:BEST]):
        return ""
    when = "in their last epoch" if last == 1 else f"in their last {last} of {epochs} epochs"
    return (
        f"{len(late)} of the best {len(complete[:BEST])} trials peaked {when}: they were still "
        f"improving, and more epochs (--epochs {2 * epochs}) may change their order."
    )


def best_early(complete: Ranked, epochs: int) -> str:
    """Warn if the best trials peaked long before they ended."""
    first = epochs // 10
    early = [result for _, result in complete[:BEST] if 0 < (result.epoch or 0) <= first]
    if not first or 2 * len(early) <= len(complete[:BEST]):
        return ""
    return (
        f"{len(early)} of the best {len(complete[:BEST])} trials peaked within the "
        f"first {counted(first, 'epoch')} of {epochs} and overfit afterwards: fewer "
        "epochs, a lower learning rate or more regularisation may do better."
    )


def too_few(trials: Sequence[FrozenTrial], space: Mapping[str, Any]) -> str:
    """Warn if there are too few trials for the number of settings in the space."""
    settings = kept(trials[0], CONFIG, {}) if trials else {}
    varied = {condition_of(name, space, settings).get("setting", name) for name in space}
    wanted = TRIALS_PER_SETTING * len(varied)
    if len(trials) >= wanted:
        return ""
    return (
        f"{counted(len(trials), 'trial')} for a space of {counted(len(varied), 'setting')}: "
        f"the usual minimum is {TRIALS_PER_SETTING} per setting, {wanted} in total; with fewer, "
        "the best trial depends partly on which settings were drawn."
    )


def batch_size(trials: Sequence[FrozenTrial]) -> str:
    """Warn if the batch size was tuned for the score."""
    sizes = {trial.params[BATCH_SIZE] for trial in trials if BATCH_SIZE in trial.params}
    if len(sizes) < 2:
        return ""
    return (
        f"The batch size was tuned for the score, over {len(sizes)} sizes: the best size is best "
        "only together with its learning rate, so retune the rate for any other size."
    )


def duplicates(trials: Ranked) -> str:
    """Warn if the search proposed the same settings repeatedly."""
    seen = Counter(
        str(sorted(trial.params.items()))
        for trial, result in trials
        if ending(trial) != Ending.PRUNED
    )
    again = sum(count - 1 for count in seen.values())
    if not again or again < MANY_DUPLICATES * len(trials):
        return ""
    return (
        f"{again} of {len(trials)} trials have the same settings as another one: they count as "
        "trials but add no information."
    )


def search_changes(changes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Report where the sampler or the pruner was changed."""
    return [
        f"From trial {change['from_trial']} on, the study has "
        + " and ".join(
            f"another {key}, {in_words(change[key])}"
            for key in ("sampler", "pruner")
            if key in change
        )
        + ": earlier and later trials were chosen or stopped by different rules."
        for change in changes
    ]


def other_processors(trials: Iterable[FrozenTrial], identity: Mapping[str, Any]) -> list[str]:
    """Report trials trained on another kind of processor or GPU than the first ones."""
    return [
        f"{counted(number, 'trial')} ran at least partly on {words}, the first ones on "
        f"{hardware_in_words(hardware_of(identity))}: rounding differs between the two, so "
        "the same settings and seed give a slightly different curve."
        for words, number in other_hardware(trials, identity).items()
    ]


def early_order(trials: Ranked) -> str:
    """Warn if the ranking of trials at the pruning epoch disagrees with the final ranking."""
    stopped = [result.epochs for trial, result in trials if ending(trial) == Ending.PRUNED]
    if not stopped:
        return ""
    epoch = round(statistics.median(stopped))
    curves = [
        [trial.intermediate_values[number] for number in sorted(trial.intermediate_values)]
        for trial, _ in trials
        if trial.state == TrialState.COMPLETE
    ]
    curves = [curve for curve in curves if len(curve) > epoch > 0]
    ends = [score_of(curve) for curve in curves]
    then = [score_of(curve[:epoch]) for curve in curves]
    if len(curves) < LEAST or len(set(ends)) < 2 or len(set(then)) < 2:
        return ""
    from scipy import stats

    agreement = float(stats.spearmanr(then, ends).statistic)
    if agreement >= AGREES:
        return ""
    return (
        f"Pruned trials were stopped at epoch {epoch} (median of {len(stopped)}), where the order "
        f"of the {len(curves)} complete ones agrees poorly with their final order (rank "
        f"correlation {agreement:.2f}): a good trial may have been pruned."
    )
