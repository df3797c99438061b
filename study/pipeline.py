"""The interface between a study and what it trains.

A pipeline is any object with the members of `Pipeline`; there is nothing to inherit or register.
Copy `examples/digits.py` to start one.
"""

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from fer.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Settings = Mapping[str, Any]
"""Settings of a trial by name; each is a str, int, float or bool."""
Device = str
"""Where a worker process computes, such as "cpu" or "cuda:0"."""


@dataclass(frozen=True)
class Only:
    """A conditional parameter: it sets `setting` in trials where `of` equals `value`.

    For example, each optimizer can have its own range of learning rates, which the sampler must
    treat as separate parameters:
    `{"sgd_lr": Only("optimizer", "sgd", "lr", FloatDistribution(1e-3, 1.0, log=True))}`.
    """

    of: str
    value: Any
    setting: str
    distribution: "BaseDistribution"

    def applies(self, settings: Settings) -> bool:
        """Whether a trial with these settings has the parameter."""
        return bool(settings.get(self.of) == self.value)


Space: TypeAlias = "Mapping[str, BaseDistribution | Only]"
"""Optuna distributions by parameter name. A parameter that is not an `Only` sets the setting of
the same name."""


class Scored(Protocol):
    """Result of an epoch: `Epoch`, or any object with these members.

    The other members of `Epoch` are optional.
    """

    @property
    def number(self) -> int:
        """Number of the epoch, from 1."""
        ...

    @property
    def score(self) -> float:
        """Validation score; higher is better. NaN ends the trial as diverged."""
        ...

    @property
    def values(self) -> Mapping[str, float]:
        """Other values to store and display, by name. NaN or infinity also ends the trial."""
        ...

    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Mistake:
    """A misclassified validation case."""

    case: int  # index in the order of `Epoch.right`
    truth: int  # index of the true class
    said: int  # index of the predicted class
    sure: float  # confidence, 0..1


@dataclass(frozen=True)
class Epoch:
    """Result of an epoch in plain types. See `Scored` for the required members."""

    number: int
    score: float
    values: Mapping[str, float]
    seconds: float
    right: bytes = b""
    """`numpy.packbits` of which validation cases were classified correctly, in an order shared by
    all epochs of all trials; empty if the pipeline does not report it."""
    holdout: float = math.nan
    """Score on the holdout, used neither for training nor for selection. Reported in the last
    epochs, else NaN."""
    confusion: Sequence[Sequence[int]] = ()
    """Confusion matrix of the validation cases (rows: true, columns: predicted class); empty if
    not reported."""
    mistakes: Sequence[Mistake] = ()
    """The most confident mistakes of the last epoch."""


@runtime_checkable
class Mark(Protocol):
    """A point in the device's work queue that the trial waits for, such as a CUDA event."""

    def query(self) -> bool:
        """Whether the device has reached it."""
        ...


class Expense(Protocol):
    """Cost of a trial: `Cost`, or any object with these members."""

    @property
    def seconds(self) -> float:
        """Rough seconds per epoch. Decides the order in which results are processed, so it must
        not depend on a clock, or the study would not repeat."""
        ...

    @property
    def memory(self) -> float:
        """Bytes of device memory."""
        ...

    @property
    def load(self) -> float:
        """Share of the time for which the trial, running alone, keeps the device busy, 0..1."""
        ...


@dataclass(frozen=True)
class Cost:
    """Cost of a trial in plain types. See `Expense` for the members."""

    seconds: float
    memory: float = 0.0
    load: float = 0.0


