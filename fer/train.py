"""Train one model: `python -m fer.train --config best.yaml --out runs/final`."""

import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fer import command
from fer.config import PRESETS, Config, read_config
from fer.errors import UserError
from fer.origin import Images, Origin, compare_origin, read_origin, read_provenance
from fer.signals import Signals

SCORED = 3
"""Epochs whose mean accuracy is the score of a run, as in a study: a best epoch is a lucky one."""

if TYPE_CHECKING:
    from fer.data import Dataset, Faces
    from fer.training.fit import Epoch, Run


Preset = Literal["hand-tuned", "baseline", "reproduction", "reproduction-mirrored"]


@dataclass(frozen=True)
class Source:
    """Where the settings come from before the overrides."""

    config: Path | None = None
    """YAML file of settings, for example best.yaml of study.export."""
    preset: Preset | None = None
    """The report's final settings (the default), its starting point, or the final settings as its
    code trains them, with copies scaled twice, and (mirrored) validates them."""


@dataclass(frozen=True)
class Options(Source):
    """Train one model. Every hyperparameter can be overridden on the command line.

    The same command goes on with a run that was interrupted, from its last epoch.
    """

    out: Path = Path("runs/final")
    """New folder for weights, settings, metrics and pictures, or that of an interrupted run."""
    data: Path | None = None
    """FER-2013 in any known form; else FER_DATA, ./data, or demo faces."""
    remove: tuple[str, ...] = ()
    """Classes to leave out."""
    subset: int | None = None
    """Train and validate on this many images, stratified."""
    split: Literal["grouped", "stratified", "file-order"] = "grouped"
    """grouped keeps identical images on one side; stratified is the report's; file-order is that
    over the rows as they stand in the file, on the report's train.csv its very split."""
    split_seed: int = 42
    """Seed of the split; 42 is the report's."""
    holdout: float | None = None
    """Leave out the share of the images that a study held out with this option."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    settings: Annotated[Config, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff] = field(
        default_factory=Config
    )

    def __post_init__(self) -> None:
        if self.holdout is not None and not 0 < self.holdout <= 0.5:
            raise UserError(f"--holdout must be above 0 and at most 0.5, got {self.holdout}")


def main() -> None:
    source: Source = command.parse(Source, "fer.train", only_known=True)
    if source.config and source.preset:
        raise UserError("give --config or --preset, not both")
    settings = PRESETS[source.preset or "hand-tuned"]
    origin: Origin | None = None
    if source.config:
        settings = read_config(source.config)
        origin = read_origin(source.config, settings)
    options: Options = command.parse(
        Options,
        "fer.train",
        default=Options(config=source.config, preset=source.preset, settings=settings),
    )
    train(options, origin)


def train(options: Options, origin: Origin | None) -> None:
    """Train as `options` say; `origin` is where the settings of --config come from."""
    # Imported here, so that --help and errors in the options do not wait for PyTorch.
    import torch

    from fer import data, runs
    from fer.network.kernels import kernels_for
    from fer.network.model import parameter_count
    from fer.training.device import choose, in_words, settle
    from fer.training.fit import Run
    from fer.training.memory import reuse_memory

    reuse_memory()
    device = choose(options.device)
    settings = settle(options.settings, device)
    torch.set_num_threads(settings.threads)
    whole = data.find(options.data)
    dataset = data.arranged(whole, options.remove, options.split)
    provenance: dict[str, Any] = {}
    if options.config and origin:
        provenance = read_provenance(options.config)
        say_origin(options, origin, whole, kernels_for(device).name)
    faces = data.draw_subset(dataset.part("Training"), options.subset)
    if options.holdout is not None:
        out = data.held_out(faces, options.holdout, options.split, options.split_seed)
        faces = faces.take((~out).nonzero()[0])
    training, validation = data.split(faces, options.split, seed=options.split_seed)
    run = Run(settings, training, device)
    on = runs.TrainedOn(
        *(dataset.name, dataset.sha256, dataset.classes),
        *(options.split, options.subset, options.split_seed),
        holdout=options.holdout,
    )
    runs.new_run(options.out, settings, on, provenance)

    print(
        f"data        {dataset.name}, {len(dataset.classes)} classes, sha256 {dataset.sha256[:12]}"
    )
    print(f"classes     {faces.counts_in_words()}")
    added = f", {len(run.train)} after oversampling {settings.oversample}"
    print(f"training    {len(training)} images{added if len(run.train) > len(training) else ''}")
    words = data.split_in_words(options.split, options.split_seed)
    print(f"validation  {len(validation)} images ({words})")
    print(f"parameters  {parameter_count(run.net)}")
    print(f"device      {in_words(device, settings)}", flush=True)

    with Signals(counted=1) as signals, runs.alone(options.out):
        runs.new_run(options.out, settings, on, provenance)  # another may have finished it since
        epochs = fit_in_folder(run, validation, options.out, signals)
        if len(epochs) < settings.epochs:
            print(f"stopped     after epoch {len(epochs)}; the same command continues")
            sys.exit(signals.exit_code)
        conclude(epochs, dataset.classes, options)
        runs.finish(options.out)


def say_origin(options: Options, origin: Origin, whole: "Dataset", kernels: str) -> None:
    """Say what is otherwise here than where the settings come from. Raises UserError for other
    data that nobody chose."""
    assert options.config
    now = Images(
        options.remove, options.subset, options.split, options.split_seed, options.holdout
    )
    epochs, chosen = options.settings.epochs, options.data is not None
    if line := compare_origin(options.config, origin, whole, now, epochs, chosen):
        print(f"note        {line}")
    if origin.kernels not in (None, kernels):
        found = f"{options.config} was found with {origin.kernels} kernels"
        print(
            f"note        {command.printable(found)}, here {kernels} ones serve: "
            "sums round differently"
        )


def conclude(epochs: "list[Epoch]", classes: tuple[str, ...], options: Options) -> None:
    """Draw what was trained, and say what it came to and what is next."""
    from fer.pages import plots

    best, last = max(epochs, key=lambda epoch: epoch.accuracy), epochs[-1]
    plots.save_curves(epochs, options.out / "curves.png")
    title = f"validation, epoch {last.number}: accuracy {last.accuracy:.4f}"
    plots.save_confusion(last.confusion, classes, title, options.out / "confusion.png")
    scored = [epoch.accuracy for epoch in epochs[-SCORED:]]
    print(
        f"score       {statistics.fmean(scored):.4f}, the mean validation accuracy of the last "
        f"{len(scored)} epochs (best: {best.accuracy:.4f} after epoch {best.number})"
    )
    out = command.printable(str(options.out))
    print(f"saved       {out}: weights of the last epoch, settings, metrics, pictures")
    data = f" {command.given('data', options.data)}" if options.data else ""
    print(f"next        python -m fer.evaluate {command.operand(options.out)}{data}")


def fit_in_folder(run: "Run", validation: "Faces", out: Path, signals: Signals) -> "list[Epoch]":
    """Train a run, or go on with it, keeping its state and its last weights in the folder `out`.

    All its epochs, a line printed for each new one, with a star for the best so far; after a
    signal those until then. Raises UserError if the loss diverges.
    """
    from fer import runs
    from fer.training.fit import fit

    settings = run.config
    epochs = runs.go_on(out, run)
    if epochs:
        print(f"goes on     after epoch {epochs[-1].number} of an interrupted run")
    told = ""
    best = max((epoch.accuracy for epoch in epochs), default=-1.0)
    signals.gently()
    for epoch in fit(run, validation):
        epochs.append(epoch)
        if run.launcher.refused != told:
            told = run.launcher.refused
            print(f"note        every step is called: {told}")
        improved = epoch.accuracy > best
        if improved:
            best = epoch.accuracy
        if epoch.number == settings.epochs:
            runs.save_weights(out, run.net, epoch.number)
        runs.keep(out, run, epochs)
        left = (settings.epochs - epoch.number) * epoch.seconds
        print(
            f"epoch {epoch.number:3}/{settings.epochs}  "
            f"train loss {epoch.train_loss:.4f}  loss {epoch.loss:.4f}  "
            f"accuracy {epoch.accuracy:.4f}{'*' if improved else ' '} "
            f"macro-F1 {epoch.macro_f1:.4f}  balanced {epoch.balanced_accuracy:.4f}  "
            f"{epoch.seconds:.1f} s  left {left / 60:.1f} min",
            flush=True,
        )
        if epoch.diverged:
            runs.finish(out)
            raise UserError(
                f"the loss is no finite number after epoch {epoch.number}: "
                f"lr = {settings.lr} is too high for {settings.optimizer}"
            )
        if signals.soon:
            break
    return epochs


if __name__ == "__main__":
    command.run(main, lasting=True)
