"""Convolution, activation and pooling: as PyTorch layers, or fused by compiled kernels."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from fer.config import Pooling
from fer.network.kernels import LANES, PART, SIDE, TAPS, WIDEST, Geometry
from fer.network.prelu import PReLU


class Block(nn.Sequential):
    """Convolution with a padding of 1, activation and 3x3 pooling, as three layers.

    With `kernels` (see `fer.network.kernels`), activation and pooling are fused on a CPU, together
    with the 5x5 convolution in a block that reads 48x48 images. A fused kernel computes in float32
    and rounds once, to bfloat16 under autocast. For GPUs see `fer.network.gpu_net`.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        activation: nn.Module,
        pooling: Pooling,
        stride: int,
        kernels: ctypes.CDLL | None,
    ) -> None:
        pool = nn.MaxPool2d(3, stride) if pooling == "max" else nn.AvgPool2d(3, stride)
        super().__init__(convolution, activation, pool)
        # The kernels support activations that are linear below zero.
        self.kernels = kernels if isinstance(activation, PReLU | nn.ReLU) else None
        self.stride, self.max = stride, pooling == "max"

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor
        convolution, activation, pool = self
        if self.kernels is None or input.device.type != "cpu":
            output = pool(activation(convolution(input)))
            return output
        slope = torch.zeros(1, device=input.device)
        if isinstance(activation, PReLU):
            slope = activation.weight
        keep = torch.is_grad_enabled()  # for the gradient; always off inside forward
        weight = convolution.weight
        assert isinstance(weight, Tensor)
        reads_images = input.shape[1:] == (1, SIDE, SIDE) and input.dtype == torch.float32
        if (
            reads_images
            and weight[0].numel() == TAPS
            and self.stride == 2
            and not input.requires_grad
        ):
            output = _Convolved.apply(self, keep, input, weight, convolution.bias, slope)
            return output
        features = convolution(input)
        fits = all(3 <= side <= WIDEST for side in features.shape[2:])
        if fits and features.dtype in (torch.float32, torch.bfloat16):
            output = _Pooled.apply(self, keep, features, slope)
        else:
            output = pool(activation(features))
        return output

    def geometry(self, shape: torch.Size, dtype: torch.dtype, slope: Tensor) -> Geometry:
        """Return the geometry of a convolution's output [N, channels, height, width]."""
        return Geometry(
            *shape,
            stride=self.stride,
            max=self.max,
            bfloat16=dtype == torch.bfloat16,
            threads=torch.get_num_threads(),
            slope=slope.item(),
        )


class _Convolved(torch.autograd.Function):
    """Convolution, activation and pooling of a block that reads images."""

    @staticmethod
    def forward(
        ctx: Any,
        block: Block,
        keep: bool,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: Tensor,
    ) -> Tensor:
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        side = SIDE + 2 - weight.shape[-1] + 1
        shape = torch.Size((len(images), len(weight), side, side))
        ctx.geometry = geometry = block.geometry(shape, dtype, slope)
        ctx.kernels = block.kernels
        sources = images.contiguous(), weight.contiguous(), bias.contiguous()
        output, kept, places = _outputs(geometry, dtype, keep)
        _call(ctx.kernels.convolved_forward, geometry, *sources, output, kept, places)
        ctx.save_for_backward(*sources, kept, places)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        geometry, (images, weight, bias, *saved) = ctx.geometry, ctx.saved_tensors
        parts = _parts(geometry, TAPS + 2)
        gradient = _in_order(gradients[0])
        _call(
            ctx.kernels.convolved_backward, geometry, images, weight, bias, gradient, *saved, parts
        )
        sums = parts.sum(0)
        taps = sums[:TAPS].t().reshape(weight.shape)
        return None, None, None, taps, sums[TAPS], sums[TAPS + 1].sum().reshape(1)


class _Pooled(torch.autograd.Function):
    """Activation and pooling of a convolution's output."""

    @staticmethod
    def forward(ctx: Any, block: Block, keep: bool, features: Tensor, slope: Tensor) -> Tensor:
        ctx.geometry = geometry = block.geometry(features.shape, features.dtype, slope)
        ctx.kernels = block.kernels
        features = _in_order(features)
        output, kept, places = _outputs(geometry, features.dtype, keep)
        _call(ctx.kernels.pooled_forward, geometry, features, output, kept, places)
        ctx.save_for_backward(features, kept, places)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        geometry, (features, *saved) = ctx.geometry, ctx.saved_tensors
        into = torch.zeros_like(features)
        parts = _parts(geometry, 1)
        gradient = _in_order(gradients[0])
        _call(ctx.kernels.pooled_backward, geometry, features, gradient, *saved, into, parts)
        return None, None, into, parts.sum().reshape(1)


def _outputs(
    geometry: Geometry, dtype: torch.dtype, keep: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Allocate the output, and for max pooling the values and positions its gradient needs."""
    height, width = (
        (size - 3) // geometry.stride + 1 for size in (geometry.height, geometry.width)
    )
    images, channels = geometry.images, geometry.channels
    output = torch.empty(
        (images, channels, height, width), dtype=dtype, memory_format=torch.channels_last
    )
    if not (keep and geometry.max):
        return output, None, None
    groups = -(-channels // LANES)
    kept = torch.empty(images, groups, height, width, LANES, dtype=dtype)
    return output, kept, torch.empty_like(kept, dtype=torch.uint16)


def _parts(geometry: Geometry, sums: int) -> Tensor:
    return torch.empty(-(-geometry.images // PART), sums, geometry.channels)


def _in_order(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _call(kernel: Any, geometry: Geometry, *tensors: Tensor | None) -> None:
    kernel(geometry, *(None if tensor is None else tensor.data_ptr() for tensor in tensors))
