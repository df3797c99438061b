"""Train one model, or one for each of several seeds: `python -m fer.train --config best.yaml`."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fer import command, onnx_file
from fer.config import PRESETS, Config, read_config
from fer.errors import UserError
from fer.origin import Images, Origin, compare_origin, read_origin, read_provenance
from fer.output import say
from fer.signals import Signals

if TYPE_CHECKING:
    import torch

    from fer.data import Dataset, Faces
    from fer.runs import Plan
    from fer.training.fit import Run


HANG = 12  # columns of the words at the left

Preset = Literal[*PRESETS]  # type: ignore[valid-type]


NOTICES = (
    "stopping after this epoch; Ctrl-C again stops now and loses it",
    "stopped; run the same command to continue from the last whole epoch",
)


@dataclass(frozen=True)
class Source:
    """Source of the settings, before overrides."""

    config: Path | None = None
    """YAML file of settings, for example best.yaml from study.export."""
    preset: Preset | None = None
    """The report's final settings (hand-tuned, the default), its starting point (baseline), the
    final ones with oversampled copies scaled twice, as in its code (reproduction), or also with
    validation images mirrored (reproduction-mirrored)."""


@dataclass(frozen=True)
class Length:
    """Whether --epochs is given on the command line."""

    epochs: int | None = None


@dataclass(frozen=True)
class Options(Source):
    """Train a model. Every hyperparameter can be overridden on the command line.

    Run the same command again to resume an interrupted run from its last epoch.
    """

    out: Path = Path("runs/final")
    """Folder to write weights, settings, metrics, pictures, a model card and an ONNX file to; it
    must be new, or that of an interrupted run."""
    seeds: int | None = None
    """Train this many models, with seeds starting at --seed, each in its own folder in --out, and
    report mean and spread. No model is selected by its score; seeds that diverge are left out."""
    whole: bool = False
    """Also train on the validation images, so there is no score. Without --epochs and with a
    constant learning rate, train for the number of epochs that was best where --config was found.
    With a falling learning rate all epochs are trained, because the last ones are best."""
    onnx: bool = field(default_factory=onnx_file.installed)
    """Also write model.onnx, checked against PyTorch; by default if the extra [onnx] is installed.
    fer.export_onnx can write it later."""
    data: Path | None = None
    """FER-2013 in any supported format; by default FER_DATA, ./data, or the demo faces."""
    remove: tuple[str, ...] = ()
    """Classes to leave out."""
    subset: int | None = None
    """Train and validate on this many images, stratified."""
    split: Literal["grouped", "stratified", "file-order"] = "grouped"
    """grouped keeps identical images on one side; stratified is the report's; file-order is
    stratified over the rows in file order, the report's exact split on its train.csv."""
    split_seed: int = 42
    """Seed of the split; 42 is the report's."""
    holdout: float | None = None
    """Leave out the share of images that a study held out with this option."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on."""
    settings: Annotated[Config, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff] = field(
        default_factory=Config
    )

    def __post_init__(self) -> None:
        if self.holdout is not None and not 0 < self.holdout <= 0.5:
            raise UserError(f"--holdout must be above 0 and at most 0.5, got {self.holdout}")
        if self.seeds is not None and self.seeds < 1:
            raise UserError(f"--seeds must be at least 1, got {self.seeds}")

    def configs(self) -> "dict[Path, Config]":
        """Return the settings of each model by folder. Raise UserError if a seed is out of
        range."""
        if self.seeds is None:
            return {self.out: self.settings}
        seeds = range(self.settings.seed, self.settings.seed + self.seeds)
        if seeds[-1] >= 2**31:
            raise UserError(f"seeds must be below {2**31}, --seed and --seeds give {seeds[-1]}")
        return {
            self.out / f"seed-{seed}": self.settings.model_copy(update={"seed": seed})
            for seed in seeds
        }


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
    if options.onnx:
        onnx_file.require()
    if options.whole:
        given: Length = command.parse(Length, "fer.train", only_known=True)
        if given.epochs is None and origin is not None:
            options = replace(options, settings=best_length(options.settings, origin))
    train(options, origin)


def best_length(settings: Config, origin: Origin) -> Config:
    """Return the settings with the number of epochs that was best at their origin.

    Unchanged if that is unknown, was found with another number of epochs, or does not apply
    because the learning rate is not constant.
    """
    if origin.best_epoch is None or settings.schedule != "constant":
        return settings
    if origin.epochs != settings.epochs:
        say(
            f"epochs      {settings.epochs}: the best number is known only for trials of "
            f"{origin.epochs} epochs ({origin.best_epoch}; set it with --epochs)",
            HANG,
        )
        return settings
    say(
        f"epochs      {origin.best_epoch} of {settings.epochs}: the number that was best on "
        "validation (--epochs overrides it)",
        HANG,
    )
    return settings.model_copy(update={"epochs": origin.best_epoch})


@dataclass(frozen=True)
class Prepared:
    """Training images, validation images unless all are trained on, and plans by folder."""

    dataset: "Dataset"
    training: "Faces"
    validation: "Faces | None"
    plans: "dict[Path, Plan]"


