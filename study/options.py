"""Options that several commands share, each written and checked once."""

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fer.command import quoted
from fer.errors import UserError

DEFAULT_URL = "sqlite:///studies.db"
STORAGE = "OPTUNA_STORAGE"
"""The environment variable that names another default, as for Optuna's own command."""
_DEFAULT = f"${STORAGE} or {DEFAULT_URL}"


def _resolved(storage: str) -> str:
    return (os.environ.get(STORAGE) or DEFAULT_URL) if storage == _DEFAULT else storage


def is_default(storage: str) -> bool:
    """Whether a command uses that database in every shell without being told."""
    return storage == DEFAULT_URL and not os.environ.get(STORAGE)


def _named(name: str | None) -> str | None:
    if name is not None and not name.strip():
        raise ValueError("it must not be empty")
    return name


Count = Annotated[int, Field(ge=1)]
Name = Annotated[str | None, AfterValidator(_named)]


class Options(BaseModel):
    """What a command was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stored(Options):
    """Where studies are."""

    storage: Annotated[str, AfterValidator(_resolved), Field(validate_default=True)] = _DEFAULT
    """SQLAlchemy URL of the database of studies."""


class Existing(Stored):
    """A study that is stored."""

    study: Name = None
    """Name of the study; by default the one that was worked on last, where a search is needed the
    last search."""


class Place(Options):
    """Which data, and where to compute."""

    data: Path | None = None
    """FER-2013 in any known form; else FER_DATA, ./data, or demo faces."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""


class Pipelined(Options):
    """What is trained."""

    pipeline: str | None = None
    """What is trained instead of FER-2013's network: module:object, see examples/digits.py."""

    def refuse(self, *names: str) -> None:
        """Raise UserError if one of these options was given beside another pipeline."""
        for name in names if self.pipeline else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise UserError(
                    f"--{name.replace('_', '-')} is an option of FER-2013; "
                    f"--pipeline is {self.pipeline}"
                )


class Images(Place):
    """What FER-2013's pipeline trains on, and how it computes."""

    subset: Count | None = None
    """Train and validate on this many images, stratified."""
    split: Literal["grouped", "stratified", "file-order"] = "grouped"
    """grouped keeps identical images on one side; stratified is the report's; file-order is that
    over the rows as they stand in the file, on the report's train.csv its very split."""
    split_seed: int = 42
    """Seed of the split; 42 is the report's."""
    holdout: Annotated[float | None, Field(gt=0, le=0.5)] = None
    """Share of the training images to hold out: neither trained on nor chosen by, they tell at the
    end how much the choice overfits the validation images."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto is bfloat16 where the device has it."""


class Running(Stored):
    """How trials are run."""

    ray: str | None = None
    """Train on a Ray cluster: auto, the one of this machine; local, a new one; host:port or
    ray://host:port. See docs/cluster.md."""
    epochs: Count | None = None
    """Epochs of a trial; by default those of the settings (30), and 4 on the demo faces."""
    workers: Count | None = None
    """Trials at once: processes on a processor, streams on a GPU; by default what serves best."""
    timeout: Annotated[float | None, Field(gt=0)] = None
    """Stop this many seconds after the start of the command, once the epochs that run have ended;
    the same command continues later."""
    checkpoints: Path | None = None
    """Folder for the states of interrupted trials; by default beside an SQLite database, else
    ./studies.checkpoints. Processes on one study should share it."""


class Search(Options):
    """How a search proposes settings and stops trials."""

    trials: Count | None = None
    """The study's total of finished trials (complete or pruned), whatever process trains them;
    100, or without end under --budget-epochs."""
    budget_epochs: Count | None = None
    """The epochs that all trials of the study may train together, beside or instead of --trials:
    none begins that would go beyond. One that has the result of another counts its epochs."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How settings are proposed."""
    pruner: Literal["median", "screen", "none"] = "median"
    """How bad trials are stopped early: those behind the median of the others by more than noise,
    or all of them after a tenth of their epochs, but three at least, or two of six; the best of
    them are taken up again at the end."""
    change_search: bool = False
    """Go on with --study though it was begun with another sampler or pruner; noted in it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the sampler, and of every trial's training."""
    hand_made: bool = True
    """Begin with the settings that people found, the first of which is never pruned."""
    duplicates: Literal["reuse", "train"] = "reuse"
    """Settings that a finished trial had: reuse its result, or train them again."""

    @property
    def total(self) -> int | None:
        """Finished trials that end the study; None where only its epochs are limited."""
        return 100 if self.trials is None and self.budget_epochs is None else self.trials


class Seeds(Running):
    """How trials that are compared are trained."""

    seeds: Count = 3
    """Trials of each value, with seeds from 0 on."""

    def unpruned(self, trials: int) -> Search:
        """A study of so many trials, each trained to its end."""
        return Search(trials=trials, pruner="none")


def command_line(program: str, arguments: Sequence[str], hidden_url: str) -> str:
    """The command as a person can paste it, the storage's password hidden."""
    words = list(arguments)
    for i, word in enumerate(words):
        if word == "--storage" and i + 1 < len(words):
            words[i + 1] = hidden_url
        elif word.startswith("--storage="):
            words[i] = f"--storage={hidden_url}"
    return f"python -m {program} {quoted(*words)}".rstrip()


def replaced(arguments: Sequence[str], **options: object) -> list[str]:
    """Arguments of a command with other values of some options, at the end."""
    kept, skip = [], False
    for word in arguments:
        name = word.split("=")[0].removeprefix("--").replace("-", "_")
        given = word.startswith("--") and name in options
        if not given and not skip:
            kept.append(word)
        skip = given and "=" not in word
    for name, value in options.items():
        word = f"--{name.replace('_', '-')}"
        dashed = str(value).startswith("-")
        kept += [f"{word}={value}"] if dashed else [word, str(value)]
    return kept


def deadline(options: Running) -> float:
    """When the time is up, on the monotonic clock, counted from now."""
    return math.inf if options.timeout is None else time.monotonic() + options.timeout
