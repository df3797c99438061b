"""Activation and pooling in one pass over a GPU's memory, in Triton.

PyTorch writes the activated features out, keeps eight bytes for each maximum's place, and adds
gradients up in an order that changes from run to run. Here a place takes one byte, nothing is
written between, and each gradient is gathered in a fixed order: the same bits every time.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # numbers that a program computes
SIDE = 3  # of a pooling window, in either direction


@triton.jit(do_not_specialize=["total"])  # type: ignore[untyped-decorator]
def pooled_forward(  # type: ignore[no-untyped-def]
    features,
    slope,
    output,
    places,
    total,
    channels: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
    pooled_height: tl.constexpr,
    pooled_width: tl.constexpr,
    stride: tl.constexpr,
    largest: tl.constexpr,
    block: tl.constexpr,
):
    index = tl.program_id(0) * block + tl.arange(0, block)
    inside = index < total
    channel, pixel = index % channels, index // channels
    x, row = pixel % pooled_width, pixel // pooled_width
    y, image = row % pooled_height, row // pooled_height
    first = ((image * height + y * stride) * width + x * stride) * channels + channel
    steepness = tl.load(slope)
    result = tl.full([block], float("-inf") if largest else 0.0, tl.float32)
    place = tl.full([block], 0, tl.int32)
    for k in tl.static_range(9):
        at = first + ((k // 3) * width + k % 3) * channels
        value = tl.load(features + at, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(value > 0, value, value * steepness)
        if largest:
            # What is no number is taken, so that it stays none.
            taken = (value > result) | (value != value)
            result = tl.where(taken, value, result)
            place = tl.where(taken, k, place)
        else:
            result += value
    if largest:
        tl.store(places + index, place.to(tl.uint8), mask=inside)
    else:
        result = result / 9
    tl.store(output + index, result.to(output.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["total"])  # type: ignore[untyped-decorator]
def pooled_backward(  # type: ignore[no-untyped-def]
    features,
    slope,
    gradient,
    places,
    into,
    parts,
    total,
    channels: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
    pooled_height: tl.constexpr,
    pooled_width: tl.constexpr,
    stride: tl.constexpr,
    largest: tl.constexpr,
    block: tl.constexpr,
):
    index = tl.program_id(0) * block + tl.arange(0, block)
    inside = index < total
    channel, pixel = index % channels, index // channels
    x, row = pixel % width, pixel // width
    y, image = row % height, row // height
    arrived = tl.full([block], 0.0, tl.float32)
    for k in tl.static_range(9):
        # The window in which this number has place k, if there is one.
        top, left = y - k // 3, x - k % 3
        pooled_y, pooled_x = top // stride, left // stride
        exists = inside & (top >= 0) & (left >= 0) & (top % stride == 0) & (left % stride == 0)
        exists = exists & (pooled_y < pooled_height) & (pooled_x < pooled_width)
        at = ((image * pooled_height + pooled_y) * pooled_width + pooled_x) * channels + channel
        value = tl.load(gradient + at, mask=exists, other=0.0).to(tl.float32)
        if largest:
            place = tl.load(places + at, mask=exists, other=255)
            value = tl.where(place == k, value, 0.0)
        arrived += value
    if not largest:
        arrived = arrived / 9
    steepness = tl.load(slope)
    feature = tl.load(features + index, mask=inside, other=1.0).to(tl.float32)
    falls = inside & ~(feature > 0)
    passed = tl.where(falls, arrived * steepness, arrived)
    tl.store(into + index, passed.to(into.dtype.element_ty), mask=inside)
    tl.store(parts + tl.program_id(0), tl.sum(tl.where(falls, arrived * feature, 0.0)))


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, slope: Tensor, stride: int, largest: bool) -> Tensor:
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
        geometry = (channels, *sides, *pooled, stride, largest, BLOCK)
        _launch(pooled_forward, output.numel(), (features, slope, output, places), geometry)
        ctx.save_for_backward(features, slope, places if largest else None)
        ctx.geometry = geometry
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, slope, places = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        into = torch.empty_like(features)
        parts = torch.empty(
            triton.cdiv(features.numel(), BLOCK), dtype=torch.float32, device=features.device
        )
        kept = gradient if places is None else places
        tensors = (features, slope, gradient, kept, into, parts)
        _launch(pooled_backward, features.numel(), tensors, ctx.geometry)
        return into, parts.sum().reshape(1), None, None


def _launch(kernel: Any, total: int, tensors: tuple[Tensor, ...], geometry: Any) -> None:
    kernel[(triton.cdiv(total, BLOCK),)](*tensors, total, *geometry)


def pooled(features: Tensor, slope: Tensor, stride: int, largest: bool) -> Tensor:
    """Activation with that slope [1] below zero, then 3x3 pooling, of features [N, C, H, W].

    The largest or the mean of each window, in the features' type (float32 or bfloat16), computed
    in float32 and rounded once.
    """
    output: Tensor = _Pooled.apply(features, slope, stride, largest)
    return output
