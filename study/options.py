"""Options shared by several commands, each defined and validated once."""

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fer.command import quoted
from fer.errors import UserError
from fer.files import check_folder

DEFAULT_URL = "sqlite:///studies.db"
STORAGE = "OPTUNA_STORAGE"
"""Environment variable that overrides the default, as for Optuna's own command."""
_DEFAULT = f"${STORAGE} or {DEFAULT_URL}"
START = "start  loading libraries, then the data"
"""Said at once by commands that train: these take seconds to load."""


def _resolved(storage: str) -> str:
    return (os.environ.get(STORAGE) or DEFAULT_URL) if storage == _DEFAULT else storage


def is_default(storage: str) -> bool:
    """Whether commands use this database in every shell without being given --storage."""
    return storage == DEFAULT_URL and not os.environ.get(STORAGE)


def _named(name: str | None) -> str | None:
    if name is not None and not name.strip():
        raise ValueError("it must not be empty")
    return name


Count = Annotated[int, Field(ge=1)]
Name = Annotated[str | None, AfterValidator(_named)]


class Options(BaseModel):
    """Options of a command."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stored(Options):
    """Where studies are stored."""

    storage: Annotated[str, AfterValidator(_resolved), Field(validate_default=True)] = _DEFAULT
    """SQLAlchemy URL of the database that holds the studies."""


class Existing(Stored):
    """A stored study."""

    study: Name = None
    """Name of the study; by default the most recent one (the most recent search where a search
    is required)."""


class Place(Options):
    """Which data to use, and where to compute."""

    data: Path | None = None
    """FER-2013 in any supported format; by default FER_DATA, ./data, or the demo faces."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on."""


class Pipelined(Options):
    """What to train."""

    pipeline: str | None = None
    """Pipeline to train instead of FER-2013's, as module:object; see examples/digits.py."""

    def refuse(self, *names: str) -> None:
        """Raise UserError if one of these options was given together with --pipeline."""
        for name in names if self.pipeline else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise UserError(
                    f"--{name.replace('_', '-')} applies to FER-2013 only; "
                    f"--pipeline is {self.pipeline}"
                )


class Images(Place):
    """Data and precision of FER-2013's pipeline."""

    subset: Count | None = None
    """Train and validate on this many images, stratified."""
    split: Literal["grouped", "stratified", "file-order"] = "grouped"
    """grouped keeps identical images on one side; stratified is the report's; file-order is
    stratified over the rows in file order, the report's exact split on its train.csv."""
    split_seed: int = 42
    """Seed of the split; 42 is the report's."""
    holdout: Annotated[float | None, Field(gt=0, le=0.5)] = None
    """Share of the training images to hold out. They are used neither for training nor for
    selection, and show at the end how much the selection overfits the validation images."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the convolutions; auto is bfloat16 where the device supports it."""


class PictureFolder(Options):
    """Where a comparison is drawn."""

    out: Path | None = None
    """Folder to write a picture of each comparison to; created if it is missing, and existing
    pictures are replaced."""

    @model_validator(mode="after")
    def _a_folder(self) -> Self:
        check_folder("--out", self.out)
        return self


class Running(Stored):
    """How trials are run."""

    ray: str | None = None
    """Train on a Ray cluster: auto, the one of this machine; local, a new one; host:port or
    ray://host:port. See docs/cluster.md."""
    epochs: Count | None = None
    """Epochs per trial; by default those of the settings (30), or 4 on the demo faces."""
    workers: Count | None = None
    """Number of concurrent trials (processes on CPU, streams on a GPU); chosen automatically by
    default."""
    timeout: Annotated[float | None, Field(gt=0)] = None
    """Stop this many seconds after the start of the command, once the current epochs have ended;
    run the same command to continue."""
    checkpoints: Path | None = None
    """Folder for checkpoints of interrupted trials; by default next to an SQLite database, else
    ./studies.checkpoints. Processes that work on one study should share it."""


class Search(Options):
    """How a search proposes settings and stops trials."""

    trials: Count | None = None
    """Total number of finished trials (complete, pruned or diverged) in the study, whichever
    process trains them; 100, or unlimited with --budget-epochs."""
    budget_epochs: Count | None = None
    """Total number of epochs that all trials of the study may train, in addition to or instead of
    --trials. No process starts a trial that would exceed it. Reused results count with their
    epochs."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How to propose settings."""
    pruner: Literal["median", "screen", "none"] = "median"
    """How to stop bad trials early. median stops trials that are below the median of the others by
    more than noise; screen stops every trial after a tenth of its epochs, but at least three (two
    if there are six or fewer). The best of the stopped trials are resumed at the end."""
    change_search: bool = False
    """Continue --study although it was started with another sampler or pruner. The change is
    recorded in the study."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the sampler and of every trial's training."""
    hand_made: bool = True
    """Start with the hand-made settings, the first of which is never pruned."""
    duplicates: Literal["reuse", "train"] = "reuse"
    """What to do with settings that a finished trial already had: reuse its result, or train them
    again."""

    @property
    def total(self) -> int | None:
        """Number of finished trials that ends the study; None if only its epochs are limited."""
        return 100 if self.trials is None and self.budget_epochs is None else self.trials


class Seeds(Running):
    """How to train the trials of a comparison."""

    seeds: Count = 3
    """Trials per value, with seeds 0, 1, 2, ..."""

    def unpruned(self, trials: int) -> Search:
        """Return a search of this many trials without pruning."""
        return Search(trials=trials, pruner="none")


def command_line(program: str, arguments: Sequence[str], hidden_url: str) -> str:
    """Return the command ready to paste, with the storage password hidden."""
    words = list(arguments)
    if not any(word.split("=")[0] == "--storage" for word in words) and hidden_url != DEFAULT_URL:
        words += ["--storage", hidden_url]  # of the environment, which another shell may lack
    for i, word in enumerate(words):
        if word == "--storage" and i + 1 < len(words):
            words[i + 1] = hidden_url
        elif word.startswith("--storage="):
            words[i] = f"--storage={hidden_url}"
    return f"python -m {program} {quoted(*words)}".rstrip()


def replaced(arguments: Sequence[str], **options: object) -> list[str]:
    """Return the arguments of a command with new values for some options, appended at the end.

    None removes an option.
    """
    kept, skip = [], False
    for word in arguments:
        name = word.split("=")[0].removeprefix("--").replace("-", "_")
        given = word.startswith("--") and name in options
        if not given and not skip:
            kept.append(word)
        skip = given and "=" not in word
    given_anew = {name: value for name, value in options.items() if value is not None}
    for name, value in given_anew.items():
        word = f"--{name.replace('_', '-')}"
        dashed = str(value).startswith("-")
        kept += [f"{word}={value}"] if dashed else [word, str(value)]
    return kept


def deadline(options: Running) -> float:
    """Return the monotonic time at which --timeout expires, counted from now."""
    return math.inf if options.timeout is None else time.monotonic() + options.timeout
