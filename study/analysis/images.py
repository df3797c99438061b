"""Noise from the finite set of validation images, which the runs of a comparison share.

Each run stores which images it classified correctly (`study.analysis.masks`). Without
masks this noise is not estimated: the binomial error of one run is mostly noise that other seeds
do not share, and far too wide. On 800 images of FER-2013, five seeds with and without oversampling
and with SiLU, images contributed a standard error of 0.06 to 0.25 points, seeds 0.4 to 0.7.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.analysis.effects import Effect, split_by_seed
from study.analysis.masks import unpacked
from study.analysis.noise import usable
from study.spec.identity import Identity

SAME_FOR_ALL = "the noise of the shared validation images is not included"
COUNTED = "the noise of the shared validation images is included"
OTHERS_PER_SEED = "each seed has its own validation images, so their noise is included"


def have_masks(found: Sequence[Effect]) -> bool:
    """Whether all runs have a mask, judging by its length of the same cases."""
    lengths = {len(mask) for effect in found for mask in effect.right or ("",)}
    return len(lengths) == 1 and 0 not in lengths


def with_images(seeds: float, value: Effect, control: Effect) -> float:
    """Return the variance of the mean difference of two values over seeds and images, in squared
    points; `seeds` is the variance over seeds alone.

    Two-way clustering (Cameron, Gelbach, Miller 2011, Journal of Business & Economic Statistics
    29(2)): seeds + images - cells, at least as large as either of the first two.
    """
    images, cells = _clusters(value, control)
    return max(seeds, images, seeds + images - cells)


def left_with_many_seeds(value: Effect, control: Effect) -> float:
    """Return the variance of the difference of two values due to the images alone, which more
    seeds do not reduce, in squared points; 0 without masks."""
    if not have_masks([value, control]):
        return 0.0
    images, cells = _clusters(value, control)
    return max(0.0, images - cells)


def _clusters(value: Effect, control: Effect) -> tuple[float, float]:
    theirs = dict(zip(control.seeds, control.right, strict=True))
    gains = 100 * np.array(
        [
            unpacked(mask, value.cases) - unpacked(theirs[seed], value.cases)
            for seed, mask in zip(value.seeds, value.right, strict=True)
            if seed in theirs
        ]
    )
    gains -= gains.mean()
    images = float(np.square(gains.mean(0)).mean() / gains.shape[1])
    return images, float(np.square(gains).mean() / gains.size)


@dataclass(frozen=True)
class Spread:
    """Sources of the noise of a score, as standard deviations in points."""

    flips: float  # over seeds, as if images flipped independently
    together: float  # over seeds beyond that: all images move together
    sample: float  # over validation sets of the same size
    images: int


def spread_of(found: Sequence[Effect]) -> Spread | None:
    """Return the mean spread over the values with two or more seeds; None without them or masks.

    Most of the variance between runs is that of a finite set of images (arXiv 2304.01910).
    """
    found = usable(found)
    if not found or not have_masks(found):
        return None
    flips, overs, samples, cases = [], [], [], 0
    for effect in found:
        right = 100 * np.array([unpacked(mask, effect.cases) for mask in effect.right])
        cases = right.shape[1]
        flip = right.var(0, ddof=1).mean() / cases
        flips.append(flip)
        overs.append(right.mean(1).var(ddof=1) - flip)
        samples.append(right.mean() * (100 - right.mean()) / cases)
    means = (float(np.mean(each)) for each in (flips, overs, samples))
    flip, over, sample = (math.sqrt(max(0.0, each)) for each in means)
    return Spread(flip, over, sample, cases)


def spread_in_words(found: Sequence[Effect], identity: Identity) -> str:
    """Report where the noise of a score comes from, or why that is unknown."""
    spread = spread_of(found)
    if spread is not None:
        return (
            f"Standard deviation of a score over seeds: {spread.flips:.2f} points from images "
            f"flipping independently, {spread.together:.2f} from all images moving together; over "
            f"other sets of {spread.images} images: {spread.sample:.2f}."
        )
    reason = "no run stored which images were correct"
    if split_by_seed(identity):
        reason = "each seed has its own images"
    elif not usable(found):
        reason = "that takes two seeds"
    return (
        "How much of the spread of a score is due to images and how much to seeds is unknown: "
        f"{reason}."
    )


def in_words(found: Sequence[Effect], identity: Identity) -> str:
    """Report whether the intervals of a comparison include the noise of the images."""
    if split_by_seed(identity):
        return OTHERS_PER_SEED
    return COUNTED if have_masks(usable(found)) else SAME_FOR_ALL
