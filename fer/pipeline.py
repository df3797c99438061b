"""FER-2013 as a pipeline for studies (see `study.pipeline`).

Images are 48x48 grey faces of FER-2013's seven emotions, some of which may be removed.
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
"""Stored as the split seed in an identity if each trial uses its own seed."""

Side = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [N, 48, 48] and labels [N], as arrays because they are sent to workers."""


@dataclass(frozen=True)
class FacePipeline:
    """Images for training and validation, and the settings to vary.

    With `split_seed` None each trial splits the images by its own seed, and `validated` is an
    example split used for costs and counts. Images that are `held` out are on neither side; the
    accuracy on them is reported with the epochs that score a trial. `space` and `presets` are used
    by a search only, not by training.
    """

    name: str  # of the data
    sha256: str
    classes: tuple[str, ...]
    side: Side
    validated: NDArray[np.bool_]  # [N]: False for training images
    split: data.Split
    split_seed: int | None
    subset: int | None
    device: torch.device
    config: Config  # settled for the device: settings not varied
    holdout: float | None = None  # share of the images held out
    holdout_seed: int = data.SEED
    held: Side | None = None
    space: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    metric = "validation accuracy"
    curves_by = ("schedule",)  # a falling learning rate gains most at the end

    def __getstate__(self) -> dict[str, Any]:
        # Workers do not need the search space, nor the imports to unpickle it.
        return {**vars(self), "space": {}, "presets": {}}

    @property
    def validation(self) -> int:
        """Number of validation images."""
        return int(self.validated.sum())

    @property
    def epochs(self) -> int:
        """Default number of epochs per trial."""
        return DEMO_EPOCHS if self.name == "demo" else self.config.epochs

    @property
    def base(self) -> dict[str, Any]:
        """Settings that are not varied."""
        return self.config.settings()

    @property
    def about(self) -> str:
        """What it trains on, in words."""
        held = "" if self.held is None else f", {len(self.held[1])} held out,"
        return (
            f"{int((~self.validated).sum())} training and {self.validation} validation images"
            f"{held} of {self.name} ({data.split_in_words(self.split, self.split_seed)}) "
            f"on {in_words(self.device, self.config)}"
        )

    @property
    def faces(self) -> Faces:
        """All images, for training and validation."""
        images, labels = self.side
        return Faces(torch.from_numpy(images), torch.from_numpy(labels), self.classes)

    @property
    def devices(self) -> tuple[str, ...]:
        """GPUs of the same model, because another one would round differently; or "cpu"."""
        if self.device.type == "cpu":
            return ("cpu",)
        first = torch.cuda.get_device_name(0)
        count = torch.cuda.device_count()
        return tuple(f"cuda:{i}" for i in range(count) if torch.cuda.get_device_name(i) == first)

    @property
    def chance(self) -> float:
        """Share of the largest validation class: the accuracy of always predicting it."""
        return float(np.bincount(self.side[1][self.validated]).max() / self.validation)

    def identity(self) -> dict[str, Any]:
        """Return what results depend on apart from the settings."""
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
        """Return the holdout's part, empty without one for compatibility with older studies."""
        if self.held is None:
            return {}
        known = {"holdout": self.holdout, "held_out": len(self.held[1])}
        # The holdout is the same for all split seeds, so its own seed must be stored.
        return (
            known if self.split_seed is not None else {**known, "holdout_seed": self.holdout_seed}
        )

    def cost(self, settings: Mapping[str, Any]) -> Cost:
        """Return the cost of a trial."""
        config = Config(**settings)
        labels = self.side[1][~self.validated]
        images = len(labels)
        if config.oversample in self.classes:  # its images are quadrupled
            images += 3 * int((labels == self.classes.index(config.oversample)).sum())
        return cost_of(config, images, self.validation, self.device.type)

    def open(self, device: str) -> FaceSession:
        """Load the images onto a device."""
        place = torch.device(device)
        reuse_memory()
        if place.type == "cuda":
            # As in fer.training.cuda, but here CUDA is initialised before the first stream.
            os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
            torch.cuda.set_device(place)
        # The first optimizer of a process spends a second on imports: keep it out of the first
        # epoch.
        torch.optim.SGD([torch.zeros(1, requires_grad=True, device=place)])
        held = None
        if self.held is not None:
            images, labels = (torch.from_numpy(each) for each in self.held)
            held = to_device(Faces(images, labels, self.classes), place)
        if self.split_seed is None:
            # Cache one split: all settings are trained with one seed before the next.
            return FaceSession(lru_cache(maxsize=1)(partial(self._sides, place)), held, place)
        sides = self._sides(place, self.split_seed)
        return FaceSession(lambda seed: sides, held, place)

    def _sides(self, place: torch.device, seed: int) -> tuple[Faces, Faces]:
        """Return training and validation images on a device for a trial with this seed."""
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
    """Read and split the images, and settle `config` for the device.

    First, `accept` is called with the whole data set and the part used, and may raise. Then the
    share `holdout`, drawn with `holdout_seed`, is held out. Raises UserError if the images cannot
    be read or split, or the device is missing.
    """
    place = choose(device)
    whole = data.find(images)
    dataset = data.arranged(whole, remove, split)
    if accept is not None:
        accept(whole, dataset)
    faces, held = data.set_aside(dataset.part("Training"), holdout, split, holdout_seed, subset)
    seed = data.SEED if split_seed is None else split_seed
    # Always one thread per trial: another number would round sums differently.
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
