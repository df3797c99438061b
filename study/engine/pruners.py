"""How trials are stopped early. docs/search.md has what each rule costs and what it loses."""

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

COMPARED = 8  # trials that a trial is compared with at least
FOUND = 4  # of these, those that were not put in by hand
MARGIN = 2.0  # behind their median, in standard deviations of an epoch's noise

# What a trial trains of the epochs in which it may be stopped, on average, second chances among
# them: measured on studies of 30 trials of 5, 6 and 10 epochs, on demo faces and on FER-2013.
SURVIVAL = {"median": 0.5, "screen": 0.17, "none": 1.0}

# Second chances per trial that was proposed.
CHANCES = {"median": 1 / 20, "screen": 1 / 6, "none": 0.0}


def describe_pruner(name: str, epochs: int, curves_by: Sequence[str]) -> dict[str, Any]:
    """The pruner called `name` with its settings, as it is stored with a study."""
    within = {"within": list(curves_by)} if curves_by else {}
    if name == "none":
        return {"name": name, **within}
    settings: dict[str, Any] = {"name": name, "earliest": earliest_pruning(name, epochs)}
    if name == "median":
        settings |= {"margin": MARGIN, "compared": COMPARED, "found": FOUND}
    settings["second_chances"] = round(CHANCES[name], 4)
    return {**settings, **within}


class Bar:
    """What a trial must reach at each epoch: the median of whole trials, less MARGIN times an
    epoch's noise.

    Scores are means of the last epochs, as in `study.spec.score`. A kind is one of curves that
    can be compared: a learning rate schedule that gains at its end is behind until then.
    """

    def __init__(self) -> None:
        self._scores: dict[tuple[Any, int], list[float]] = defaultdict(list)  # in order
        self._noise: dict[Any, list[float]] = defaultdict(list)  # in order
        self._found: dict[Any, int] = defaultdict(int)

    def add(self, kind: Any, curve: Sequence[float], found: bool) -> None:
        """A whole trial's scores by epoch; `found` if it was not put in by hand."""
        for epoch in range(1, len(curve) + 1):
            bisect.insort(self._scores[kind, epoch], score_of(curve[:epoch]))
        bisect.insort(self._noise[kind], noise_of(curve))
        self._found[kind] += found

    def at(self, kind: Any, epoch: int) -> float | None:
        """The least score that is no reason to stop after `epoch`; None if too few are known."""
        scores = self._scores[kind, epoch]
        if len(scores) < COMPARED or self._found[kind] < FOUND:
            return None
        return middle(scores) - MARGIN * middle(self._noise[kind])


def middle(ordered: Sequence[float]) -> float:
    """The median of numbers in order."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def noise_of(curve: Sequence[float]) -> float:
    """Standard deviation of an epoch's score about a smooth curve, 0 for less than three epochs.

    From second differences, which a straight line does not have and whose variance is six times
    that of an epoch (Gasser, Sroka, Jennen-Steinmetz 1986).
    """
    bends = [c - 2 * b + a for a, b, c in zip(curve, curve[1:], curve[2:], strict=False)]
    return math.sqrt(statistics.fmean(bend**2 for bend in bends) / 6) if bends else 0.0


class MedianPruner(optuna.pruners.BasePruner):
    """Stops a trial that is below the `Bar` of the complete trials with its kind of curve.

    For a study that is maximised. Kinds differ in the parameters `curves_by`. `complete` is a list
    to which trials are added as they are told. No trial is stopped before epoch `earliest`.
    """

    def __init__(
        self, complete: list[FrozenTrial], earliest: int, curves_by: Sequence[str] = ()
    ) -> None:
        self._complete, self._earliest, self._curves_by = complete, earliest, curves_by
        self._read = 0  # how many of them are in
        self._bar = Bar()

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        for other in self._complete[self._read :]:
            curve = curve_of(other)
            result = result_of(other)
            repeats = result is not None and result.repeats is not None
            # Nor does a trial say anything that was told without its epochs.
            if not repeats and len(curve) >= self._earliest and not any(map(math.isnan, curve)):
                found = ORIGIN not in other.user_attrs
                self._bar.add(kind_of(other, self._curves_by), curve, found)
        self._read = len(self._complete)
        curve = curve_of(trial)
        if len(curve) < self._earliest:
            return False
        bar = self._bar.at(kind_of(trial, self._curves_by), len(curve))
        return bar is not None and not score_of(curve) >= bar  # NaN is below any


class ScreenPruner(optuna.pruners.BasePruner):
    """Stops every trial after epoch `earliest`; the best of them get second chances.

    i-Epoch (Egele, Mohr, Viering, Balaprakash 2024, arXiv 2404.04111).
    """

    def __init__(self, earliest: int) -> None:
        self._earliest = earliest

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return len(trial.intermediate_values) >= self._earliest


def curve_of(trial: FrozenTrial) -> list[float]:
    """A trial's scores by epoch."""
    return list(trial.intermediate_values.values())


def kind_of(trial: FrozenTrial, curves_by: Sequence[str]) -> tuple[Any, ...]:
    """What the trial's curve may be compared within."""
    return tuple(trial.params.get(name) for name in curves_by)


def make_pruner(
    described: Mapping[str, Any], complete: list[FrozenTrial]
) -> optuna.pruners.BasePruner:
    """The pruner that `describe_pruner` described.

    `complete` are the study's complete trials; more may be added to it.
    """
    match described["name"]:
        case "median":
            return MedianPruner(complete, described["earliest"], described.get("within", ()))
        case "screen":
            return ScreenPruner(described["earliest"])
    return optuna.pruners.NopPruner()


def earliest_pruning(name: str, epochs: int) -> int:
    """The first epoch after which the pruner may stop a trial; past the last if it stops none."""
    # Two epochs of six or fewer: three would leave little to save.
    return epochs + 1 if name == "none" else max(2 if epochs <= 6 else 3, epochs // 10)


def expected_share(name: str, epochs: int) -> float:
    """The part of its epochs that a trial is expected to train with that pruner."""
    least = min(1.0, earliest_pruning(name, epochs) / epochs)
    return least + SURVIVAL[name] * (1 - least)


def protected_trials(name: str, kinds: int) -> int:
    """Complete trials before the pruner stops any, with that many kinds of curves to compare."""
    # Screening waits for none, but spares the control.
    return COMPARED * kinds if name == "median" else 1
