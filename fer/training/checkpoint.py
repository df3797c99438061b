"""Checkpoints: the complete state of a run after an epoch, from which training can resume.

They hold only tensors and text (safetensors), so loading one executes no code.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from fer.errors import UserError
from fer.files import write_file
from fer.strict_json import to_json
from fer.training.fit import Epoch, Run
from fer.training.look import Looked, Mistake
from fer.training.memory import ran_out
from fer.training.stream import Mark


class Unusable(Exception):
    """A checkpoint that training cannot resume from; its text says why in a few words."""


def save(run: Run, epochs: list[Epoch], path: Path, key: str) -> None:
    """Write the weights, optimizer state and random states of `run`, and its `epochs` so far.

    `key` identifies the run; `load` requires the same. The write is atomic. Raises UserError if
    it fails.
    """
    for mark in saving(run, epochs, path, key):
        mark.synchronize()


def saving(run: Run, epochs: list[Epoch], path: Path, key: str) -> Iterator[Mark]:
    """Like `save`, but never blocks: yields a Mark, and is to be resumed once that is reached.

    On a GPU stream, all tensors are copied in one transfer and written by another thread.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    metadata = {"key": key, "epochs": to_json([_plain(epoch) for epoch in epochs])}
    stream = run.launcher.stream
    with stream.active():
        tensors = _tensors(run)
        if stream.captures:
            packed, copied = _packed(tensors, run.device)
            mark = run.mark(copied, packed)
    if not stream.captures:
        write_file(path, serialize({name: each.cpu() for name, each in tensors.items()}, metadata))
        return
    yield mark
    tensors = _unpacked(copied, tensors, run.device)
    with ThreadPoolExecutor(1) as thread:  # waits for the write if the generator is closed
        writing = thread.submit(lambda: write_file(path, serialize(tensors, metadata)))
        yield _Done(writing)
    writing.result()


@dataclass(frozen=True)
class _Done:
    """A mark that is reached when another thread is done."""

    work: "Future[None]"

    def query(self) -> bool:
        return self.work.done()

    def synchronize(self) -> None:
        wait([self.work])


def _packed(tensors: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the bytes of all tensors on the device, concatenated, and a host buffer for them."""
    # Widest types first, so that each tensor is aligned.
    rows = [each.reshape(-1).view(torch.uint8) for each in _in_order(tensors, device).values()]
    packed = torch.cat(rows)
    return packed, torch.empty_like(packed, device="cpu", pin_memory=packed.is_cuda)


def _unpacked(
    copied: Tensor, tensors: dict[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """Return all tensors on the host, those of the device as views of `copied`."""
    ours = _in_order(tensors, device)
    rows = copied.split_with_sizes([each.numel() * each.element_size() for each in ours.values()])
    found = {
        name: row.view(each.dtype).view(each.shape)
        for row, (name, each) in zip(rows, ours.items(), strict=True)
    }
    return {name: found.get(name, each) for name, each in tensors.items()}


def _in_order(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    ours = ((name, each) for name, each in tensors.items() if each.device.type == device.type)
    return dict(sorted(ours, key=lambda item: -item[1].element_size()))


def load(run: Run, path: Path, key: str) -> list[Epoch]:
    """Restore `run`, which must be new, from the checkpoint `path`, and return its past epochs.

    Returns no epochs if there is no such file. Raises Unusable if it is corrupt or belongs to
    another run; `run` must not be used then. Device errors and OOM propagate.
    """
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                raise Unusable("it belongs to another run")
            epochs = [_epoch(fields) for fields in json.loads(metadata["epochs"])]
            # Clone: these are views of a mapped file that may change.
            kept = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if [epoch.number for epoch in epochs] != list(range(1, len(epochs) + 1)):
            raise Unusable("its epochs do not start at 1 or have gaps")
        with run.launcher.stream.active():
            _restore(run, kept)
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if ran_out(error) or isinstance(error, torch.AcceleratorError):
            raise  # not the fault of the file
        raise Unusable(" ".join(str(error).split())[:200]) from None
    run.trained = len(epochs)
    return epochs


def _tensors(run: Run) -> dict[str, Tensor]:
    net = {f"net.{name}": tensor for name, tensor in run.net.state_dict().items()}
    optimizer = {
        f"optimizer.{index}.{name}": value
        for index, state in run.optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }
    random = {
        "generator": run.generator.get_state(),
        "device_generator": run.device_generator.get_state(),
        "validation_generator": run.validation_generator.get_state(),
    }
    return {
        name: tensor.detach().contiguous()
        for name, tensor in {**net, **optimizer, **random}.items()
    }


def _restore(run: Run, kept: dict[str, Tensor]) -> None:
    run.generator.set_state(kept.pop("generator"))
    run.device_generator.set_state(kept.pop("device_generator"))
    run.validation_generator.set_state(kept.pop("validation_generator"))
    net = {name: kept.pop(f"net.{name}") for name in run.net.state_dict()}
    run.net.load_state_dict(net)
    parameters = list(run.net.parameters())
    states: dict[int, dict[str, Tensor]] = {}
    for full_name, value in kept.items():
        _, index, name = full_name.split(".")
        parameter = parameters[int(index)]
        if value.dim():
            if value.shape != parameter.shape:
                raise ValueError(f"{full_name} is {list(value.shape)}")
            # Fused optimizers iterate over raw memory: state needs the strides of the weights.
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        states.setdefault(int(index), {})[name] = value
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": states, "param_groups": groups})


def _plain(epoch: Epoch) -> dict[str, object]:
    right = base64.b64encode(epoch.right).decode()
    return {**dataclasses.asdict(epoch), "confusion": epoch.confusion.tolist(), "right": right}


def _epoch(fields: dict[str, Any]) -> Epoch:
    confusion = np.array(fields["confusion"], dtype=np.int64)
    right = base64.b64decode(str(fields["right"]))
    mistakes = fields.pop("mistakes", None)
    numbers = {name: math.nan if value is None else value for name, value in fields.items()}
    whole: dict[str, Any] = {**numbers, "confusion": confusion, "right": right}
    if mistakes is None:
        return Epoch(**whole)
    return Looked(**whole, mistakes=tuple(Mistake(**each) for each in mistakes))
