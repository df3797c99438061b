"""The seam between a study and whatever it trains.

A pipeline is any object with the members of `Pipeline`; nothing is inherited or registered.
`examples/digits.py` is one to copy.
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
"""The settings of a trial by name: str, int, float or bool each."""
Device = str
"""Where a worker process computes: "cpu", "cuda:0"."""


@dataclass(frozen=True)
class Only:
    """A parameter of some trials: it gives `setting` where `of` has the value `value`.

    So each optimizer can have a learning rate with a range of its own, which a sampler must know
    apart: `{"sgd_lr": Only("optimizer", "sgd", "lr", FloatDistribution(1e-3, 1.0, log=True))}`.
    """

    of: str
    value: Any
    setting: str
    distribution: "BaseDistribution"

    def applies(self, settings: Settings) -> bool:
        """Whether a trial with these settings has the parameter."""
        return bool(settings.get(self.of) == self.value)


Space: TypeAlias = "Mapping[str, BaseDistribution | Only]"
"""Parameters by name, Optuna's distributions. One that is no `Only` gives the setting of its own
name."""


class Scored(Protocol):
    """What an epoch gave. `Epoch` is one; any object with these members will do.

    It may also have what `Epoch` has beside these.
    """

    @property
    def number(self) -> int:
        """From 1."""
        ...

    @property
    def score(self) -> float:
        """Validation score, the higher the better. NaN ends the trial as diverged."""
        ...

    @property
    def values(self) -> Mapping[str, float]:
        """Whatever else is stored and shown, by name. NaN or infinity ends the trial as well."""
        ...

    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Mistake:
    """A validation case that was said wrongly."""

    case: int  # its place in the order of `Epoch.right`
    truth: int  # classes as numbers
    said: int
    sure: float  # 0..1


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave, in plain types. Members are those of `Scored`."""

    number: int
    score: float
    values: Mapping[str, float]
    seconds: float
    right: bytes = b""
    """`numpy.packbits` of which validation cases were right, in an order that all epochs of all
    trials share; empty where the pipeline does not tell."""
    holdout: float = math.nan
    """Score on cases that are neither trained on nor chosen by; told in the last epochs, else
    NaN."""
    confusion: Sequence[Sequence[int]] = ()
    """Validation cases by true class (rows) and class said (columns); empty if not told."""
    mistakes: Sequence[Mistake] = ()
    """The surest wrong ones of the last epoch."""


@runtime_checkable
class Mark(Protocol):
    """A place in the work of a device that the trial waits for."""

    def query(self) -> bool:
        """Whether the device has reached it."""
        ...


class Expense(Protocol):
    """What a trial takes. `Cost` is one; any object with these members will do."""

    @property
    def seconds(self) -> float:
        """Of an epoch, roughly; decides in which order trials are heard, and must never depend
        on a clock, so that a study repeats."""
        ...

    @property
    def memory(self) -> float:
        """Bytes of the device."""
        ...

    @property
    def load(self) -> float:
        """Share of the device's time that the trial would keep busy alone, 0..1."""
        ...


@dataclass(frozen=True)
class Cost:
    """What a trial takes, in plain types. Members are those of `Expense`."""

    seconds: float
    memory: float = 0.0
    load: float = 0.0


class Session(Protocol):
    """A pipeline opened in a worker process, with its data on the device."""

    @property
    def memory(self) -> int | None:
        """Bytes that the device has free for trials; None if they are not to be counted."""
        ...

    def pace(self, examples: Sequence[Settings], at_once: int) -> float | None:
        """Mean seconds of an epoch while `at_once` trials run, measured on `examples`.

        None where it is not measured: the time left is then known after the first epochs.
        """
        ...

    def train(
        self, settings: Settings, state: Path, key: str
    ) -> Iterator[Scored | Sequence[Scored] | Mark | str]:
        """Train a trial, yielding every epoch up to `settings["epochs"]`.

        Everything random is drawn from generators seeded with `settings["seed"]`. Closing the
        iterator stops the trial. Beside epochs it may yield

        - a list of epochs, first: those a state kept in the file `state` has behind it. A state
          that was kept under another `key` is of another trial and must not be used.
        - a Mark: `train` is called again once the device has reached it.
        - a str: a note for the person who watches.

        An exception ends this trial alone; MemoryError says that memory did not suffice. What is
        no Exception (SystemExit, say) ends the worker process, and another takes its place.
        """
        ...