def train(options: Options, origin: Origin | None) -> None:
    """Train according to `options`; `origin` is where the settings of --config come from."""
    # Imported here so that --help and option errors do not wait for PyTorch.
    say("start       loading libraries, then the data")
    from fer import one_run, runs, seeds
    from fer.training.device import choose
    from fer.training.fit import Run
    from fer.training.memory import reuse_memory

    reuse_memory()
    device = choose(options.device)
    prepared = prepare(options, origin, device)
    stages = {folder: runs.stage_of(folder, plan) for folder, plan in prepared.plans.items()}
    trained = [folder for folder in stages if stages[folder] is not runs.Stage.DIVERGED]
    past = {runs.Stage.FINISHED: "is finished", runs.Stage.DIVERGED: "has diverged"}
    if options.seeds is not None:
        seeds.check_folder(options.out, prepared.plans)
    started = False
    with Signals(counted=1, notices=NOTICES) as signals:
        for folder, plan in prepared.plans.items():
            stage, seed = stages[folder], plan.config.seed
            if options.seeds is not None and stage in past:
                print(f"seed {seed:<7}{past[stage]}")
                continue
            if signals.soon:
                print(f"stopped     before seed {seed}; run the same command to continue")
                sys.exit(signals.exit_code)
            run = Run(plan.config, prepared.training, device)
            runs.new_run(folder, plan)
            if not started:
                say_start(options, prepared, run)
                started = True
            if options.seeds is not None:
                print(f"\nseed        {seed}", flush=True)
            try:
                with runs.alone(folder):
                    runs.new_run(folder, plan)  # another process may have finished it since
                    done = one_run.finish(
                        run, prepared.validation, folder, plan, signals, options.onnx
                    )
            except one_run.Diverged as error:
                if options.seeds is None:
                    raise
                print(f"diverged    {error}", flush=True)
                trained.remove(folder)
                continue
            if not done:
                sys.exit(signals.exit_code)
    if options.seeds is not None:
        seeds.report(options.out, prepared.plans, trained)
    data = f" {command.given('data', options.data)}" if options.data else ""
    print(f"next        python -m fer.evaluate {command.operand(trained[0])}{data}")


def prepare(options: Options, origin: Origin | None, device: "torch.device") -> Prepared:
    """Read and split the images, and settle the settings for the device. May raise UserError."""
    import torch

    from fer import data, runs
    from fer.network.kernels import kernels_for
    from fer.training.device import settle

    configs = {folder: settle(each, device) for folder, each in options.configs().items()}
    threads = next(iter(configs.values())).threads
    torch.set_num_threads(threads)
    whole = data.find(options.data)
    dataset = data.arranged(whole, options.remove, options.split)
    provenance: dict[str, Any] = {}
    if options.config and origin:
        provenance = read_provenance(options.config)
        say_origin(options, origin, whole, kernels_for(device).name, threads)
    on = runs.TrainedOn(
        *(dataset.name, dataset.sha256, dataset.classes),
        *(options.split, options.subset, options.split_seed),
        holdout=options.holdout,
        whole=options.whole,
    )
    plans = {folder: runs.Plan(each, on, provenance) for folder, each in configs.items()}
    return Prepared(dataset, *on.sides(dataset), plans)


def say_start(options: Options, prepared: Prepared, run: "Run") -> None:
    """Print what is trained, and on which images."""
    from fer import data
    from fer.network.model import parameter_count
    from fer.training.device import in_words

    dataset, training, validation = prepared.dataset, prepared.training, prepared.validation
    say(
        f"data        {dataset.name}, {len(dataset.classes)} classes, sha256 {dataset.sha256[:12]}"
    )
    sides = [training.counts(), validation.counts() if validation else {}]
    counts = (f"{name} {sum(each.get(name, 0) for each in sides)}" for name in dataset.classes)
    say(f"classes     {', '.join(counts)}", HANG)
    oversample = run.config.oversample
    added = f", {len(run.train)} after oversampling {oversample}"
    print(f"training    {len(training)} images{added if len(run.train) > len(training) else ''}")
    if validation is None:
        print("validation  none: its images are trained on too (--whole)")
    else:
        words = data.split_in_words(options.split, options.split_seed)
        print(f"validation  {len(validation)} images ({words})")
    print(f"parameters  {parameter_count(run.net)}")
    say(f"device      {in_words(run.device, run.config)}", HANG)


def say_origin(
    options: Options, origin: Origin, whole: "Dataset", kernels: str, threads: int
) -> None:
    """Print how this training differs from the origin of the settings.

    Raises UserError if the data differs and --data was not given.
    """
    assert options.config
    now = Images(
        *(options.remove, options.subset, options.split, options.split_seed),
        holdout=options.holdout,
        whole=options.whole,
    )
    epochs, chosen = options.settings.epochs, options.data is not None
    if line := compare_origin(options.config, origin, whole, now, epochs, chosen):
        say(f"note        {line}", HANG)
    file = command.printable(str(options.config))
    rounds = "sums round differently"
    if origin.kernels not in (None, kernels):
        then = f"{command.printable(str(origin.kernels))} kernels"
        say(
            f"note        {file} was found with {then}, here {kernels} ones are used: {rounds}",
            HANG,
        )
    if origin.threads not in (None, threads):
        say(
            f"note        {file} was found with --threads {origin.threads}, here it is {threads}: "
            f"{rounds}",
            HANG,
        )


if __name__ == "__main__":
    command.run(main, lasting=True)
