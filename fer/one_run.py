"""Train one run in its folder: a line per epoch, then pictures, model card and ONNX file."""

import dataclasses
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer import command, onnx_file, runs
from fer.data import Faces
from fer.errors import UserError
from fer.pages import card, plots
from fer.signals import Signals
from fer.training.fit import Epoch, Run, fit
from fer.training.metrics import Score

SCORED = 3
"""Number of final epochs whose mean accuracy is the score, as in a study: the best is biased."""
PROBE = 64
"""Training images evaluated when there are no validation images, only to detect divergence."""
NORMAL = 1.959964
"""Half-width of a 95% interval in standard errors."""


class Diverged(UserError):
    """The loss of a run is not finite."""


@dataclass(frozen=True)
class Finished:
    """A completed run. `score` is that of the last `scored` epochs, with its interval over the
    validation images; None without validation."""

    epochs: list[Epoch]
    score: Score | None
    scored: int


def finish(
    run: Run,
    validation: Faces | None,
    folder: Path,
    plan: runs.Plan,
    signals: Signals,
    onnx: bool,
) -> Finished | None:
    """Train or resume a run in its folder to completion; return None if a signal stopped it.

    Raises Diverged if the loss is not finite, UserError if a file cannot be written.
    """
    epochs = _epochs(run, validation, folder, signals)
    if len(epochs) < run.config.epochs:
        print(f"stopped     after epoch {len(epochs)}; run the same command to continue")
        return None
    score = None if validation is None else score_of(epochs)
    done = Finished(epochs, score, min(SCORED, len(epochs)))
    plots.save_curves(epochs, folder / "curves.png")
    if validation is not None:
        last = epochs[-1]
        title = f"validation, epoch {last.number}: accuracy {last.accuracy:.4f}"
        plots.save_confusion(last.confusion, validation.classes, title, folder / "confusion.png")
    if onnx:
        onnx_file.write(folder)
    card.write(folder, plan, run, validation, done.score, done.scored, epochs[-1], onnx)
    _say(done, folder, onnx)
    runs.finish(folder)
    return done


def score_of(epochs: list[Epoch]) -> Score:
    """Return the mean accuracy of the last epochs and its 95% interval over images.

    The interval is a normal approximation from how often each image was correct, and does not
    include the noise between seeds.
    """
    scored = epochs[-SCORED:]
    count = int(scored[-1].confusion.sum())
    right = np.mean(
        [np.unpackbits(np.frombuffer(epoch.right, np.uint8))[:count] for epoch in scored], axis=0
    )
    mean = statistics.fmean(epoch.accuracy for epoch in scored)
    width = NORMAL * float(right.std(ddof=1)) / math.sqrt(count) if count > 1 else 1.0
    return Score(mean, max(0.0, mean - width), min(1.0, mean + width))


def _epochs(run: Run, validation: Faces | None, folder: Path, signals: Signals) -> list[Epoch]:
    """Train and print the epochs of a run; return all, or those so far after a signal."""
    whole = validation is None
    epochs = runs.go_on(folder, run, whole)
    if epochs:
        print(f"resumed     after epoch {epochs[-1].number} of an interrupted run")
    told = ""
    best = max((epoch.accuracy for epoch in epochs), default=-1.0)
    signals.gently()
    probe = run.train.take(np.arange(min(PROBE, len(run.train))))
    for epoch in fit(run, probe if validation is None else validation):
        diverged = epoch.diverged
        epochs.append(_without_validation(epoch) if whole else epoch)
        if run.launcher.refused != told:
            told = run.launcher.refused
            print(f"note        steps run eagerly: {told}")
        if not diverged:
            if epoch.number == run.config.epochs:
                runs.save_weights(folder, run.net, epoch.number)
            runs.keep(folder, run, epochs, whole)
        left = (run.config.epochs - epoch.number) * epoch.seconds
        print(
            f"epoch {epoch.number:3}/{run.config.epochs}  train loss {epoch.train_loss:.4f}  "
            f"{_told(epoch, epoch.accuracy > best, whole)}  "
            f"{epoch.seconds:.1f} s  left {left / 60:.1f} min",
            flush=True,
        )
        best = max(best, epoch.accuracy)
        if diverged:
            reason = (
                f"the loss is not finite after epoch {epoch.number}: "
                f"lr = {run.config.lr} is too high for {run.config.optimizer}"
            )
            runs.diverge(folder, epochs, reason, whole)
            raise Diverged(reason)
        if signals.soon:
            break
    return epochs


def _without_validation(epoch: Epoch) -> Epoch:
    """Clear the validation results of an epoch, which belong to the probe images."""
    return dataclasses.replace(
        epoch,
        loss=math.nan,
        accuracy=math.nan,
        macro_f1=math.nan,
        balanced_accuracy=math.nan,
        confusion=np.zeros_like(epoch.confusion),
        right=b"",
    )


def _told(epoch: Epoch, improved: bool, whole: bool) -> str:
    """Format the scores of an epoch, with a star for the best so far."""
    if whole:
        return f"train accuracy {epoch.train_accuracy:.4f}"
    return (
        f"loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}{'*' if improved else ' '} "
        f"macro-F1 {epoch.macro_f1:.4f}  balanced {epoch.balanced_accuracy:.4f}"
    )


def _say(done: Finished, folder: Path, onnx: bool) -> None:
    """Print the result of a run."""
    if done.score is None:
        print("score       none: there are no validation images")
    else:
        best = max(done.epochs, key=lambda epoch: epoch.accuracy)
        last = f"{done.scored} epoch{'s' if done.scored > 1 else ''}"
        print(
            f"score       {done.score.value:.4f}, the mean validation accuracy of the last "
            f"{last} (best: {best.accuracy:.4f} after epoch {best.number})"
        )
        print(
            f"            95% [{done.score.low:.4f}, {done.score.high:.4f}] over images; "
            "noise between seeds not included"
        )
    files = "weights of the last epoch, settings, metrics, pictures, model card"
    also = f", {onnx_file.FILE}" if onnx else ""
    print(f"saved       {command.printable(str(folder))}: {files}{also}")
