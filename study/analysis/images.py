"""The noise of the validation images, which the runs of a comparison share.

A run keeps which of them it had right: a mask, base64 of numpy.packbits. Without masks nothing is
assumed of it: the binomial error of one run is mostly noise that other seeds do not share, and far
too wide. On 800 images of FER-2013, five seeds with and without oversampling and with SiLU, what
images added by themselves was 0.06 to 0.25 points of standard error beside 0.4 to 0.7 of seeds.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.analysis.effects import Effect, split_by_seed
from study.analysis.noise import usable
from study.spec.identity import Identity

SAME_FOR_ALL = "all share their validation images, whose own noise is not in this"
COUNTED = "the noise of the validation images, which all share, is in this"
OTHERS_PER_SEED = "each seed has validation images of its own, so their noise is in this"


def unpacked(mask: str) -> NDArray[np.float64]:
    """Which cases [N] were right, 0 or 1; up to seven that do not exist count as wrong."""
    return np.unpackbits(np.frombuffer(base64.b64decode(mask), np.uint8)).astype(np.float64)


def have_masks(found: Sequence[Effect]) -> bool:
    """Whether all runs have a mask, of the same cases as far as one can tell."""
    lengths = {len(mask) for effect in found for mask in effect.right or ("",)}
    return len(lengths) == 1 and 0 not in lengths


def with_images(seeds: float, value: Effect, control: Effect) -> float:
    """Variance of the mean difference of two values over seeds and images, where `seeds` is that
    over seeds alone, in squared points.

    Two-way clustering (Cameron, Gelbach, Miller 2011, Journal of Business & Economic Statistics
    29(2)): seeds + images - cells, no less than either of the first two.
    """
    images, cells = _clusters(value, control)
    return max(seeds, images, seeds + images - cells)


def left_with_many_seeds(value: Effect, control: Effect) -> float:
    """Variance that the images alone leave to the difference of two values, however many seeds
    there are, in squared points; 0 where masks do not tell."""
    if not have_masks([value, control]):
        return 0.0
    images, cells = _clusters(value, control)
    return max(0.0, images - cells)


def _clusters(value: Effect, control: Effect) -> tuple[float, float]:
    theirs = dict(zip(control.seeds, control.right, strict=True))
    gains = 100 * np.array(
        [
            unpacked(mask) - unpacked(theirs[seed])
            for seed, mask in zip(value.seeds, value.right, strict=True)
            if seed in theirs
        ]
    )
    gains -= gains.mean()
    images = float(np.square(gains.mean(0)).mean() / gains.shape[1])
    return images, float(np.square(gains).mean() / gains.size)


@dataclass(frozen=True)
class Spread:
    """Where the noise of a value's score comes from, standard deviations in points."""

    flips: float  # over seeds, as if each image were right or wrong by itself
    together: float  # over seeds beyond that: all images moved together
    sample: float  # over validation sets of the same size
    images: int


def spread_of(found: Sequence[Effect]) -> Spread | None:
    """The mean spread of the values with two seeds or more that all have masks; None without one.

    Most of the variance between runs is that of a finite set of images (arXiv 2304.01910).
    """
    found = usable(found)
    if not found or not have_masks(found):
        return None
    flips, overs, samples, cases = [], [], [], 0
    for effect in found:
        right = 100 * np.array([unpacked(mask) for mask in effect.right])
        cases = right.shape[1]
        flip = right.var(0, ddof=1).mean() / cases
        flips.append(flip)
        overs.append(right.mean(1).var(ddof=1) - flip)
        samples.append(right.mean() * (100 - right.mean()) / cases)
    means = (float(np.mean(each)) for each in (flips, overs, samples))
    flip, over, sample = (math.sqrt(max(0.0, each)) for each in means)
    return Spread(flip, over, sample, cases)


def spread_in_words(found: Sequence[Effect], identity: Identity) -> str:
    """Where the noise of a score comes from, or why that cannot be told."""
    spread = spread_of(found)
    if spread is not None:
        return (
            f"A score spreads over seeds by {spread.flips:.2f} points as if each image flipped by "
            f"itself, and by {spread.together:.2f} that move all images together; over other sets "
            f"of {spread.images} images by {spread.sample:.2f}."
        )
    reason = "no run kept which images it had right"
    if split_by_seed(identity):
        reason = "each seed has images of its own"
    elif not usable(found):
        reason = "that takes two seeds"
    return (
        f"Of the spread of a score, what is the images' and what the seeds' is unknown: {reason}."
    )


def in_words(found: Sequence[Effect], identity: Identity) -> str:
    """Whether the noise of the images is in the intervals of a comparison."""
    if split_by_seed(identity):
        return OTHERS_PER_SEED
    return COUNTED if have_masks(usable(found)) else SAME_FOR_ALL
