"""The network's forward pass on a GPU, in as few kernels as PyTorch and Triton allow.

Same layers as `Net.forward`: with bfloat16 precision the convolutions compute in bfloat16; bias,
activation and pooling compute in float32 and round once.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer.network.gpu_kernels import pooled
from fer.network.prelu import PReLU

Net = Any
Block = Any
"""`Net` and `Block` of `fer.network`; importing them would be circular."""


def scores(net: Net, images: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return the scores [N, classes] of scaled images [N, 1, 48, 48], float32 or bfloat16."""
    convolutions = (net.block1[0], net.block2[0], net.block3[0], net.residual2)
    weights: tuple[Tensor, ...] = tuple(each.weight for each in convolutions)
    if net.in_bfloat16:
        images = images.to(torch.bfloat16)
        weights = _Rounded.apply(*weights)
    first, second, third, residual = weights
    out = _normed(net.norm1, _block(net.block1, images, first))
    out = _block(net.block2, out, second)
    out = _beside(_normed(net.norm2, out, net.residual2.bias), out, residual)
    out = _normed(net.norm3, _block(net.block3, out, third))
    flat = out.to(torch.float32, memory_format=torch.contiguous_format).flatten(1)
    if kept is not None:
        flat = flat * kept / net.keep
    found: Tensor = net.dense2(net.dense1(flat))
    return found


class _Rounded(torch.autograd.Function):
    """Cast all weights to bfloat16 in one kernel, and their gradients back in another."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        rounded = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
        torch._foreach_copy_(rounded, weights)
        return tuple(rounded)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        whole = [torch.empty_like(each, dtype=torch.float32) for each in gradients]
        torch._foreach_copy_(whole, gradients)
        return tuple(whole)


def _block(block: Block, images: Tensor, weight: Tensor) -> Tensor:
    convolution, activation, pool = block
    if not isinstance(activation, PReLU | nn.ReLU):  # not fused: PyTorch also adds the bias
        bias = convolution.bias.to(images.dtype)
        found: Tensor = pool(activation(F.conv2d(images, weight, bias, padding=1)))
        return found
    slope: Tensor
    if isinstance(activation, PReLU):
        slope = activation.weight
    else:
        slope = torch.zeros(1, device=images.device)
    features = F.conv2d(images, weight, padding=1)
    return pooled(features, convolution.bias, slope, pool.stride, isinstance(pool, nn.MaxPool2d))


def _normed(norm: nn.Module, images: Tensor, shift: Tensor | None = None) -> Tensor:
    """Normalise, and add `shift` [C] if given. Unlike PyTorch's layer, does not update
    `num_batches_tracked`, which nothing reads."""
    if isinstance(norm, nn.BatchNorm2d):
        bias = norm.bias if shift is None else norm.bias + shift
        return F.batch_norm(
            images, norm.running_mean, norm.running_var, norm.weight, bias,
            norm.training, norm.momentum or 0.0, norm.eps,
        )  # fmt: skip
    if isinstance(norm, nn.GroupNorm):
        bias = norm.bias if shift is None else norm.bias + shift
        whole = images.float()  # on a GPU the weights must have the same dtype
        return F.group_norm(whole, norm.num_groups, norm.weight, bias, norm.eps).to(images.dtype)
    moved: Tensor = norm(images)
    return moved if shift is None else moved + shift.to(images.dtype)[:, None, None]


def _beside(normed: Tensor, images: Tensor, weight: Tensor) -> Tensor:
    """Return `normed` plus a 1x1 convolution of `images`, as one matrix product."""
    rows = images.permute(0, 2, 3, 1).flatten(0, 2)
    wide = normed.permute(0, 2, 3, 1).flatten(0, 2)
    count, channels, height, width = normed.shape
    summed = torch.addmm(wide, rows, weight.flatten(1).t())
    return summed.view(count, height, width, channels).permute(0, 3, 1, 2)
