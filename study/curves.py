"""The course of a comparison's seeds, epoch by epoch, beside the report's (figure 5c)."""

import statistics
from pathlib import Path

import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from study import storage as store
from study.effects import standard_error, trials_of


def save_curves(study: optuna.Study, reported: dict[int, float], path: Path) -> None:
    """Losses and accuracy of every seed, and the accuracies that the report gives by epoch."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for i, trial in enumerate(trials_of(study, {})):
        result = trial.user_attrs[store.RESULT]
        epochs = range(1, len(result["losses"]) + 1)
        names = ("training", "validation") if i == 0 else (None, None)
        loss.plot(epochs, result["train_losses"], color="tab:blue", alpha=0.7, label=names[0])
        loss.plot(epochs, result["losses"], color="tab:orange", alpha=0.7, label=names[1])
        accuracy.plot(
            list(trial.intermediate_values),
            list(trial.intermediate_values.values()),
            color="tab:orange",
            alpha=0.7,
            label="each seed" if i == 0 else None,
        )
    if reported:
        accuracy.plot(
            list(reported), list(reported.values()), "k--", linewidth=1, label="the report"
        )
    accuracy.legend()
    loss.legend()
    for axes, label in ((loss, "cross entropy"), (accuracy, "validation accuracy")):
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=120)


def seeds_table(study: optuna.Study, reported: dict[int, float]) -> list[list[str]]:
    """Head and rows: the best accuracy of each seed, their mean, and what the report gives."""
    trials = trials_of(study, {})
    accuracies = tuple(trial.user_attrs[store.RESULT]["accuracy"] for trial in trials)
    rows = [["", "accuracy", "macro-F1", "epoch"]]
    rows += [_row(trial) for trial in trials]
    if len(trials) > 1:
        error = standard_error(accuracies)
        mean = f"**{statistics.fmean(accuracies):.4f}**, standard error {error:.4f}"
        rows.append([f"mean of {len(trials)} seeds", mean, "", ""])
    if reported:
        best = max(reported, key=lambda epoch: reported[epoch])
        rows.append(["the report, one run", f"**{reported[best]:.4f}**", "", str(best)])
    return rows


def _row(trial: FrozenTrial) -> list[str]:
    result = trial.user_attrs[store.RESULT]
    where = f"{result['epoch']} of {result['epochs']}"
    seed = f"seed {trial.params['seed']} (trial {trial.number})"
    return [seed, f"{result['accuracy']:.4f}", f"{result['macro_f1']:.4f}", where]
