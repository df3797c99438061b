"""The report's convolutional network (figures 4a and 4b), with the variations it tested."""

import ctypes
import math

import torch
from torch import Tensor, nn

from fer.config import Config, Pooling
from fer.network.block import Block
from fer.network.kernels import Library
from fer.network.prelu import PReLU

AREA = 7 * 7  # of the feature map of a 48x48 image after the three blocks
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "prelu": PReLU,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}


class Net(nn.Module):
    """Maps scaled images [N, 1, 48, 48] to scores [N, classes].

    Three blocks of convolution, activation, pooling and normalisation, with a 1x1 convolution as a
    residual around the second normalisation, then two dense layers: 184,110 parameters with the
    report's settings. The convolutions compute in bfloat16 if `config.precision` says so; weights
    and scores are always float32.

    Weights are drawn from `generator` (CPU) with PyTorch's default distributions. Dropout masks
    are passed to `forward` (see `fer.training.draws`): the network draws nothing itself.
    """

    def __init__(
        self,
        config: Config,
        classes: int,
        generator: torch.Generator,
        kernels: Library | None = None,
    ) -> None:
        super().__init__()
        compiled = kernels if isinstance(kernels, ctypes.CDLL) else None
        self.fused = None if isinstance(kernels, ctypes.CDLL) else kernels

        def block(inputs: int, outputs: int, kernel: int, pooling: Pooling, stride: int) -> Block:
            return Block(
                nn.Conv2d(inputs, outputs, kernel, padding=1),
                ACTIVATIONS[config.conv_activation](),
                pooling,
                stride,
                compiled,
            )

        # On "meta" PyTorch's initialisation does not use the global generator.
        with torch.device("meta"):
            first, second, third = config.channels1, config.channels2, config.channels3
            self.block1 = block(1, first, 5, config.pool1, stride=2)
            self.block2 = block(first, second, 5, config.pool2, stride=2)
            self.block3 = block(second, third, 3, config.pool3, stride=1)
            self.norm1, self.norm2, self.norm3 = (
                _norm(config.norm, channels) for channels in (first, second, third)
            )
            self.residual2 = nn.Conv2d(second, second, 1)
            self.dense1 = nn.Sequential(nn.Linear(features(config), config.fc_width), nn.ELU())
            self.dense2 = nn.Sequential(
                nn.Linear(config.fc_width, classes), _output(config.output_activation)
            )
        self.keep = 1 - config.dropout
        self.in_bfloat16 = config.precision == "bfloat16"
        self.to_empty(device="cpu")
        initialise(self, generator)
        # The fastest layout for oneDNN's and cuDNN's convolutions.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        device = images.device.type
        if self.fused is not None and device == "cuda":
            return self.fused(self, images, kept)
        # Each weight is used once, so caching casts gains nothing, and they may outlive a capture.
        with torch.autocast(device, torch.bfloat16, self.in_bfloat16, cache_enabled=False):
            out: Tensor = self.norm1(self.block1(images))
            out = self.block2(out)
            out = self.norm2(out) + self.residual2(out)
            out = self.norm3(self.block3(out))
        # In float32: dense layers are 0.5% of the work, and bfloat16 scores (8 bits) would tie.
        flat = out.float().flatten(1)
        if kept is not None:
            flat = flat * kept / self.keep
        scores: Tensor = self.dense2(self.dense1(flat))
        return scores


def initialise(net: nn.Module, generator: torch.Generator) -> None:
    """Initialise every layer as PyTorch does by default, but from `generator`."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.PReLU | nn.BatchNorm2d | nn.GroupNorm):
            module.reset_parameters()  # sets constants, draws nothing


def parameter_count(net: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def features(config: Config) -> int:
    """Return the number of features per image that the dense layers read."""
    return config.channels3 * AREA


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.Identity()


def _output(activation: str) -> nn.Module:
    return {
        "none": nn.Identity(),
        "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(),
        "softmax": nn.Softmax(dim=1),
    }[activation]
