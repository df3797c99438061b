"""What the values of a setting did, over seeds, and whether that is more than noise."""

import math
import statistics
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial
from rich.table import Table
from scipy import stats

from study import storage as store
from study.identity import Identity
from study.trial import ending

Verdict = Literal["confirmed", "refuted", "within noise", "one seed: no verdict"]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """The trials of one value, by seed. Scores are those of the best epoch, in 0..1."""

    label: str
    accuracies: tuple[float, ...]
    macro_f1s: tuple[float, ...]
    best_epochs: tuple[int, ...]
    diverged: int  # of them; what they reached before counts

    @property
    def mean(self) -> float:
        """Mean accuracy; NaN where nothing was trained."""
        return statistics.fmean(self.accuracies) if self.accuracies else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean accuracy over seeds; NaN of a single one."""
        return standard_error(self.accuracies)


def standard_error(values: tuple[float, ...]) -> float:
    """Of the mean of some values; NaN of a single one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def effects(study: optuna.Study, identity: Identity) -> list[Effect]:
    """What each variant of a comparison reached, in their order, as far as it was trained."""
    found = []
    for label, changes in identity["space_definition"]["variants"].items():
        trials = trials_of(study, changes)
        results = [trial.user_attrs[store.RESULT] for trial in trials]
        found.append(
            Effect(
                label,
                tuple(result["accuracy"] for result in results),
                tuple(result["macro_f1"] for result in results),
                tuple(result["epoch"] for result in results),
                sum(ending(trial) == "diverged" for trial in trials),
            )
        )
    return found


def trials_of(study: optuna.Study, changes: dict[str, Any]) -> list[FrozenTrial]:
    """The finished trials with those changes that reached an accuracy, one a seed, by seed."""
    by_seed = {
        trial.params["seed"]: trial
        for trial in reversed(store.finished(study))
        if {**trial.params, **changes} == trial.params
        and trial.user_attrs.get(store.RESULT, {}).get("accuracy") is not None
    }
    return [by_seed[seed] for seed in sorted(by_seed)]


def judge(found: list[Effect], control: str) -> tuple[Verdict, str]:
    """Whether the value `control` is the best, and why one may say so.

    Every other value is compared with it by Dunnett's test (doi 10.2307/2282294), which allows
    for the number of comparisons: "confirmed" if it is better than all others by more than the
    noise of the seeds, "refuted" if another is better than it by more than that.
    """
    ours = next(effect for effect in found if effect.label == control)
    others = [effect for effect in found if effect is not ours and len(effect.accuracies) > 1]
    if len(ours.accuracies) < 2 or len(others) < len(found) - 1 or not others:
        return "one seed: no verdict", "two seeds of every value are needed"
    best = max(others, key=lambda effect: effect.mean)
    gap = f"{best.label} {100 * (best.mean - ours.mean):+.2f} points against {control}"
    samples = [effect.accuracies for effect in others]
    if all(len(set(sample)) == 1 for sample in [ours.accuracies, *samples]):
        return "within noise", f"{gap}, no noise to compare it with"
    with warnings.catch_warnings():  # of a value whose seeds agree to the last digit
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.dunnett(*samples, control=ours.accuracies, rng=np.random.default_rng(0))
        interval = test.confidence_interval(CONFIDENCE)
    i = others.index(best)
    gap += f" [{100 * interval.low[i]:+.2f}, {100 * interval.high[i]:+.2f}]"
    if max(interval.low) > 0:
        return "refuted", gap
    return ("confirmed" if max(interval.high) < 0 else "within noise"), gap


def effects_table(found: list[Effect], title: str, control: str) -> Table:
    """A line a value, the report's marked."""
    table = Table("", "accuracy", "standard error", "macro-F1", "seeds", "", header_style="bold")
    table.columns[0].header = title
    for effect in found:
        remarks = ["the report's"] if effect.label == control else []
        remarks += [f"{effect.diverged} diverged"] if effect.diverged else []
        f1 = statistics.fmean(effect.macro_f1s) if effect.macro_f1s else math.nan
        row = (f"{effect.mean:.4f}", f"{effect.error:.4f}", f"{f1:.4f}")
        known = (value.replace("nan", "-") for value in row)
        table.add_row(effect.label, *known, str(len(effect.accuracies)), ", ".join(remarks))
    return table


def save_plot(found: list[Effect], title: str, control: str, path: Path) -> None:
    """Mean accuracy against the value with its standard error, and every seed as a dot."""
    trained = [effect for effect in found if effect.accuracies]
    figure = Figure(figsize=(max(4.5, 0.9 * len(trained) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    for x, effect in enumerate(trained):
        colour = "tab:orange" if effect.label == control else "tab:blue"
        axes.plot([x] * len(effect.accuracies), effect.accuracies, ".", color=colour, alpha=0.4)
        error = 0.0 if math.isnan(effect.error) else effect.error
        axes.errorbar(x, effect.mean, error, fmt="o", color=colour, capsize=4)
    long = max(len(effect.label) for effect in trained) > 6 and len(trained) > 3
    labels = [effect.label for effect in trained]
    axes.set_xticks(range(len(trained)), labels, rotation=30 if long else 0)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right" if long else "center")
    axes.set(xlabel=title, ylabel="validation accuracy", xlim=(-0.5, len(trained) - 0.5))
    axes.set_title("orange: the report's value; bars: standard error over seeds", fontsize=8)
    axes.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=120)
