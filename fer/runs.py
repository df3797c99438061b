"""A run folder: everything that is known of one trained model, without code in any file."""

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
CHECKPOINT = "checkpoint.safetensors"  # while the run is not over
MAX_HEADER = 1 << 20  # bytes beside the weights in their file
MAX_TABLE = 16 << 20  # bytes of a table of epochs
COLUMNS = [
    field.name for field in dataclasses.fields(Epoch) if field.name not in ("confusion", "right")
]
OF_TRAINING = ["number", "train_loss", "train_accuracy", "seconds"]  # all without validation


@dataclass(frozen=True)
class TrainedOn:
    """The images a run was trained on: the `whole` of them, or without those of validation.

    Runs of older versions stored no seed of their split.
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
        """The images of the arranged data set for training, and those for validation if it has
        any. Raises UserError if they cannot be drawn."""
        faces, _ = set_aside(
            dataset.part("Training"),
            *(self.holdout, self.split, self.split_seed, self.subset),
        )
        if self.whole:
            return faces, None
        return split(faces, self.split, seed=self.split_seed)


@dataclass(frozen=True)
class Plan:
    """What a run folder is for: the settings, the images, and where the settings come from."""

    config: Config
    data: TrainedOn
    origin: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """As it stands in the folder."""
        data = {**dataclasses.asdict(self.data), "classes": list(self.data.classes)}
        return {"config": self.config.settings(), "data": data, "provenance": self.origin}


class Stage(Enum):
    """How far the run of a folder is."""

    NEW = "new"
    BEGUN = "begun"
    FINISHED = "finished"


def stage_of(folder: Path, plan: Plan) -> Stage:
    """How far the run is that was planned. Raises UserError if the folder holds something else."""
    try:
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None
    begun = {name for name in held if not name.endswith(".part")} <= {CONFIG, METRICS, WEIGHTS}
    if CONFIG in held and (CHECKPOINT in held or begun):
        if read_yaml(folder / CONFIG) == plan.content():
            return Stage.BEGUN
        raise UserError(f"--out holds an interrupted run of other settings or data: {folder}")
    if {CONFIG, WEIGHTS, METRICS} <= held:
        if read_yaml(folder / CONFIG) == plan.content():
            return Stage.FINISHED
        raise UserError(f"--out holds a finished run, give a new folder to keep it: {folder}")
    if held or (folder.exists() and not folder.is_dir()):
        raise UserError(f"--out must be a new or empty folder, to lose no earlier run: {folder}")
    return Stage.NEW


def new_run(folder: Path, plan: Plan) -> None:
    """Make the folder, with what is planned and an empty table of epochs.

    A folder of the very same run that was interrupted is left as it is. Raises UserError if there
    is something else, a finished run too, or it cannot be written.
    """
    stage = stage_of(folder, plan)
    if stage is Stage.FINISHED:
        raise UserError(f"--out holds a finished run, give a new folder to keep it: {folder}")
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

    Raises UserError if one does, or it cannot be known.
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
    """Put a new run into the state in which the folder's was interrupted; its epochs so far.

    Raises UserError if that state is damaged or of another installation.
    """
    try:
        epochs = checkpoint.load(run, folder / CHECKPOINT, _key(folder, run))
    except checkpoint.Unusable as error:
        raise UserError(
            f"the interrupted run cannot go on ({error}), give another --out: {folder}"
        ) from None
    if epochs:
        write_epochs(folder, epochs, whole)
    return epochs


def keep(folder: Path, run: Run, epochs: list[Epoch], whole: bool = False) -> None:
    """Write the table of epochs and the state to go on from. Raises UserError if it cannot."""
    write_epochs(folder, epochs, whole)
    checkpoint.save(run, epochs, folder / CHECKPOINT, _key(folder, run))


def finish(folder: Path) -> None:
    """The run is over: nothing goes on from it."""
    for path in (folder / CHECKPOINT, *folder.glob("*.part")):
        path.unlink(missing_ok=True)


def _key(folder: Path, run: Run) -> str:
    """What the numbers of the folder's run depend on, as one word."""
    installation = (
        provenance.code_version(run.device),
        provenance.versions(),
        provenance.device_name(run.device),
        kernels.kernels_for(run.device).name,
    )
    content = (folder / CONFIG).read_bytes() + repr(installation).encode()
    return hashlib.sha256(content).hexdigest()


def write_epochs(folder: Path, epochs: list[Epoch], whole: bool) -> None:
    """Write the table of epochs, of a `whole` run without validation. Raises UserError if it
    cannot be written."""
    table = io.StringIO()
    columns = OF_TRAINING if whole else COLUMNS
    rows = ([getattr(epoch, name) for name in columns] for epoch in epochs)
    csv.writer(table).writerows([columns, *rows])
    write_file(folder / METRICS, table.getvalue())


def read_scores(folder: Path, name: str, last: int) -> list[float]:
    """The column `name` of a table of epochs, of the `last` ones. Raises UserError."""
    place = folder / METRICS
    try:
        rows = list(csv.DictReader(read_file(place, MAX_TABLE).decode().splitlines()))
        return [float(row[name]) for row in rows[-last:]]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise UserError(f"not a table of epochs with {name}: {place}") from None


def save_weights(folder: Path, net: Net, epoch: int) -> None:
    """Write the weights, whole or not at all. Raises UserError if they cannot be written."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()
    }
    write_file(folder / WEIGHTS, save(tensors, metadata={"epoch": str(epoch)}))


def load_run(folder: Path) -> tuple[Net, Config, TrainedOn]:
    """The trained network (on the CPU), its settings and its data.

    Raises UserError if the folder is no run or its weights are not of its architecture.
    """
    for name in (CONFIG, WEIGHTS):
        if not os.path.isfile(folder / name):  # noqa: PTH113 - False also where it may not look
            raise UserError(f"not a run folder (it has no {name}): {folder}")
    place = folder / CONFIG
    content = read_yaml(place)
    if not {"config", "data"} <= content.keys():
        raise UserError(f"not a run's settings (they need 'config' and 'data'): {place}")
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
        # Read as bytes, since safetensors takes no path that is not UTF-8.
        weights = load(read_file(folder / WEIGHTS, size + MAX_HEADER))
    # A KeyError is a type that PyTorch does not have.
    except (SafetensorError, KeyError) as error:
        raise UserError(
            f"not a file of weights ({str(error)[:200]}): {folder / WEIGHTS}"
        ) from None
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
