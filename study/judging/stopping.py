"""Cost and regret of pruning rules over random orders of the same trials."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from study.judging.curves import TOP, Curves
from study.judging.rules import Rule, Spent

HALVES = 20
BUDGETS = (0.25, 0.5)


@dataclass(frozen=True)
class Losses:
    """Means over orders for one rule. Regrets are in points of final score below the best."""

    epochs: float  # share of the epochs of all trials
    best_stopped: float  # share of orders
    top_stopped: float  # share of the TOP best
    regret: float  # of the best complete trial
    at_quarter: float  # regret when a quarter of all epochs is spent
    at_half: float


@dataclass(frozen=True)
class Judged:
    """Mean losses over random orders, and their standard errors over settings."""

    mean: Losses
    error: Losses


def judge(curves: Curves, rules: Mapping[str, Rule], orders: int, seed: int) -> dict[str, Judged]:
    """Return the losses of each rule over `orders` random orders, the same for every rule.

    Standard errors are over the settings that might have been drawn: the spread over random halves
    of the trials (delete-half jackknife, Shao and Wu 1989).
    """
    found = {}
    for name, rule in rules.items():
        generator = np.random.default_rng(seed)
        mean = over_orders(curves, rule, orders, generator)
        spread = []
        for _ in range(HALVES):
            half = generator.permutation(len(curves.kinds))[: len(curves.kinds) // 2]
            spread.append(over_orders(curves.some(half), rule, max(4, orders // 20), generator))
        errors = (np.std([getattr(each, f.name) for each in spread], ddof=1) for f in fields(mean))
        found[name] = Judged(mean, Losses(*map(float, errors)))
    return found


def over_orders(curves: Curves, rule: Rule, orders: int, generator: Generator) -> Losses:
    """Return the rule's mean losses over random orders."""
    rows = []
    for _ in range(orders):
        ordered = curves.some(generator.permutation(len(curves.kinds)))
        rows.append(losses(ordered, rule))
    return Losses(*map(float, np.mean(rows, axis=0)))


def losses(curves: Curves, rule: Rule) -> tuple[float, ...]:
    """Return the fields of `Losses` for one order."""
    final, spent = curves.final, rule(curves)
    count, epochs = curves.scores.shape
    ranked = np.argsort(-final, kind="stable")
    stopped = spent < epochs
    quarter, half = (
        regret(final, spent_within(curves, rule, int(share * count * epochs)), epochs)
        for share in BUDGETS
    )
    return (
        float(spent.sum() / (count * epochs)),
        float(stopped[ranked[0]]),
        float(stopped[ranked[:TOP]].mean()),
        regret(final, spent, epochs),
        quarter,
        half,
    )


def regret(final: NDArray[np.float64], spent: Spent, epochs: int) -> float:
    """Return how far the best complete trial is behind the best of all, in points."""
    whole = final[: len(spent)][spent == epochs]
    return float(100 * (final.max() - (whole.max() if len(whole) else final.min())))


def spent_within(curves: Curves, rule: Rule, budget: int) -> Spent:
    """Return the epochs spent on each of the first trials, as many as fit into the budget."""
    low, high = 0, len(curves.kinds)  # trials that fit, and an upper bound
    fitting = np.zeros(0, dtype=np.int64)
    while low < high:
        middle = (low + high + 1) // 2
        spent = rule(curves.some(np.arange(middle)))
        if spent.sum() <= budget:
            low, fitting = middle, spent
        else:
            high = middle - 1
    return fitting


@dataclass(frozen=True)
class Ranks:
    """Spearman correlation of the score so far with the final one, with its 95% interval."""

    epoch: int
    everyone: tuple[float, float, float]  # low end, estimate, high end
    better_half: tuple[float, float, float]


def ranks(curves: Curves, generator: Generator, resamples: int = 200) -> list[Ranks]:
    """Return how well early scores predict the final one; intervals by bootstrap over trials."""
    final, running = curves.final, curves.running
    epochs = curves.scores.shape[1]
    better = np.argsort(-final, kind="stable")[: max(2, len(final) // 2)]
    shown = sorted({max(1, round(epochs * share)) for share in (0.03, 0.1, 0.17, 0.33, 0.5, 0.67)})
    return [
        Ranks(
            epoch,
            _spearman(running[:, epoch - 1], final, generator, resamples),
            _spearman(running[better, epoch - 1], final[better], generator, resamples),
        )
        for epoch in shown
    ]


def _spearman(
    early: NDArray[np.float64], late: NDArray[np.float64], generator: Generator, resamples: int
) -> tuple[float, float, float]:
    def once(which: NDArray[np.int64]) -> float:
        a, b = early[which], late[which]
        if len(set(a)) < 2 or len(set(b)) < 2:
            return 0.0
        return float(stats.spearmanr(a, b).statistic)

    count = len(early)
    draws = [once(generator.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), once(np.arange(count)), float(high)
