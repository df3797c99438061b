"""A run folder: everything that is known of one trained model, without code in any file."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fer.command import explain
from fer.config import EMOTIONS, Config, read_yaml, write_yaml
from fer.errors import UserError
from fer.fit import Epoch
from fer.kernels import load
from fer.model import Net

CONFIG, WEIGHTS, METRICS = "config.yaml", "model.safetensors", "metrics.csv"
COLUMNS = [field.name for field in dataclasses.fields(Epoch) if field.name != "confusion"]


@dataclass(frozen=True)
class TrainedOn:
    """The images a run was trained on."""

    name: str
    sha256: str
    classes: tuple[str, ...]
    split: str
    subset: int | None


def new_run(folder: Path, config: Config, data: TrainedOn, provenance: dict[str, Any]) -> None:
    """Make the folder, with its settings and an empty table of epochs.

    Raises UserError if there already is something or it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"--out must be a new or empty folder, to lose no earlier run: {folder}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(
            {
                "config": config.settings(),
                "data": {**dataclasses.asdict(data), "classes": list(data.classes)},
                "provenance": provenance,
            },
            folder / CONFIG,
        )
        with (folder / METRICS).open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}") from None


def append_epoch(folder: Path, epoch: Epoch) -> None:
    """Add one line to the table of epochs."""
    with (folder / METRICS).open("a", newline="") as file:
        csv.writer(file).writerow([getattr(epoch, name) for name in COLUMNS])


def save_weights(folder: Path, net: Net, epoch: int) -> None:
    """Write the weights, whole or not at all."""
    temporary = folder / (WEIGHTS + ".part")
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()
    }
    save_file(tensors, temporary, metadata={"epoch": str(epoch)})
    temporary.replace(folder / WEIGHTS)


def load_run(folder: Path) -> tuple[Net, Config, TrainedOn]:
    """The trained network (on the CPU), its settings and its data.

    Raises UserError if the folder is no run or its weights are not of its architecture.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"not a run folder (it has no {name}): {folder}")
    content = read_yaml(folder / CONFIG)
    try:
        config = Config(**content["config"])
        data = TrainedOn(**{**content["data"], "classes": tuple(content["data"]["classes"])})
    except ValidationError as error:
        raise UserError(explain(error, str(folder / CONFIG))) from None
    except (KeyError, TypeError) as error:
        raise UserError(f"not a run's settings ({error}): {folder / CONFIG}") from None
    if not len(data.classes) >= 2 or not set(data.classes) <= set(EMOTIONS):
        raise UserError(f"unknown classes {list(data.classes)}: {folder / CONFIG}")
    unused = torch.Generator().manual_seed(0)
    net = Net(config, len(data.classes), unused, unused, load().library)
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"not a file of weights ({error}): {folder / WEIGHTS}") from None
    expected = net.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        side = "lacks" if name in expected else "has"
        raise UserError(
            f"a checkpoint of another architecture: it {side} {name!r}: {folder / WEIGHTS}"
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise UserError(
                f"a checkpoint of another architecture: {name} is {list(weights[name].shape)}, "
                f"the settings need {list(tensor.shape)}: {folder / WEIGHTS}"
            )
    net.load_state_dict(weights)
    net.eval()
    return net, config, data
