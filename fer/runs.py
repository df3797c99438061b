"""A run folder: everything about one trained model, with no code in any file."""

import csv
import dataclasses
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from fer import provenance
from fer.command import explain, shortly
from fer.config import EMOTIONS, Config, read_yaml, to_config, write_yaml
from fer.data import SEED, Dataset, Faces, Split, set_aside, split
from fer.errors import UserError
from fer.files import read_file, write_file
from fer.network import kernels
from fer.network.model import Net
from fer.training import checkpoint
from fer.training.fit import Epoch, Run

CONFIG, WEIGHTS, METRICS = "config.yaml", "model.safetensors", "metrics.csv"
CHECKPOINT = "checkpoint.safetensors"  # until the run is finished
DIVERGED = "diverged.txt"  # the reason; such a run has no weights
MAX_HEADER = 1 << 20  # bytes in addition to the weights in their file
MAX_TABLE = 16 << 20  # bytes of a table of epochs
COLUMNS = [
    field.name for field in dataclasses.fields(Epoch) if field.name not in ("confusion", "right")
]
OF_TRAINING = ["number", "train_loss", "train_accuracy", "seconds"]  # columns without validation


@dataclass(frozen=True)
class TrainedOn:
    """The images a run was trained on, with `whole` including the validation images.

    Runs of older versions did not store a split seed.
    """

    name: str
    sha256: str
    classes: tuple[str, ...]
    split: Split
    subset: int | None
    split_seed: int = SEED
    holdout: float | None = None
    whole: bool = False

    def sides(self, dataset: Dataset) -> tuple[Faces, Faces | None]:
        """Return the training images of the arranged data set, and the validation images if any.

        Raises UserError if they cannot be drawn.
        """
        faces, _ = set_aside(
            dataset.part("Training"),
            *(self.holdout, self.split, self.split_seed, self.subset),
        )
        if self.whole:
            return faces, None
        return split(faces, self.split, seed=self.split_seed)


@dataclass(frozen=True)
class Plan:
    """Plan of a run folder: settings, images, and where the settings come from."""

    config: Config
    data: TrainedOn
    origin: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """Return the content of the folder's settings file."""
        data = {**dataclasses.asdict(self.data), "classes": list(self.data.classes)}
        return {"config": self.config.settings(), "data": data, "provenance": self.origin}


class Stage(Enum):
    """Stage of the run in a folder."""

    NEW = "new"
    BEGUN = "begun"
    DIVERGED = "diverged"
    FINISHED = "finished"


def stage_of(folder: Path, plan: Plan) -> Stage:
    """Return the stage of the planned run. Raise UserError if the folder contains anything
    else."""
    try:
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None
    if {CONFIG, DIVERGED} <= held:
        if read_yaml(folder / CONFIG) == plan.content():
            return Stage.DIVERGED
        raise UserError(f"--out holds a run that diverged, give a new folder: {folder}")
    begun = {name for name in held if not name.endswith(".part")} <= {CONFIG, METRICS, WEIGHTS}
    if CONFIG in held and (CHECKPOINT in held or begun):
        if read_yaml(folder / CONFIG) == plan.content():
            return Stage.BEGUN
        raise UserError(f"--out has an interrupted run with other settings or data: {folder}")
    if {CONFIG, WEIGHTS, METRICS} <= held:
        if read_yaml(folder / CONFIG) == plan.content():
            return Stage.FINISHED
        raise UserError(f"--out holds a finished run, give a new folder to keep it: {folder}")
    if held or (folder.exists() and not folder.is_dir()):
        raise UserError(f"--out must be a new or empty folder, so that no run is lost: {folder}")
    return Stage.NEW


def new_run(folder: Path, plan: Plan) -> None:
    """Create the folder with the plan and an empty table of epochs.

    A folder with the same run, interrupted, is left unchanged. Raises UserError if it contains
    anything else, including a finished or diverged run, or cannot be written.
    """
    stage = stage_of(folder, plan)
    if stage is Stage.FINISHED:
        raise UserError(f"--out holds a finished run, give a new folder to keep it: {folder}")
    if stage is Stage.DIVERGED:
        raise UserError(f"--out holds a run that diverged, give a new folder: {folder}")
    if stage is Stage.BEGUN:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(plan.content(), folder / CONFIG)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    write_epochs(folder, [], plan.data.whole)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the folder.

    Raises UserError if another process does, or the folder cannot be locked.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / CONFIG).open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is training in --out: {folder}") from None
        except OSError as error:
            raise UserError(f"cannot lock {folder / CONFIG}: {error.strerror}") from None
        yield


def go_on(folder: Path, run: Run, whole: bool = False) -> list[Epoch]:
    """Restore a new run from the folder's checkpoint, and return its epochs so far.

    Raises UserError if the checkpoint is damaged or from another installation.
    """
    try:
        epochs = checkpoint.load(run, folder / CHECKPOINT, _key(folder, run))
    except checkpoint.Unusable as error:
        raise UserError(
            f"the interrupted run cannot be resumed ({error}), give another --out: {folder}"
        ) from None
    if epochs:
        write_epochs(folder, epochs, whole)
    return epochs


