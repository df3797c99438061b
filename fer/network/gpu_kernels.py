"""Triton kernels that fuse bias, activation and pooling on a GPU.

PyTorch stores the activated features and an int64 index per maximum. Here an index takes one byte,
no intermediate is stored, and each gradient is gathered in a fixed order, so results are bitwise
reproducible. Sizes are runtime arguments, not compile-time constants: a study compiles each kernel
only once or twice.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, LANES = 32, 64  # pixels and channels per program
SIDE = 3  # side of the pooling window
# Triton must not specialise on these being 1 or multiples of 16.
RUNTIME = (
    *("pixels", "units", "height", "width", "pooled_height", "pooled_width", "stride", "columns"),
)


@triton.jit
def at(pixel, channel, channels):  # type: ignore[no-untyped-def]
    """Return the offsets of [pixels, channels], in 64 bits because large batches overflow 32."""
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
            # Take NaNs, so that they stay NaN.
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
        # The window in which this pixel has index k, if there is one.
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
    # Partial sums: bias gradient by channel, then slope gradient by block of channels.
    sums = parts + tl.program_id(0).to(tl.int64) * columns
    passed = tl.where(inside, passed, 0.0)
    tl.store(sums + channel, tl.sum(passed, axis=0), mask=channel < channels)
    of_slope = tl.where(falls, arrived * feature, 0.0)
    tl.store(sums + channels + tl.program_id(1), tl.sum(tl.sum(of_slope, axis=1), axis=0))


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
    """Launch a kernel. All launches go through here, also those of `fer.training.gpu_batch`."""
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
        # Count channels in fours, so that the compiler can vectorise loads.
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
    """Add bias [C] to features [N, C, H, W], apply the activation, then 3x3 pooling.

    The activation has `slope` [1] below zero; pooling takes the maximum (`largest`) or the mean.
    Computes in float32 and rounds once, to the features' dtype (float32 or bfloat16).
    """
    output: Tensor = _Pooled.apply(features, bias, slope, stride, largest)
    return output
