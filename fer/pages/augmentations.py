"""Show augmentation, scaling, test-time views and oversampling of faces (report, chapter 3)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer.config import Config
from fer.data import Faces
from fer.pages.pictures import captioned, picture
from fer.training.augment import augment, oversample, scale, views
from fer.training.draws import make_draws, redraw

CROPPED = 3  # faces shown in all ten views
ADDED = 4  # oversampled faces shown
KINDS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "mirrored with probability 1/2": {"mirror": True},
    "rotated by up to 10 degrees": {"rotation": 10.0},
    "padded by 4 and cropped at random": {"crop_padding": 4},
    "zoomed by up to 10 percent": {"zoom": 0.1},
    "a rectangle erased (here in every face)": {"erasing": 1.0},
}
TTA = "ten-crop"
TOGETHER = "all together"
# Each is an affine function of pixels in [0, 1]: factor and summand.
SCALINGS = {
    "ToTensor: [0, 1]": (1.0, 0.0, "--scaling zero-one"),
    "Normalize(mean 0.5, std 0.5): [-1, 1]": (2.0, -1.0, "--scaling minus-one-one"),
    "Normalize(mean 0.5, std 0.5 * 2): [-0.5, 0.5]": (1.0, -0.5, ""),
    "x * 0.5 + 0.5: [0.5, 1]": (0.5, 0.5, ""),
}
VIEWS = (
    "centre",
    *(
        words
        for corner in ("top left", "top right", "bottom left", "bottom right")
        for words in (corner, "mirrored")
    ),
    "centre, mirrored",
)


def augmented(faces: NDArray[np.uint8], seed: int) -> str:
    """Return HTML with the same faces [N, 48, 48] under each augmentation, one row each."""
    together = {name: value for changes in KINDS.values() for name, value in changes.items()}
    parts = [
        "<h2>Augmentation of the same faces</h2><p>Scaled to [-1, 1], as in training: padded, "
        "exposed and erased pixels are 0, mid-grey.</p>"
    ]
    for name, changes in {**KINDS, TOGETHER: together}.items():
        config = Config.model_validate({"mirror": False, **changes})
        draws = make_draws(config, len(faces), torch.device("cpu"))
        generator = torch.Generator().manual_seed(seed)
        redraw(draws, config, generator, generator)
        shown = augment(scale(torch.from_numpy(faces), config.scaling), config, draws)
        parts.append(f"<h3>{name}</h3><div>{''.join(map(picture, greys(shown)))}</div>")
    return "".join(parts)


def scalings(training: NDArray[np.uint8], faces: NDArray[np.uint8]) -> str:
    """Return HTML with the report's scalings.

    Shows statistics over the `training` images [N, 48, 48], and `faces` [M, 48, 48] on a common
    grey scale.
    """
    counts = np.bincount(training.ravel(), minlength=256)
    unit = np.arange(256) / 255
    rows, pictures = [], []
    for name, (factor, summand, option) in SCALINGS.items():
        values = unit * factor + summand
        present = values[counts > 0]
        mean = np.average(values, weights=counts)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
        rows.append(
            f"<tr><td>{name}</td><td>{present.min():.3f} to {present.max():.3f}</td>"
            f"<td>{mean:.3f}</td><td>{deviation:.3f}</td><td>{option or 'no option'}</td></tr>"
        )
        scaled = scale(torch.from_numpy(faces), "zero-one") * factor + summand
        pictures.append(f"<h3>{name}</h3><div>{''.join(map(picture, greys(scaled)))}</div>")
    return (
        "<h2>Scaling of the same faces</h2><p>The numbers are of all training images. Two of the "
        "four are values of <code>--scaling</code>; the report also tried the others.</p>"
        "<table><tr><th>scaling</th><th>range</th><th>mean</th><th>standard deviation</th>"
        f"<th>option</th></tr>{''.join(rows)}</table><p>In every row below, black is -1, "
        "white is 1 and mid-grey is 0, to show range and centre.</p>" + "".join(pictures)
    )


def ten_crop(faces: NDArray[np.uint8]) -> str:
    """Return HTML with the ten views of each face [N, 48, 48], one row each."""
    seen = [greys(view) for view in views(scale(torch.from_numpy(faces), Config().scaling), TTA)]
    rows = (
        "".join(captioned(view[i], words) for view, words in zip(seen, VIEWS, strict=True))
        for i in range(len(faces))
    )
    return (
        "<h2>Ten-crop at test time</h2><p>With <code>--tta ten-crop</code> the network sees these "
        "views of a face, and their scores are averaged.</p>"
        + "".join(f"<div>{row}</div>" for row in rows)
    )


def greys(scaled: Tensor) -> NDArray[np.uint8]:
    """Convert scaled images [N, 1, 48, 48] to uint8 [N, 48, 48]: -1 is black, 1 is white."""
    shown: NDArray[np.uint8] = (
        ((scaled.squeeze(1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    )
    return shown


@dataclass(frozen=True)
class Oversampled:
    """Oversampling of a training class, step by step; images are uint8 [n, 48, 48].

    First `mirrored` are added, then `turned` (rotated): those of the originals, then of the
    mirrored.
    """

    name: str
    others: int  # images of other classes
    originals: Tensor
    mirrored: Tensor
    turned: Tensor

    def steps(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of training images and of images of the class after each step."""
        counts = np.cumsum([len(self.originals), len(self.mirrored), len(self.turned)]).tolist()
        steps = ("as they are", "mirrored ones added", "rotated ones added")
        return {
            step: (self.others + count, count) for step, count in zip(steps, counts, strict=True)
        }


def oversampled(training: Faces, seed: int) -> Oversampled:
    """Return what training adds to the `training` images by default."""
    config = Config()
    enlarged = oversample(training, config, torch.Generator().manual_seed(seed))
    label = training.classes.index(config.oversample)
    originals = training.images[training.labels == label]
    added = enlarged.images[len(training) :]
    flipped = originals.flip(-1)
    # Counted on the images, to report what was actually done.
    mirrored = int((added[: len(flipped)] == flipped).flatten(1).all(1).sum())
    return Oversampled(
        config.oversample,
        len(training) - len(originals),
        originals,
        added[:mirrored],
        added[mirrored:],
    )


def added_faces(of: Oversampled, seed: int) -> str:
    """Return HTML with the counts by step, and some added faces next to their originals."""
    counts = "".join(
        f"<tr><td>{step}</td><td>{images:,}</td><td>{count:,}</td></tr>"
        for step, (images, count) in of.steps().items()
    )
    kinds = {
        "as it is": of.originals,
        "mirrored": of.mirrored,
        "rotated": of.turned,
        "mirrored, rotated": of.turned[len(of.originals) :],
    }
    # Drawn at random, because identical images are adjacent.
    chosen = np.random.default_rng(seed).permutation(len(of.originals))[:ADDED]
    figures = "".join(
        "<figure>"
        + "".join(captioned(images[i].numpy(), name) for name, images in kinds.items())
        + "</figure>"
        for i in chosen
    )
    return (
        f"<h2>Oversampling {of.name}</h2><p>Applied to the training side of the split only.</p>"
        f"<table><tr><th>step</th><th>training images</th><th>{of.name}</th></tr>{counts}</table>"
        f"<div>{figures}</div>"
    )
