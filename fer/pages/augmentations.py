"""What augmentation, scaling, test-time views and oversampling do to faces (report, chapter 3)."""

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

CROPPED = 3  # faces in all ten views
ADDED = 4  # oversampled faces
KINDS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "mirrored with probability 1/2": {"mirror": True},
    "turned by up to 10 degrees": {"rotation": 10.0},
    "padded by 4 and cut out at random": {"crop_padding": 4},
    "zoomed by up to 10 percent": {"zoom": 0.1},
    "a rectangle erased, here from every face": {"erasing": 1.0},
}
TTA = "ten-crop"
TOGETHER = "all together"
# Each is an affine function of the pixels in [0, 1]: factor, then summand.
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
    """HTML of what each augmentation does to the same faces [N, 48, 48], a row each."""
    together = {name: value for changes in KINDS.values() for name, value in changes.items()}
    parts = [
        "<h2>Augmentation of the same faces</h2><p>Scaled to [-1, 1], as in training: what is "
        "turned or padded in, and what is erased, is 0, the grey in the middle.</p>"
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
    """HTML of the report's scalings: numbers over the `training` images [N, 48, 48], and some
    `faces` [M, 48, 48] on one axis of greys."""
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
        "four are values of <code>--scaling</code>; the report tried the others too.</p>"
        "<table><tr><th>scaling</th><th>range</th><th>mean</th><th>standard deviation</th>"
        f"<th>option</th></tr>{''.join(rows)}</table><p>In every row below, black is -1, "
        "white is 1 and the grey between them 0, so that range and centre show.</p>"
        + "".join(pictures)
    )


def ten_crop(faces: NDArray[np.uint8]) -> str:
    """HTML of the ten views of each of the faces [N, 48, 48], a row each."""
    seen = [greys(view) for view in views(scale(torch.from_numpy(faces), Config().scaling), TTA)]
    rows = (
        "".join(captioned(view[i], words) for view, words in zip(seen, VIEWS, strict=True))
        for i in range(len(faces))
    )
    return (
        "<h2>Ten-crop, at test time</h2><p>With <code>--tta ten-crop</code> these are what the "
        "network sees of one face; their scores are averaged.</p>"
        + "".join(f"<div>{row}</div>" for row in rows)
    )


def greys(scaled: Tensor) -> NDArray[np.uint8]:
    """uint8 [N, 48, 48] of scaled images [N, 1, 48, 48]: black is -1, white is 1."""
    shown: NDArray[np.uint8] = (
        ((scaled.squeeze(1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    )
    return shown


@dataclass(frozen=True)
class Oversampled:
    """A class of the training images that is oversampled, step by step; uint8 [n, 48, 48] each.

    `mirrored` are added first, then `turned`: as many of the originals, then of the mirrored.
    """

    name: str
    others: int  # images of other classes
    originals: Tensor
    mirrored: Tensor
    turned: Tensor

    def steps(self) -> dict[str, tuple[int, int]]:
        """By step, how many training images there are, and how many of the class."""
        counts = np.cumsum([len(self.originals), len(self.mirrored), len(self.turned)]).tolist()
        steps = ("as they are", "mirrored ones added", "turned ones added")
        return {
            step: (self.others + count, count) for step, count in zip(steps, counts, strict=True)
        }


def oversampled(training: Faces, seed: int) -> Oversampled:
    """What training by default adds to the `training` images."""
    config = Config()
    enlarged = oversample(training, config, torch.Generator().manual_seed(seed))
    label = training.classes.index(config.oversample)
    originals = training.images[training.labels == label]
    added = enlarged.images[len(training) :]
    flipped = originals.flip(-1)
    # Asked of the images, so that these are the counts of what was done.
    mirrored = int((added[: len(flipped)] == flipped).flatten(1).all(1).sum())
    return Oversampled(
        config.oversample,
        len(training) - len(originals),
        originals,
        added[:mirrored],
        added[mirrored:],
    )


def added_faces(of: Oversampled, seed: int) -> str:
    """HTML of the counts step by step, and of some added faces beside their originals."""
    counts = "".join(
        f"<tr><td>{step}</td><td>{images:,}</td><td>{count:,}</td></tr>"
        for step, (images, count) in of.steps().items()
    )
    kinds = {
        "as it is": of.originals,
        "mirrored": of.mirrored,
        "turned": of.turned,
        "mirrored, turned": of.turned[len(of.originals) :],
    }
    # Drawn, since identical images stand side by side.
    chosen = np.random.default_rng(seed).permutation(len(of.originals))[:ADDED]
    figures = "".join(
        "<figure>"
        + "".join(captioned(images[i].numpy(), name) for name, images in kinds.items())
        + "</figure>"
        for i in chosen
    )
    return (
        f"<h2>Oversampling {of.name}</h2><p>For the training side of the split alone.</p>"
        f"<table><tr><th>step</th><th>training images</th><th>{of.name}</th></tr>{counts}</table>"
        f"<div>{figures}</div>"
    )