class Session(Protocol):
    """A pipeline opened in a worker process, with its data on the device."""

    @property
    def memory(self) -> int | None:
        """Bytes of device memory free for trials; None for no limit."""
        ...

    def pace(self, examples: Sequence[Settings], at_once: int) -> float | None:
        """Return the mean seconds per epoch while `at_once` trials run, measured on `examples`.

        None if not measured: the remaining time is then known after the first epochs.
        """
        ...

    def train(
        self, settings: Settings, state: Path, key: str
    ) -> Iterator[Scored | Sequence[Scored] | Mark | str]:
        """Train a trial and yield every epoch up to `settings["epochs"]`.

        Draw all randomness from generators seeded with `settings["seed"]`. Closing the iterator
        stops the trial. In addition to epochs it may yield

        - a list of epochs, first: those restored from the checkpoint in the file `state`. A
          checkpoint saved under another `key` belongs to another trial and must not be used.
        - a Mark: the iterator is resumed once the device has reached it.
        - a str: a note to display to the user.

        An exception ends this trial only; MemoryError means that it ran out of memory. A
        BaseException that is not an Exception (such as SystemExit) ends the worker process, which
        is then replaced.
        """
        ...


class Pipeline(Protocol):
    """What a study needs to know about what it trains. Must be picklable."""

    @property
    def name(self) -> str:
        """Prefix for the names of its studies."""
        ...

    @property
    def metric(self) -> str:
        """What the score is, such as "validation accuracy"."""
        ...

    @property
    def about(self) -> str:
        """What it trains on, for the plan: "120 training and 30 validation images of demo"."""
        ...

    @property
    def validation(self) -> int:
        """Number of validation cases if the score is a share of them, else 0."""
        ...

    @property
    def epochs(self) -> int:
        """Default number of epochs per trial."""
        ...

    @property
    def base(self) -> Settings:
        """Default settings: everything the space does not vary, and the values `study.confirm`
        uses for settings that only some trials have."""
        ...

    @property
    def space(self) -> Space:
        """The search space."""
        ...

    @property
    def presets(self) -> Mapping[str, Settings]:
        """Settings by name that a search tries first if they lie in its space: the control, then
        others.

        The control is never pruned because the search is compared with it.
        """
        ...

    @property
    def curves_by(self) -> Sequence[str]:
        """Settings that shape the learning curve, such as a schedule. A pruner compares only
        trials that agree in these."""
        ...

    @property
    def devices(self) -> Sequence[Device]:
        """The GPUs to use, or "cpu", which gets one worker process per core."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Return what results depend on apart from the settings: data, code, versions, as JSON.

        A study cannot be continued if one of these differs. `versions` is a dictionary by
        package. If `code` is missing, it is set to a hash of the module that defines the
        pipeline's class and of the neighbouring modules it imports, or, in a script or notebook,
        of the functions, classes and plain values the class uses. Include any attribute of the
        pipeline that affects results.
        """
        ...

    def cost(self, settings: Settings) -> Expense:
        """Return the cost of a trial, used for ordering and admission only."""
        ...

    def open(self, device: Device) -> Session:
        """Load the data onto a device. Called once in each worker process."""
        ...


MEMBERS = tuple(name for name in vars(Pipeline) if not name.startswith("_"))


def split_name(name: str) -> tuple[str, str]:
    """Split "module:object" into module and object. Raise UserError for any other form."""
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise UserError(f"--pipeline must be module:object, got {name!r}")
    return module, attribute


def load_pipeline(name: str) -> Pipeline:
    """Load the pipeline "module:object". Raise UserError if it does not exist or is not one."""
    module_name, attribute = split_name(name)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or ""
        if missing and not f"{module_name}.".startswith(f"{missing}."):
            raise  # the module exists but fails to import another: show the traceback
        raise UserError(f"--pipeline {name}: no module {module_name!r} can be imported") from None
    pipeline: Pipeline | None = getattr(module, attribute, None)
    if pipeline is None:
        raise UserError(f"--pipeline {name}: {module_name} has no {attribute!r}")
    check_members(pipeline, f"--pipeline {name}")
    return pipeline


def check_members(pipeline: Pipeline, place: str) -> None:
    """Raise UserError naming the missing members if an object is not a pipeline."""
    lacking = [member for member in MEMBERS if not hasattr(pipeline, member)]
    if lacking:
        raise UserError(f"{place}: the pipeline lacks {', '.join(lacking)}")
    if not pipeline.devices:
        raise UserError(f"{place}: the pipeline has no devices on this machine")
