"""Pruners. docs/search.md reports what each rule saves and what it loses."""

import bisect
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from study.spec.score import score_of
from study.storage.records import ORIGIN, result_of

COMPARED = 8  # minimum number of trials to compare with
FOUND = 4  # minimum number of these proposed by the sampler
MARGIN = 2.0  # below their median, in standard deviations of an epoch's noise
ANY_KIND = object()  # stands for the kinds of all trials together

# Mean share trained of the epochs in which a trial may be pruned, including second chances.
# Measured on studies of 30 trials of 5, 6 and 10 epochs, on the demo faces and on FER-2013.
SURVIVAL = {"median": 0.5, "screen": 0.17, "none": 1.0}

# Second chances per proposed trial.
CHANCES = {"median": 1 / 20, "screen": 1 / 6, "none": 0.0}


def describe_pruner(name: str, epochs: int, curves_by: Sequence[str]) -> dict[str, Any]:
    """Return the pruner `name` with its settings, as stored with a study."""
    within = {"within": list(curves_by)} if curves_by else {}
    if name == "none":
        return {"name": name, **within}
    settings: dict[str, Any] = {"name": name, "earliest": earliest_pruning(name, epochs)}
    if name == "median":
        settings |= {"margin": MARGIN, "compared": COMPARED, "found": FOUND}
        settings |= {"among_all": "lower quartile"} if curves_by else {}
    settings["second_chances"] = round(CHANCES[name], 4)
    return {**settings, **within}


class Bar:
    """The score a trial must reach at each epoch, from the complete trials.

    With enough trials of the same kind of curve, it is their median minus MARGIN times an epoch's
    noise. Until then it is the lower quartile of all kinds minus the same margin: with some
    learning rate schedules most of the gain comes at the end, so kinds compare poorly.
    Scores are means of the last epochs, as in `study.spec.score`.
    """

    def __init__(self) -> None:
        self._scores: dict[tuple[Any, int], list[float]] = defaultdict(list)  # sorted
        self._noise: dict[Any, list[float]] = defaultdict(list)  # sorted
        self._found: dict[Any, int] = defaultdict(int)

    def add(self, kind: Any, curve: Sequence[float], found: bool) -> None:
        """Add a complete trial's scores by epoch; `found` if the sampler proposed it."""
        scores = [score_of(curve[:epoch]) for epoch in range(1, len(curve) + 1)]
        for group in (kind, ANY_KIND):
            for epoch, score in enumerate(scores, 1):
                bisect.insort(self._scores[group, epoch], score)
            bisect.insort(self._noise[group], noise_of(curve))
            self._found[group] += found

    def at(self, kind: Any, epoch: int) -> float | None:
        """Return the lowest score that is not pruned after `epoch`; None with too few trials."""
        for group in (kind, ANY_KIND):
            scores = self._scores[group, epoch]
            if len(scores) >= COMPARED and self._found[group] >= FOUND:
                if group is ANY_KIND:
                    reference, *_ = statistics.quantiles(scores, n=4, method="inclusive")
                else:
                    reference = middle(scores)
                return reference - MARGIN * middle(self._noise[group])
        return None


def middle(ordered: Sequence[float]) -> float:
    """Return the median of sorted numbers."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def noise_of(curve: Sequence[float]) -> float:
    """Standard deviation of an epoch's score around a smooth curve; 0 for fewer than 3 epochs.

    Estimated from second differences, which are 0 on a straight line and have six times the
    variance of an epoch (Gasser, Sroka, Jennen-Steinmetz 1986).
    """
    bends = [c - 2 * b + a for a, b, c in zip(curve, curve[1:], curve[2:], strict=False)]
    return math.sqrt(statistics.fmean(bend**2 for bend in bends) / 6) if bends else 0.0


class MedianPruner(optuna.pruners.BasePruner):
    """Prunes a trial that is below the `Bar` of the complete trials.

    For studies that maximise. Kinds of curves differ in the parameters `curves_by`. Trials are
    appended to the list `complete` as they complete. No trial is pruned before epoch `earliest`.
    """

    def __init__(
        self, complete: list[FrozenTrial], earliest: int, curves_by: Sequence[str] = ()
    ) -> None:
        self._complete, self._earliest, self._curves_by = complete, earliest, curves_by
        self._read = 0  # how many of them the bar contains
        self._bar = Bar()

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        for other in self._complete[self._read :]:
            curve = curve_of(other)
            result = result_of(other)
            repeats = result is not None and result.repeats is not None
            # Trials told without their epochs carry no information either.
            if not repeats and len(curve) >= self._earliest and not any(map(math.isnan, curve)):
                found = ORIGIN not in other.user_attrs
                self._bar.add(kind_of(other, self._curves_by), curve, found)
        self._read = len(self._complete)
        curve = curve_of(trial)
        if len(curve) < self._earliest:
            return False
        bar = self._bar.at(kind_of(trial, self._curves_by), len(curve))
        return bar is not None and not score_of(curve) >= bar  # NaN is below any bar


class ScreenPruner(optuna.pruners.BasePruner):
    """Prunes every trial after epoch `earliest`; the best of them get second chances.

    i-Epoch (Egele, Mohr, Viering, Balaprakash 2024, arXiv 2404.04111).
    """

    def __init__(self, earliest: int) -> None:
        self._earliest = earliest

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return len(trial.intermediate_values) >= self._earliest


def curve_of(trial: FrozenTrial) -> list[float]:
    """Return a trial's scores by epoch."""
    return list(trial.intermediate_values.values())


def kind_of(trial: FrozenTrial, curves_by: Sequence[str]) -> tuple[Any, ...]:
    """Return the kind of a trial's curve: its values of the parameters `curves_by`."""
    return tuple(trial.params.get(name) for name in curves_by)


def make_pruner(
    described: Mapping[str, Any], complete: list[FrozenTrial]
) -> optuna.pruners.BasePruner:
    """Return the pruner described by `describe_pruner`.

    `complete` holds the study's complete trials; more may be appended later.
    """
    match described["name"]:
        case "median":
            return MedianPruner(complete, described["earliest"], described.get("within", ()))
        case "screen":
            return ScreenPruner(described["earliest"])
    return optuna.pruners.NopPruner()


def earliest_pruning(name: str, epochs: int) -> int:
    """Return the first epoch after which a trial may be pruned; `epochs` + 1 for never."""
    # Two of six or fewer epochs: three would save little.
    return epochs + 1 if name == "none" else max(2 if epochs <= 6 else 3, epochs // 10)


def expected_share(name: str, epochs: int) -> float:
    """Return the share of its epochs that a trial is expected to train with this pruner."""
    least = min(1.0, earliest_pruning(name, epochs) / epochs)
    return least + SURVIVAL[name] * (1 - least)


def protected_trials(name: str, kinds: int) -> int:
    """Return how many trials complete before pruning is in full effect, with this many kinds of
    curves."""
    # Screening prunes from the start, but spares the control.
    return COMPARED * kinds if name == "median" else 1
