"""What the values of a setting did, over seeds, and whether that is more than noise."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial
from rich.markup import escape
from rich.table import Table
from scipy import stats

from study.spec.identity import Identity
from study.storage.records import Ending, Result, scored

Verdict = Literal["confirmed", "refuted", "within noise", "one seed: no verdict"]
CONFIDENCE = 0.95
SHOWN = 2  # of the values beside the score; a pipeline names the most telling first
INTERVALS = (
    "in brackets: 95% t intervals over the seeds that both have, widened for the number of "
    "values; all share their validation images, whose own error is not in this"
)


@dataclass(frozen=True)
class Effect:
    """The trials of one value, by seed. Scores are those of the best epoch."""

    label: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    best_epochs: tuple[int, ...]
    diverged: int = 0  # of them; what they reached before counts
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # beside the scores

    @property
    def mean(self) -> float:
        """Mean score; NaN where nothing was trained."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean score over seeds; NaN of a single one."""
        return standard_error(self.scores)


def standard_error(values: tuple[float, ...]) -> float:
    """Of the mean of some values; NaN of a single one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def effects(study: optuna.Study, identity: Identity) -> list[Effect]:
    """What each variant of a comparison reached, in their order, as far as it was trained."""
    found = []
    for label, changes in identity["space_definition"]["variants"].items():
        trials = trials_of(study, changes)
        results = [result for _, result in trials]
        names = results[0].values if results else ()
        found.append(
            Effect(
                label,
                tuple(trial.params["seed"] for trial, _ in trials),
                tuple(result.score or 0.0 for result in results),
                tuple(result.epoch or 0 for result in results),
                sum(result.ending == Ending.DIVERGED for result in results),
                {name: tuple(r.values.get(name, math.nan) for r in results) for name in names},
            )
        )
    return found


def trials_of(study: optuna.Study, changes: Mapping[str, Any]) -> list[tuple[FrozenTrial, Result]]:
    """The finished trials with those changes that reached a score, one a seed, by seed."""
    by_seed = {
        trial.params["seed"]: (trial, result)
        for trial, result in reversed(scored(study))
        if {**trial.params, **changes} == trial.params
    }
    return [by_seed[seed] for seed in sorted(by_seed)]


def judge(found: list[Effect], control: str, rivals: tuple[str, ...] = ()) -> tuple[Verdict, str]:
    """Whether the value `control` is better than its `rivals`, and why one may say so.

    Without rivals they are all others. Each is compared with it seed by seed: a t interval of the
    mean difference, widened for the number of values (Bonferroni). "refuted" if one is better by
    more than the noise of the seeds, "confirmed" if all are worse by more than that. A value that
    diverged with a seed is worse. All values share their validation images, whose own error is
    not in this.
    """
    ours = next(effect for effect in found if effect.label == control)
    values = comparable(found, control)
    others = [effect for effect in values if not rivals or effect.label in rivals]
    if len(ours.seeds) < 2 or any(len(effect.seeds) < 2 for effect in others):
        return "one seed: no verdict", "two seeds of every value are needed"
    if ours.diverged or not others:
        word: Verdict = "refuted" if ours.diverged else "confirmed"
        return word, f"{control if ours.diverged else 'every other value'} diverged"
    intervals = {effect.label: difference(effect, ours, len(values)) for effect in others}
    best = max(intervals, key=lambda label: intervals[label][1])
    better = [label for label in intervals if intervals[label][0] > 0]
    decisive = max(better, key=lambda label: intervals[label][1], default=best)
    why = f"{decisive} {in_points(intervals[decisive], f' points against {control}')}"
    if better:
        return "refuted", why
    if all(high < 0 for _, _, high in intervals.values()):
        return "confirmed", why
    _, mean, high = intervals[decisive]
    if math.isfinite(high):
        why += f"; with {len(ours.seeds)} seeds less than {100 * (high - mean):.1f} points "
        why += "cannot be told"
    return "within noise", why


def comparable(found: list[Effect], control: str) -> list[Effect]:
    """The other values, but for those that diverged."""
    return [effect for effect in found if effect.label != control and not effect.diverged]


def against(found: list[Effect], control: str) -> dict[str, str]:
    """How much better each value is than `control`, as text; none where nothing is known."""
    ours = next(effect for effect in found if effect.label == control)
    others = comparable(found, control)
    return {
        other.label: in_points(difference(other, ours, len(others)))
        for other in others
        if {*other.seeds} & {*ours.seeds} and not ours.diverged
    }


def in_points(interval: tuple[float, float, float], unit: str = "") -> str:
    """Mean and ends of a difference of scores in points: `+1.23 [-0.50, +2.96]`."""
    low, mean, high = (100 * value for value in interval)
    ends = f" [{low:+.2f}, {high:+.2f}]" if math.isfinite(low) else ""
    return f"{mean:+.2f}{unit}{ends}"


def difference(effect: Effect, ours: Effect, comparisons: int) -> tuple[float, float, float]:
    """Low end, mean and high end of how much better `effect` is than `ours`, on common seeds."""
    of_ours = dict(zip(ours.seeds, ours.scores, strict=True))
    pairs = zip(effect.seeds, effect.scores, strict=True)
    gains = tuple(value - of_ours[seed] for seed, value in pairs if seed in of_ours)
    if len(gains) < 2 or len(set(gains)) == 1:  # nothing tells how large the noise is
        return -math.inf, statistics.fmean(gains or [0.0]), math.inf
    mean = statistics.fmean(gains)
    share = 1 - (1 - CONFIDENCE) / (2 * comparisons)
    width = float(stats.t.ppf(share, len(gains) - 1)) * standard_error(gains)
    return mean - width, mean, mean + width


def effects_table(found: list[Effect], title: str, control: str) -> Table:
    """What `effect_rows` has, for a terminal."""
    head, *rows = effect_rows(found, title, control)
    table = Table(*map(escape, head), header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    for column in (table.columns[0], table.columns[-1]):
        column.no_wrap = True
    return table


def effect_rows(found: list[Effect], title: str, control: str) -> list[list[str]]:
    """Head and a line a value: what it reached, and the difference to `control` in points."""
    gains = against(found, control) if control else {}
    against_what = f"points against {control}" if control else ""
    values = list(dict.fromkeys(name for effect in found for name in effect.values))[:SHOWN]
    rows = [[title, "score", "standard error", *values, "seeds", against_what]]
    for effect in found:
        means = (statistics.fmean(effect.values.get(name) or (math.nan,)) for name in values)
        numbers = (
            f"{each:.4f}".replace("nan", "-") for each in (effect.mean, effect.error, *means)
        )
        row = [effect.label, *numbers, str(len(effect.scores))]
        lost = f"{effect.diverged} diverged" if effect.diverged else ""
        rows.append([*row, lost or gains.get(effect.label, "")])
    return rows if any(row[-1] for row in rows) else [row[:-1] for row in rows]


def save_plot(found: list[Effect], title: str, control: str, path: Path) -> None:
    """Mean accuracy against the value with its standard error, and every seed as a dot."""
    trained = [effect for effect in found if effect.scores]
    figure = Figure(figsize=(max(4.5, 0.9 * len(trained) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    for x, effect in enumerate(trained):
        colour = "tab:orange" if effect.label == control else "tab:blue"
        axes.plot([x] * len(effect.scores), effect.scores, ".", color=colour, alpha=0.4)
        error = 0.0 if math.isnan(effect.error) else effect.error
        axes.errorbar(x, effect.mean, error, fmt="o", color=colour, capsize=4)
    long = max(len(effect.label) for effect in trained) > (6 if len(trained) > 3 else 12)
    labels = [effect.label for effect in trained]
    axes.set_xticks(range(len(trained)), labels, rotation=30 if long else 0)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right" if long else "center")
    axes.set(xlabel=title, ylabel="score", xlim=(-0.5, len(trained) - 0.5))
    whose = f"orange: {control}; " if control else ""
    axes.set_title(f"{whose}bars: standard error over seeds", fontsize=8)
    axes.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=120)