def keep(folder: Path, run: Run, epochs: list[Epoch], whole: bool = False) -> None:
    """Write the table of epochs and a checkpoint. Raise UserError if that fails."""
    write_epochs(folder, epochs, whole)
    checkpoint.save(run, epochs, folder / CHECKPOINT, _key(folder, run))


def diverge(folder: Path, epochs: list[Epoch], reason: str, whole: bool) -> None:
    """Mark the run as diverged, with its table of epochs and neither weights nor checkpoint.

    Raises UserError if that cannot be written.
    """
    write_epochs(folder, epochs, whole)
    write_file(folder / DIVERGED, f"{reason}\n")
    finish(folder)


def finish(folder: Path) -> None:
    """Mark the run as finished by removing its checkpoint and temporary files."""
    for path in (folder / CHECKPOINT, *folder.glob("*.part")):
        path.unlink(missing_ok=True)


def _key(folder: Path, run: Run) -> str:
    """Return a digest of everything the run's results depend on."""
    installation = (
        provenance.code_version(run.device),
        provenance.versions(),
        provenance.device_name(run.device),
        kernels.kernels_for(run.device).name,
    )
    content = (folder / CONFIG).read_bytes() + repr(installation).encode()
    return hashlib.sha256(content).hexdigest()


def write_epochs(folder: Path, epochs: list[Epoch], whole: bool) -> None:
    """Write the table of epochs, for a `whole` run without validation columns.

    Raises UserError if it cannot be written.
    """
    table = io.StringIO()
    columns = OF_TRAINING if whole else COLUMNS
    rows = ([getattr(epoch, name) for name in columns] for epoch in epochs)
    csv.writer(table).writerows([columns, *rows])
    write_file(folder / METRICS, table.getvalue())


def read_scores(folder: Path, name: str, last: int) -> list[float]:
    """Read column `name` of the `last` rows of a table of epochs. May raise UserError."""
    place = folder / METRICS
    try:
        rows = list(csv.DictReader(read_file(place, MAX_TABLE).decode().splitlines()))
        return [float(row[name]) for row in rows[-last:]]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise UserError(f"not a table of epochs with {name}: {place}") from None


def save_weights(folder: Path, net: Net, epoch: int) -> None:
    """Write the weights atomically. Raise UserError if they cannot be written."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()
    }
    write_file(folder / WEIGHTS, save(tensors, metadata={"epoch": str(epoch)}))


def load_run(folder: Path) -> tuple[Net, Config, TrainedOn]:
    """Load the trained network (on the CPU), its settings and its data.

    Raises UserError if the folder is not a run or its weights do not match its architecture.
    """
    for name in (CONFIG, WEIGHTS):
        if not os.path.isfile(folder / name):  # noqa: PTH113 - also False without permission
            raise UserError(f"not a run folder (it has no {name}): {folder}")
    place = folder / CONFIG
    content = read_yaml(place)
    if not {"config", "data"} <= content.keys():
        raise UserError(f"not a run's settings ('config' and 'data' are required): {place}")
    config = to_config(content["config"], place)
    try:
        data = TypeAdapter(TrainedOn).validate_python(content["data"])
    except ValidationError as error:
        raise UserError(explain(error, str(place))) from None
    in_order = tuple(name for name in EMOTIONS if name in data.classes)
    if len(in_order) < 2 or data.classes != in_order:
        raise UserError(
            f"classes must be at least two of {', '.join(EMOTIONS)}, in this order, "
            f"got {shortly(data.classes)}: {place}"
        )
    unused = torch.Generator().manual_seed(0)
    net = Net(config, len(data.classes), unused, kernels.load().library)
    expected = net.state_dict()
    size = sum(tensor.nbytes for tensor in expected.values())
    try:
        # Read as bytes, because safetensors does not accept paths that are not UTF-8.
        weights = load(read_file(folder / WEIGHTS, size + MAX_HEADER))
    # KeyError: a type that PyTorch does not support.
    except (SafetensorError, KeyError) as error:
        raise UserError(f"not a weights file ({str(error)[:200]}): {folder / WEIGHTS}") from None
    for name in sorted(expected.keys() ^ weights.keys()):
        side = "lacks" if name in expected else "has"
        raise UserError(
            f"a checkpoint of another architecture: it {side} {name!r}: {folder / WEIGHTS}"
        )
    for name, tensor in expected.items():
        found, needed = (
            f"{list(t.shape)}{'' if t.dtype == torch.float32 else f' of {t.dtype}'}"
            for t in (weights[name], tensor)
        )
        if found != needed:
            raise UserError(
                f"a checkpoint of another architecture: {name} is {found}, "
                f"the settings need {needed}: {folder / WEIGHTS}"
            )
    net.load_state_dict(weights)
    net.eval()
    return net, config, data
