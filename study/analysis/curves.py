"""Learning curves of every seed of a comparison, next to a reference (report, figure 5c)."""

import statistics
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from fer.files import write_figure
from study.analysis.effects import SHOWN, standard_error, trials_of
from study.storage.records import Result

COLOURS = ("tab:orange", "tab:blue", "tab:green")


def save_curves(
    study: optuna.Study, metric: str, reference: Mapping[int, float], path: Path
) -> None:
    """Plot the losses, if the pipeline has any, and the score of every seed; `reference` maps
    epochs to scores and is drawn dashed."""
    from matplotlib.figure import Figure

    trials = trials_of(study, {})
    names = dict.fromkeys(name for _, result in trials for name in result.curves)
    losses = [name for name in names if "loss" in name]
    figure = Figure(figsize=(10 if losses else 5, 4), layout="constrained")
    *others, axes = figure.subplots(1, 2 if losses else 1, squeeze=False)[0]
    for i, (trial, result) in enumerate(trials):
        for name, colour in zip(losses, cycle(COLOURS), strict=False):
            curve = result.curves.get(name, [])
            epochs = range(1, len(curve) + 1)
            others[0].plot(epochs, curve, color=colour, alpha=0.7, label=None if i else name)
        scores = trial.intermediate_values
        label = None if i else "each seed"
        axes.plot(list(scores), list(scores.values()), color="tab:orange", alpha=0.7, label=label)
    if reference:
        axes.plot(
            list(reference), list(reference.values()), "k--", linewidth=1, label="the report"
        )
    for each, label in [(axes, metric), *((other, "loss") for other in others)]:
        each.set(xlabel="epoch", ylabel=label)
        each.legend()
        each.grid(alpha=0.3)
        each.xaxis.get_major_locator().set_params(integer=True)
    write_figure(figure, path)


def seeds_table(study: optuna.Study, reference: Mapping[int, float]) -> list[list[str]]:
    """Return a header and rows: score and best epoch of each seed, their means, and the best
    epoch of the reference, which is a single run."""
    trials = trials_of(study, {})
    names = list(dict.fromkeys(name for _, result in trials for name in result.values))[:SHOWN]
    blank = [""] * len(names)
    rows = [["", "score", *names, "best epoch", "at"]]
    rows += [_row(trial, result, names) for trial, result in trials]
    if len(trials) > 1:
        means = (
            f"**{statistics.fmean(each):.4f}**, standard error {standard_error(each):.4f}"
            for each in (
                tuple(result.score or 0.0 for _, result in trials),
                tuple(result.best or 0.0 for _, result in trials),
            )
        )
        score, best = means
        rows.append([f"mean of {len(trials)} seeds", score, *blank, best, ""])
    if reference:
        epoch = max(reference, key=lambda each: reference[each])
        reached = f"**{reference[epoch]:.4f}**"
        rows.append(["the report, one run", "", *blank, reached, f"{epoch} of {len(reference)}"])
    return rows


def _row(trial: FrozenTrial, result: Result, names: list[str]) -> list[str]:
    values = (f"{result.values[name]:.4f}" if name in result.values else "-" for name in names)
    seed = f"seed {trial.params['seed']} (trial {trial.number})"
    at = f"{result.epoch} of {result.epochs}"
    return [seed, f"{result.score:.4f}", *values, f"{result.best:.4f}", at]
