"""The fast paths compute what the eager float32 step with PyTorch's own layers computes."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fer.config import Config
from fer.fit import make_optimizer, step
from fer.model import Net
from fer.prelu import PReLU

OPTIMIZERS = ["adam", "adamax", "sgd", "rmsprop", "adagrad", "asgd", "rprop"]
VARIANTS: list[dict[str, Any]] = [
    *({"optimizer": name, "lr": 1e-3} for name in OPTIMIZERS),
    *({"output_activation": name} for name in ("none", "tanh", "sigmoid", "softmax")),
    *({f"pool{i}": kind} for i in (1, 2, 3) for kind in ("max", "average")),
    {"conv_activation": "relu"},
    {"batch_norm": False},
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.3, 1.0])
def test_prelu_equals_pytorchs(layout: torch.memory_format, slope: float) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 5, 9, 9, generator=generator).contiguous(memory_format=layout)
    inputs[0, 0, 0, 0] = 0
    gradient = torch.randn(8, 5, 9, 9, generator=generator)
    results = []
    for layer in (PReLU(init=slope), nn.PReLU(init=slope)):
        features = inputs.clone().requires_grad_()
        output = layer(features)
        output.backward(gradient)
        results.append((output, features.grad, layer.weight.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def stock(net: Net) -> Net:
    """`net` with PyTorch's own PReLU."""
    for block in (net.block1, net.block2, net.block3):
        assert isinstance(block, nn.Sequential)
        if isinstance(block[1], PReLU):
            layer = nn.PReLU()
            layer.load_state_dict(block[1].state_dict())
            block[1] = layer
    return net.to(memory_format=torch.contiguous_format)


def one_step(config: Config, reference: bool) -> tuple[float, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    net = Net(config, 7, generator, generator)
    net = stock(net) if reference else net
    images = torch.rand(32, 1, 48, 48, generator=generator) * 2 - 1
    labels = torch.randint(0, 7, (32,), generator=generator)
    net.train()
    loss, _ = step(net, make_optimizer(config, net), images, labels)
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    return float(loss), gradient


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_float32_step_equals_the_reference(variant: dict[str, Any]) -> None:
    config = Config.model_validate({**variant, "precision": "float32"})
    (loss, gradient), (expected_loss, expected) = (one_step(config, r) for r in (False, True))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    # Rounding may choose another of two nearly equal maxima of a pooling window.
    assert (gradient - expected).norm() <= 5e-3 * expected.norm()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_bfloat16_step_is_near_the_reference(variant: dict[str, Any]) -> None:
    config = Config.model_validate({**variant, "precision": "bfloat16"})
    loss, gradient = one_step(config, reference=False)
    expected_loss, expected = one_step(
        config.model_copy(update={"precision": "float32"}), reference=True
    )
    assert loss == pytest.approx(expected_loss, rel=0.01)
    assert F.cosine_similarity(gradient, expected, dim=0) > 0.98