class Pipeline(Protocol):
    """What a study needs of whatever it trains. It must be picklable."""

    @property
    def name(self) -> str:
        """Begins the names of its studies."""
        ...

    @property
    def metric(self) -> str:
        """What the score is, such as "validation accuracy"."""
        ...

    @property
    def about(self) -> str:
        """On what it trains, for the plan: "120 training and 30 validation images of demo"."""
        ...

    @property
    def validation(self) -> int:
        """Number of cases of which the score is a share; 0 if it is no share."""
        ...

    @property
    def epochs(self) -> int:
        """Epochs of a trial where no other number is asked for."""
        ...

    @property
    def base(self) -> Settings:
        """Settings of a trial where the space gives no others: all that it does not vary, and
        what `study.confirm` is to take for a setting that only some trials have."""
        ...

    @property
    def space(self) -> Space:
        """What may be varied."""
        ...

    @property
    def presets(self) -> Mapping[str, Settings]:
        """Settings that a search begins with if they lie in its space, by name: the control,
        then others.

        The control is never pruned: the search is measured against it.
        """
        ...

    @property
    def curves_by(self) -> Sequence[str]:
        """Settings that shape the learning curve, such as a schedule: a pruner compares trials
        alike in these alone."""
        ...

    @property
    def devices(self) -> Sequence[Device]:
        """Each GPU to use, or "cpu", which gets a worker process for each core."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """What the numbers depend on beside the settings, as JSON: data, code, versions.

        A study is not continued where one of these differs; `versions` is a dictionary by
        package. Without `code` it is a hash of the module in which the pipeline's class stands
        and of those beside it that it imports, or, in a script or notebook, of the functions,
        classes and plain values that the class uses. What the pipeline's own attributes change
        belongs here.
        """
        ...

    def cost(self, settings: Settings) -> Expense:
        """What a trial takes, for order and admission alone."""
        ...

    def open(self, device: Device) -> Session:
        """Load the data onto a device; called once in each worker process."""
        ...


MEMBERS = tuple(name for name in vars(Pipeline) if not name.startswith("_"))


def split_name(name: str) -> tuple[str, str]:
    """Module and object of "module:object". Raises UserError if it is not of that form."""
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise UserError(f"--pipeline must be module:object, got {name!r}")
    return module, attribute


def load_pipeline(name: str) -> Pipeline:
    """The pipeline that `name`, "module:object", stands for. Raises UserError if it is none."""
    module_name, attribute = split_name(name)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or ""
        if missing and not f"{module_name}.".startswith(f"{missing}."):
            raise  # a module of its own is missing: the traceback says where
        raise UserError(f"--pipeline {name}: no module {module_name!r} can be imported") from None
    pipeline: Pipeline | None = getattr(module, attribute, None)
    if pipeline is None:
        raise UserError(f"--pipeline {name}: {module_name} has no {attribute!r}")
    check_members(pipeline, f"--pipeline {name}")
    return pipeline


def check_members(pipeline: Pipeline, place: str) -> None:
    """Raise UserError, naming what it lacks, if an object is no pipeline."""
    lacking = [member for member in MEMBERS if not hasattr(pipeline, member)]
    if lacking:
        raise UserError(f"{place}: the pipeline lacks {', '.join(lacking)}")
    if not pipeline.devices:
        raise UserError(f"{place}: the pipeline has no devices on this machine")
