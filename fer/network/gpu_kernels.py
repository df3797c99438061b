"""What PyTorch has no single kernel for on a GPU, in Triton: bias, activation and pooling; the
images of a batch; and what a batch says of itself.

PyTorch writes the activated features out and keeps eight bytes for each maximum's place. Here a
place takes one byte, nothing is written between, and each gradient is gathered in a fixed order:
the same bits every time. Sizes are numbers that a kernel is given, not constants it is compiled
for: a study compiles each of them once or twice.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, LANES = 32, 64  # pixels and channels that a program of the pooling computes
SIDE = 3  # of a pooling window, in either direction
IMAGE, PIXELS = 48 * 48, 256  # of an image, and those that a program copies
JUDGED = 64  # rows of scores at a time
# Of which Triton is not to compile a variant where they are 1, or multiples of 16.
RUNTIME = (
    *("pixels", "units", "height", "width", "pooled_height", "pooled_width", "stride", "columns"),
    *("flips", "padding", "size", "classes", "smoothing"),
)


@triton.jit
def at(pixel, channel, channels):  # type: ignore[no-untyped-def]
    """Where numbers [pixels, channels] lie: a large batch has more than 32 bits count."""
    return pixel.to(tl.int64)[:, None] * channels + channel[None, :]


@triton.jit(do_not_specialize=RUNTIME)  # type: ignore[untyped-decorator]
def pooled_forward(  # type: ignore[no-untyped-def]
    features,
    bias,
    slope,
    output,
    places,
    pixels,
    units,
    height,
    width,
    pooled_height,
    pooled_width,
    stride,
    unit: tl.constexpr,
    largest: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
):
    pixel = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * lanes + tl.arange(0, lanes)
    channels = units * unit
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    x, row = pixel % pooled_width, pixel // pooled_width
    y, image = row % pooled_height, row // pooled_height
    first = (image * height + y * stride) * width + x * stride
    steepness = tl.load(slope)
    shift = tl.load(bias + channel, mask=channel < channels, other=0.0)[None, :]
    result = tl.full([rows, lanes], float("-inf") if largest else 0.0, tl.float32)
    place = tl.full([rows, lanes], 0, tl.int32)
    for k in tl.static_range(9):
        source = at(first + (k // 3) * width + k % 3, channel, channels)
        value = tl.load(features + source, mask=inside, other=0.0).to(tl.float32) + shift
        value = tl.where(value > 0, value, value * steepness)
        if largest:
            # What is no number is taken, so that it stays none.
            taken = (value > result) | (value != value)
            result = tl.where(taken, value, result)
            place = tl.where(taken, k, place)
        else:
            result += value
    into = at(pixel, channel, channels)
    if largest:
        tl.store(places + into, place.to(tl.uint8), mask=inside)
    else:
        result = result / 9
    tl.store(output + into, result.to(output.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=RUNTIME)  # type: ignore[untyped-decorator]
def pooled_backward(  # type: ignore[no-untyped-def]
    features,
    bias,
    slope,
    gradient,
    places,
    into,
    parts,
    pixels,
    units,
    height,
    width,
    pooled_height,
    pooled_width,
    stride,
    columns,
    unit: tl.constexpr,
    largest: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
):
    pixel = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * lanes + tl.arange(0, lanes)
    channels = units * unit
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    x, row = pixel % width, pixel // width
    y, image = row % height, row // height
    arrived = tl.full([rows, lanes], 0.0, tl.float32)
    for k in tl.static_range(9):
        # The window in which this number has place k, if there is one.
        top, left = y - k // 3, x - k % 3
        pooled_y, pooled_x = top // stride, left // stride
        exists = (top >= 0) & (left >= 0) & (top % stride == 0) & (left % stride == 0)
        exists = exists & (pooled_y < pooled_height) & (pooled_x < pooled_width)
        window = (image * pooled_height + pooled_y) * pooled_width + pooled_x
        source, seen = at(window, channel, channels), inside & exists[:, None]
        value = tl.load(gradient + source, mask=seen, other=0.0).to(tl.float32)
        if largest:
            place = tl.load(places + source, mask=seen, other=255)
            value = tl.where(place == k, value, 0.0)
        arrived += value
    if not largest:
        arrived = arrived / 9
    steepness = tl.load(slope)
    shift = tl.load(bias + channel, mask=channel < channels, other=0.0)[None, :]
    here = at(pixel, channel, channels)
    feature = tl.load(features + here, mask=inside, other=0.0).to(tl.float32) + shift
    falls = inside & ~(feature > 0)
    passed = tl.where(falls, arrived * steepness, arrived)
    tl.store(into + here, passed.to(into.dtype.element_ty), mask=inside)
    # Sums for the gradients of the bias, then one a block of channels for the slope's.
    sums = parts + tl.program_id(0).to(tl.int64) * columns
    passed = tl.where(inside, passed, 0.0)
    tl.store(sums + channel, tl.sum(passed, axis=0), mask=channel < channels)
    of_slope = tl.where(falls, arrived * feature, 0.0)
    tl.store(sums + channels + tl.program_id(1), tl.sum(tl.sum(of_slope, axis=1), axis=0))


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
        # The first of equals is the prediction.
        beaten = inside & ((score > truth) | ((score == truth) & (lane < label)))
        hit = exists[:, None] & (tl.sum(beaten.to(tl.int32), axis=1)[:, None] == 0)
        hits += tl.sum(tl.sum((hit & (truth == truth)).to(tl.int32), axis=1), axis=0)
    tl.store(loss_sum, tl.load(loss_sum) + loss)
    tl.store(right, tl.load(right) + hits)
    tl.store(place, tl.load(place) + size)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
    """The one place where a kernel of these is launched."""
    kernel[grid](*arguments)


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, bias: Tensor, slope: Tensor, stride: int, largest: bool
    ) -> Tensor:
        features = features.contiguous(memory_format=torch.channels_last)
        images, channels, *sides = features.shape
        pooled = [(side - SIDE) // stride + 1 for side in sides]
        output = torch.empty(
            (images, channels, *pooled),
            dtype=features.dtype,
            device=features.device,
            memory_format=torch.channels_last,
        )
        places = torch.empty_like(output, dtype=torch.uint8) if largest else output
        # Channels in fours, so that the compiler knows that as many numbers can be read at once.
        unit = 4 if channels % 4 == 0 else 1
        ctx.sizes = (channels // unit, *sides, *pooled, stride)
        ctx.constants = (unit, largest, ROWS, LANES)
        pixels = images * pooled[0] * pooled[1]
        tensors = (features, bias, slope, output, places)
        launch(
            pooled_forward, _grid(pixels, channels), *tensors, pixels, *ctx.sizes, *ctx.constants
        )
        ctx.save_for_backward(features, bias, slope, places if largest else None)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, bias, slope, places = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        into = torch.empty_like(features)
        images, channels, *sides = features.shape
        pixels = images * sides[0] * sides[1]
        grid = _grid(pixels, channels)
        columns = channels + grid[1]
        parts = torch.empty(grid[0], columns, dtype=torch.float32, device=features.device)
        tensors = (features, bias, slope, gradient, gradient if places is None else places)
        launch(
            pooled_backward,
            grid,
            *tensors,
            into,
            parts,
            pixels,
            *ctx.sizes,
            columns,
            *ctx.constants,
        )
        sums = parts.sum(0)
        of_slope = sums[channels:]
        if len(of_slope) > 1:
            of_slope = of_slope.sum(0, keepdim=True)
        return into, sums[:channels], of_slope, None, None


def _grid(pixels: int, channels: int) -> tuple[int, int]:
    return -(-pixels // ROWS), -(-channels // LANES)


def pooled(features: Tensor, bias: Tensor, slope: Tensor, stride: int, largest: bool) -> Tensor:
    """Activation with that slope [1] below zero of features [N, C, H, W] plus bias [C], then 3x3
    pooling.

    The largest or the mean of each window, in the features' type (float32 or bfloat16), computed
    in float32 and rounded once.
    """
    output: Tensor = _Pooled.apply(features, bias, slope, stride, largest)
    return output


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
    """The `size` images [size, 1, 48, 48] from a `place` in an epoch on, and their labels.

    `order` says which stands where. Grey values become those of `levels` [256]; then images are
    mirrored, and with `corners` (top and left) cut out of a padding of zeros.
    """
    into = torch.empty(size, 1, 48, 48, dtype=levels.dtype, device=levels.device)
    labels_into = torch.empty(size, dtype=torch.int64, device=levels.device)
    top, left = corners or (order, order)
    launch(
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
    """The gradient of the mean cross entropy of scores [N, classes], which are float32.

    Adds the N losses to `loss_sum`, how many scores are `right`, and N to `place`.
    """
    size, classes = scores.shape
    gradient = torch.empty_like(scores)
    launch(
        judged, (1,), scores, labels, gradient, loss_sum, right, place,
        size, classes, smoothing, JUDGED, max(8, triton.next_power_of_2(classes)),
    )  # fmt: skip
    return gradient


def probe(device: torch.device, dtype: torch.dtype) -> None:
    """Compile each kernel for a GPU, which then computes in this type, and launch it once.

    Raises whatever that raises.
    """
    for largest in (True, False):
        features = torch.zeros(1, 4, 3, 3, device=device, dtype=dtype, requires_grad=True)
        bias, slope = torch.zeros(4, device=device), torch.zeros(1, device=device)
        pooled(features, bias, slope, 1, largest).sum().backward()  # type: ignore[no-untyped-call]
    place = torch.zeros((), dtype=torch.int64, device=device)
    image = torch.zeros(1, 48, 48, dtype=torch.uint8, device=device)
    levels, one = torch.zeros(256, device=device, dtype=dtype), place.view(1)
    _, labels = gather(image, one, one, None, None, 0, place, 1, levels)
    scores = torch.zeros(1, 7, device=device)
    judge(scores, labels, 0.0, scores.sum(), place.clone(), place.clone())
    int(place)  # what fails as it runs says so here
