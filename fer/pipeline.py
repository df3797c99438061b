"""FER-2013 as a pipeline: what a study needs to search it (see `study.pipeline`).

Images are 48x48 grey faces of FER-2013's seven emotions, some of which may be left out.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer import data, provenance
from fer.config import DEMO_EPOCHS, Config
from fer.data import Faces
from fer.network.kernels import kernels_for
from fer.session import FaceSession
from fer.training.cost import Cost, cost_of
from fer.training.device import Device, choose, in_words, settle
from fer.training.fit import to_device
from fer.training.memory import reuse_memory

OF_EACH_TRIAL = "seed"
"""Instead of the seed of the split in an identity: each trial's own."""

Side = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [N, 48, 48] and labels [N]; arrays, which travel to workers as they are."""


@dataclass(frozen=True)
class FacePipeline:
    """Images for training and validation, and the settings that trials vary.

    With `split_seed` None each trial splits the images by its own seed; `validated` is then one
    such split, by which costs are told and the images counted. Images that are `held` out are on
    neither side: the accuracy on them is told with the epochs that score a trial.
    `space` and `presets` are what a search varies and begins with; training does not need them.
    """

    name: str  # of the data
    sha256: str
    classes: tuple[str, ...]
    side: Side
    validated: NDArray[np.bool_]  # [N]: the others are trained on
    split: data.Split
    split_seed: int | None
    subset: int | None
    device: torch.device
    config: Config  # settled: what is not varied
    holdout: float | None = None  # share of the images that was held out
    holdout_seed: int = data.SEED
    held: Side | None = None
    space: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    metric = "validation accuracy"
    curves_by = ("schedule",)  # a rate that falls at the end gains at the end

    def __getstate__(self) -> dict[str, Any]:
        # A worker knows nothing of the search, and need not import what describes one.
        return {**vars(self), "space": {}, "presets": {}}

    @property
    def validation(self) -> int:
        """Number of validation images."""
        return int(self.validated.sum())

    @property
    def epochs(self) -> int:
        """Epochs of a trial where no other number is asked for."""
        return DEMO_EPOCHS if self.name == "demo" else self.config.epochs

    @property
    def base(self) -> dict[str, Any]:
        """Settings that are not varied."""
        return self.config.settings()

    @property
    def about(self) -> str:
        """On what it trains, in words."""
        held = "" if self.held is None else f", {len(self.held[1])} held out,"
        return (
            f"{int((~self.validated).sum())} training and {self.validation} validation images"
            f"{held} of {self.name} ({data.split_in_words(self.split, self.split_seed)}) "
            f"on {in_words(self.device, self.config)}"
        )

    @property
    def faces(self) -> Faces:
        """All images, for training and for validation."""
        images, labels = self.side
        return Faces(torch.from_numpy(images), torch.from_numpy(labels), self.classes)

    @property
    def devices(self) -> tuple[str, ...]:
        """GPUs of one kind, since another's numbers would differ; or the processor."""
        if self.device.type == "cpu":
            return ("cpu",)
        first = torch.cuda.get_device_name(0)
        count = torch.cuda.device_count()
        return tuple(f"cuda:{i}" for i in range(count) if torch.cuda.get_device_name(i) == first)

    @property
    def chance(self) -> float:
        """Share of the largest class in validation: the accuracy of always guessing it."""
        return float(np.bincount(self.side[1][self.validated]).max() / self.validation)

    def identity(self) -> dict[str, Any]:
        """What the numbers depend on beside the settings."""
        return {
            "data": self.name,
            "data_sha256": self.sha256,
            "classes": self.classes,
            "split": self.split,
            "split_seed": OF_EACH_TRIAL if self.split_seed is None else self.split_seed,
            "subset": self.subset,
            **self._held_in_identity(),
            "precision": self.config.precision,
            "kernels": kernels_for(self.device).name,
            "device": provenance.device_name(self.device),
            "code": provenance.code_version(self.device, self.held is not None),
            "versions": provenance.versions(),
        }

    def _held_in_identity(self) -> dict[str, Any]:
        """Nothing where none are held out, as before there was a holdout."""
        if self.held is None:
            return {}
        known = {"holdout": self.holdout, "held_out": len(self.held[1])}
        # The same images whatever the splits: their seed is not told otherwise.
        return (
            known if self.split_seed is not None else {**known, "holdout_seed": self.holdout_seed}
        )

    def cost(self, settings: Mapping[str, Any]) -> Cost:
        """What a trial takes."""
        config = Config(**settings)
        labels = self.side[1][~self.validated]
        images = len(labels)
        if config.oversample in self.classes:  # its images are quadrupled
            images += 3 * int((labels == self.classes.index(config.oversample)).sum())
        return cost_of(config, images, self.validation, self.device.type)

    def open(self, device: str) -> FaceSession:
        """Put the images onto a device."""
        place = torch.device(device)
        reuse_memory()
        if place.type == "cuda":
            # As in fer.training.cuda, but here CUDA begins before there is a stream.
            os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
            torch.cuda.set_device(place)
        # The first optimizer of a process imports for a second: not within the first epoch.
        torch.optim.SGD([torch.zeros(1, requires_grad=True, device=place)])
        held = None
        if self.held is not None:
            images, labels = (torch.from_numpy(each) for each in self.held)
            held = to_device(Faces(images, labels, self.classes), place)
        if self.split_seed is None:
            # The last split is kept: a seed is trained with all settings before the next one.
            return FaceSession(lru_cache(maxsize=1)(partial(self._sides, place)), held, place)
        sides = self._sides(place, self.split_seed)
        return FaceSession(lambda seed: sides, held, place)

    def _sides(self, place: torch.device, seed: int) -> tuple[Faces, Faces]:
        """Training and validation images on a device, for a trial with this seed."""
        faces, chosen = self.faces, self.validated
        if self.split_seed is None:
            chosen = data.validated(faces, self.split, seed)
        training, validation = (faces.take(np.flatnonzero(each)) for each in (~chosen, chosen))
        return to_device(training, place), to_device(validation, place)


def prepare(
    images: Path | None,
    remove: Sequence[str],
    split: data.Split,
    split_seed: int | None,
    subset: int | None,
    device: Device,
    config: Config,
    space: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    accept: Callable[[data.Dataset, data.Dataset], None] | None = None,
    holdout: float | None = None,
    holdout_seed: int = data.SEED,
) -> FacePipeline:
    """Read the images, split them if `accept` raises nothing, and settle `config` for the device.

    The share `holdout` of them, drawn with `holdout_seed`, is held out before. `accept` gets the
    whole data set, and what is taken of it. Raises UserError where they cannot be read or split,
    or the device is missing.
    """
    place = choose(device)
    whole = data.find(images)
    dataset = data.arranged(whole, remove, split)
    if accept is not None:
        accept(whole, dataset)
    faces, held = data.set_aside(dataset.part("Training"), holdout, split, holdout_seed, subset)
    seed = data.SEED if split_seed is None else split_seed
    # One thread a trial, whatever runs beside it: another number rounds sums differently.
    return FacePipeline(
        name=dataset.name,
        sha256=dataset.sha256,
        classes=dataset.classes,
        side=(faces.images.numpy(), faces.labels.numpy()),
        validated=data.validated(faces, split, seed),
        split=split,
        split_seed=split_seed,
        subset=subset,
        device=place,
        config=settle(config.model_copy(update={"threads": 1}), place),
        holdout=holdout,
        holdout_seed=holdout_seed,
        held=None if held is None else (held.images.numpy(), held.labels.numpy()),
        space=space or {},
        presets=presets or {},
    )
