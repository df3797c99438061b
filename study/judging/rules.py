"""Pruning rules, replayed on complete curves, one trial after another.

Each takes curves in the order in which the trials start, and returns the number of epochs it would
have trained of each.
"""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from study.engine.chances import due, expected_ends
from study.engine.pruners import CHANCES, Bar, earliest_pruning
from study.judging.curves import Curves

Spent = NDArray[np.int64]
Rule = Callable[[Curves], Spent]


def none(curves: Curves) -> Spent:
    """No pruning."""
    count, epochs = curves.scores.shape
    return np.full(count, epochs)


def median(curves: Curves, chances: bool = True) -> Spent:
    """`--pruner median`."""
    count, epochs = curves.scores.shape
    spent, bar = np.full(count, epochs), Bar()
    running, rows = curves.running, curves.scores.tolist()
    for i in range(count):
        kind = curves.kinds[i]
        for epoch in range(earliest_pruning("median", epochs), epochs):
            least = bar.at(kind, epoch)
            if i and least is not None and running[i, epoch - 1] < least:
                spent[i] = epoch
                break
        else:
            bar.add(kind, rows[i], not curves.by_hand[i])
    return second_chances(curves, spent, CHANCES["median"]) if chances else spent


def screen(curves: Curves) -> Spent:
    """`--pruner screen`; the first trial is the control."""
    count, epochs = curves.scores.shape
    spent = np.full(count, min(epochs, earliest_pruning("screen", epochs)))
    spent[:1] = epochs
    return second_chances(curves, spent, CHANCES["screen"])


def second_chances(curves: Curves, spent: Spent, rate: float) -> Spent:
    """Complete the best of the pruned trials at the end."""
    count, epochs = curves.scores.shape
    rows = curves.scores.tolist()
    spent = spent.copy()
    for _ in range(due(count, rate)):
        stopped = np.flatnonzero(spent < epochs).tolist()
        if not stopped:
            break
        whole = np.flatnonzero(spent == epochs).tolist()
        complete = [(curves.kinds[i], rows[i]) for i in whole]
        ends = expected_ends([(curves.kinds[i], rows[i][: spent[i]]) for i in stopped], complete)
        spent[stopped[int(np.argmax(ends))]] = epochs
    return spent


def percentile(curves: Curves, share: float, startup: int = 5, warmup: int = 0) -> Spent:
    """Optuna's PercentilePruner (MedianPruner with a share of 0.5): prune a trial if its best
    score so far is below the best `share` of the complete trials at the same step."""
    count, epochs = curves.scores.shape
    spent = np.full(count, epochs)
    best = np.maximum.accumulate(curves.scores, 1)
    complete: list[int] = []
    for i in range(count):
        if len(complete) >= startup:
            bar = np.quantile(curves.scores[complete], 1 - share, axis=0)
            behind = np.flatnonzero(best[i] < bar) + 1
            behind = behind[(behind >= warmup) & (behind < epochs)]
            if len(behind):
                spent[i] = behind[0]
        if spent[i] == epochs:
            complete.append(i)
    return spent


def halving(
    curves: Curves, factor: int = 4, first: int = 1, brackets: Sequence[int] | None = None
) -> Spent:
    """Optuna's SuccessiveHalvingPruner with its first rung after `first` epochs.

    With a bracket for each trial, its HyperbandPruner: trials compete within their bracket, and
    bracket b starts b rungs later.
    """
    count, epochs = curves.scores.shape
    spent = np.full(count, epochs)
    rungs: dict[tuple[int, int], list[float]] = {}  # by bracket and rung, in order
    for i in range(count):
        bracket, rung = (0 if brackets is None else brackets[i]), 0
        while (step := first * factor ** (bracket + rung)) < epochs:
            value = float(curves.scores[i, step - 1])
            seen = rungs.setdefault((bracket, rung), [])
            bisect.insort(seen, value)
            if value < seen[-max(len(seen) // factor, 1)]:
                spent[i] = step
                break
            rung += 1
    return spent


def hyperband(curves: Curves, generator: Generator, factor: int = 3) -> Spent:
    """Optuna's HyperbandPruner from one epoch to all of them, with random brackets."""
    count, epochs = curves.scores.shape
    last = math.floor(math.log(epochs, factor))
    # The same number and shares of brackets as in Optuna.
    weights = np.array([math.ceil((last + 1) * factor**s / (s + 1)) for s in range(last, -1, -1)])
    brackets = [int(generator.choice(last + 1, p=weights / weights.sum())) for _ in range(count)]
    return halving(curves, factor, brackets=brackets)


RULES: Mapping[str, Rule] = {
    "none": none,
    "median": median,
    "median, no second chances": lambda curves: median(curves, chances=False),
    "screen": screen,
    "Optuna's median": lambda curves: percentile(curves, 0.5),
    "Optuna's percentile, 75": lambda curves: percentile(curves, 0.75),
    "Optuna's halving": halving,
    "Optuna's hyperband": lambda curves: hyperband(curves, np.random.default_rng(0)),
}
"""Rules that `study.judge` compares, by name."""
