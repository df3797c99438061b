"""Triton kernels that gather a batch of images, and compute the loss of its scores."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fer.network import gpu_kernels

IMAGE, PIXELS = 48 * 48, 256  # pixels per image, and per program
ROWS = 64  # rows of scores per iteration
# Triton must not specialise on these being 1 or multiples of 16.
RUNTIME = ("flips", "padding", "size", "classes", "smoothing")


@triton.jit(do_not_specialize=RUNTIME)  # type: ignore[untyped-decorator]
def gathered(  # type: ignore[no-untyped-def]
    images,
    labels,
    order,
    mirrored,
    top,
    left,
    place,
    levels,
    into,
    labels_into,
    flips,
    padding,
    side: tl.constexpr,
    block: tl.constexpr,
):
    number = tl.program_id(0)
    position = tl.load(place) + number
    image = tl.load(order + position)
    pixel = tl.program_id(1) * block + tl.arange(0, block)
    y, x = pixel // side, pixel % side
    y += tl.load(top + position, mask=padding > 0, other=0).to(tl.int32) - padding
    x += tl.load(left + position, mask=padding > 0, other=0).to(tl.int32) - padding
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    turned = tl.load(mirrored + position, mask=flips > 0, other=0) != 0
    x = tl.where(turned, side - 1 - x, x)
    grey = tl.load(images + image * side * side + y * side + x, mask=inside, other=0)
    value = tl.load(levels + grey.to(tl.int32), mask=inside, other=0.0)
    tl.store(into + number.to(tl.int64) * side * side + pixel, value)
    if tl.program_id(1) == 0:
        tl.store(labels_into + number, tl.load(labels + image))


@triton.jit(do_not_specialize=RUNTIME)  # type: ignore[untyped-decorator]
def judged(  # type: ignore[no-untyped-def]
    scores,
    labels,
    gradient,
    loss_sum,
    right,
    place,
    size,
    classes,
    smoothing,
    rows: tl.constexpr,
    lanes: tl.constexpr,
):
    lane = tl.arange(0, lanes)[None, :]
    loss, hits = 0.0, 0
    for first in range(0, size, rows):
        row = first + tl.arange(0, rows)
        exists = row < size
        inside = exists[:, None] & (lane < classes)
        here = row[:, None] * classes + lane
        score = tl.load(scores + here, mask=inside, other=float("-inf"))
        label = tl.load(labels + row, mask=exists, other=0).to(tl.int32)[:, None]
        shifted = score - tl.where(exists, tl.max(score, axis=1), 0.0)[:, None]
        grown = tl.where(inside, tl.exp(shifted), 0.0)
        total = tl.where(exists, tl.sum(grown, axis=1), 1.0)[:, None]
        wanted = tl.where(lane == label, 1.0 - smoothing, 0.0) + smoothing / classes
        surprise = tl.where(inside, wanted * (tl.log(total) - shifted), 0.0)
        loss += tl.sum(tl.sum(surprise, axis=1), axis=0)
        tl.store(gradient + here, (grown / total - wanted) / size, mask=inside)
        truth = tl.sum(tl.where(lane == label, score, 0.0), axis=1)[:, None]
        # As in argmax, ties go to the first class.
        beaten = inside & ((score > truth) | ((score == truth) & (lane < label)))
        hit = exists[:, None] & (tl.sum(beaten.to(tl.int32), axis=1)[:, None] == 0)
        hits += tl.sum(tl.sum((hit & (truth == truth)).to(tl.int32), axis=1), axis=0)
    tl.store(loss_sum, tl.load(loss_sum) + loss)
    tl.store(right, tl.load(right) + hits)
    tl.store(place, tl.load(place) + size)


def gather(
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    mirrored: Tensor | None,
    corners: tuple[Tensor, Tensor] | None,
    padding: int,
    place: Tensor,
    size: int,
    levels: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the `size` images [size, 1, 48, 48] of an epoch from `place` on, and their labels.

    `order` holds the image index of each position. Grey values are mapped through `levels` [256];
    then images are mirrored, and with `corners` (top and left) padded with zeros and cropped.
    """
    into = torch.empty(size, 1, 48, 48, dtype=levels.dtype, device=levels.device)
    labels_into = torch.empty(size, dtype=torch.int64, device=levels.device)
    top, left = corners or (order, order)
    gpu_kernels.launch(
        gathered, (size, IMAGE // PIXELS), images, labels, order,
        images if mirrored is None else mirrored.view(torch.uint8), top, left, place, levels,
        into, labels_into, int(mirrored is not None), padding if corners else 0, 48, PIXELS,
    )  # fmt: skip
    return into, labels_into


def judge(
    scores: Tensor,
    labels: Tensor,
    smoothing: float,
    loss_sum: Tensor,
    right: Tensor,
    place: Tensor,
) -> Tensor:
    """Return the gradient of the mean cross entropy of float32 scores [N, classes].

    Adds the N losses to `loss_sum`, the number of right predictions to `right`, and N to `place`.
    """
    size, classes = scores.shape
    gradient = torch.empty_like(scores)
    gpu_kernels.launch(
        judged, (1,), scores, labels, gradient, loss_sum, right, place,
        size, classes, smoothing, ROWS, max(8, triton.next_power_of_2(classes)),
    )  # fmt: skip
    return gradient
