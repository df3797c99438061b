"""Plots of a run: learning curves and confusion matrix."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fer.files import write_figure
from fer.training.fit import Epoch
from fer.training.metrics import Counts


def save_curves(epochs: list[Epoch], path: Path) -> None:
    """Plot training and, if any, validation loss and accuracy by epoch (report, figure 5c)."""
    numbers = [epoch.number for epoch in epochs]
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    marker = "o" if len(epochs) < 3 else ""
    loss.plot(numbers, [epoch.train_loss for epoch in epochs], marker=marker, label="training")
    accuracy.plot(numbers, [epoch.train_accuracy for epoch in epochs], marker=marker)
    if epochs[-1].confusion.any():
        best = max(epochs, key=lambda epoch: epoch.accuracy)
        loss.plot(numbers, [epoch.loss for epoch in epochs], marker=marker, label="validation")
        accuracy.plot(numbers, [epoch.accuracy for epoch in epochs], marker=marker)
        accuracy.plot(best.number, best.accuracy, "k*", markersize=10)
        accuracy.set_title(f"best validation accuracy {best.accuracy:.4f} (epoch {best.number})")
    for axes, label in ((loss, "cross entropy"), (accuracy, "accuracy")):
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    loss.legend()
    write_figure(figure, path)


def save_confusion(confusion: Counts, classes: tuple[str, ...], title: str, path: Path) -> None:
    """Plot a confusion matrix, coloured by the share of the true class."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*confusion.shape):
        axes.text(
            column,
            row,
            str(confusion[row, column]),
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
        )
    ticks = range(len(classes))
    axes.set(title=title, xlabel="predicted", ylabel="true")
    axes.set_xticks(ticks, classes, rotation=35)
    axes.set_yticks(ticks, classes)
    figure.colorbar(image, label="share of the true class")
    write_figure(figure, path)
