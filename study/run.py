"""Search: `python -m study.run --trials 100`. Run it again to finish or extend the study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fer import command
from fer.errors import UserError


@dataclass(frozen=True)
class Options:
    """Search hyperparameters of the emotion network, prune bad trials, store everything.

    The report's hand-made settings are the first trials of every study. Run the same command
    again to finish an interrupted study, in a second shell to help a running one, or with more
    --trials to extend it. Ctrl-C stops after the epochs that run, twice at once.
    """

    trials: int = 100
    """The study's total of finished trials (complete or pruned), whatever process trains them."""
    data: Path | None = None
    """FER-2013 in any known form; else FER_DATA, ./data, or demo faces."""
    study: str | None = None
    """Name of the study; by default one that tells data and settings apart."""
    storage: str = "sqlite:///studies.db"
    """SQLAlchemy URL of the database of studies."""
    space: Literal["default", "report", "extended"] = "default"
    """What is searched: the six main hyperparameters, all that the report varied by hand, or
    beyond it (schedules, augmentation, regularisation, widths)."""
    epochs: int | None = None
    """Epochs of a trial; by default 30, and 5 on the demo faces."""
    subset: int | None = None
    """Search on this many images, stratified."""
    remove: tuple[str, ...] = ()
    """Classes to leave out."""
    split: Literal["grouped", "stratified"] = "grouped"
    """grouped keeps identical images on one side; stratified is the report's."""
    workers: int | None = None
    """Trials at once: processes on a processor, streams on a GPU; by default what serves best."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto is bfloat16 where the device has it."""
    sampler: Literal["tpe", "gp", "qmc", "random"] = "tpe"
    """How settings are proposed."""
    pruner: Literal["median", "halving", "hyperband", "none"] = "median"
    """How bad trials are stopped early."""
    seed: int = 0
    """Seed of the sampler, and of every trial's training."""
    timeout: float | None = None
    """Stop this many seconds after the start of the command, once the epochs that run have ended;
    the same command continues later."""
    duplicates: Literal["reuse", "train"] = "reuse"
    """Settings that a finished trial had: reuse its result, or train them again."""
    checkpoints: Path | None = None
    """Folder for the states of interrupted trials; by default beside an SQLite database, else
    ./studies.checkpoints. Processes on one study should share it."""

    def __post_init__(self) -> None:
        for name, low in (
            ("trials", 1),
            ("epochs", 1),
            ("subset", 1),
            ("workers", 1),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"--{name} must be at least {low}, got {value}")
        if self.timeout is not None and not self.timeout > 0:
            raise UserError(f"--timeout must be more than 0 seconds, got {self.timeout}")
        if self.study is not None and not self.study.strip():
            raise UserError("--study must not be empty")


def main() -> None:
    options: Options = command.parse(Options, "study.run")
    # Imported here, so that --help and errors in the options do not wait for PyTorch.
    from study.search import search

    search(options)


if __name__ == "__main__":
    command.run(main)
