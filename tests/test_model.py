"""The network matches the report's, and uses no global random generator."""

import itertools

import pytest
import torch
from torch import nn

from fer.config import Config
from fer.network.model import Net, features, parameter_count


def net_of(config: Config, classes: int = 7, seed: int = 0) -> Net:
    generator = torch.Generator().manual_seed(seed)
    return Net(config, classes, generator)


def test_the_report_network_has_184110_parameters() -> None:
    assert parameter_count(net_of(Config())) == 184_110


@pytest.mark.parametrize(
    ("pools", "output", "activation", "norm"),
    list(
        zip(
            itertools.product(["max", "average"], repeat=3),
            itertools.cycle(["none", "tanh", "sigmoid", "softmax"]),
            itertools.cycle(["prelu", "relu", "elu", "silu"]),
            itertools.cycle(["batch", "group", "none"]),
            strict=False,
        )
    ),
)
def test_every_variant_gives_scores_in_its_range(
    pools: tuple[str, str, str], output: str, activation: str, norm: str
) -> None:
    config = Config.model_validate(
        {
            **dict(zip(("pool1", "pool2", "pool3"), pools, strict=True)),
            "output_activation": output,
            "conv_activation": activation,
            "norm": norm,
            "fc_width": 24,
        }
    )
    scores = net_of(config, classes=6)(torch.randn(4, 1, 48, 48))
    assert scores.shape == (4, 6)
    low, high = {"tanh": (-1, 1), "sigmoid": (0, 1), "softmax": (0, 1)}.get(output, (-9e9, 9e9))
    assert scores.min() >= low
    assert scores.max() <= high
    if output == "softmax":
        torch.testing.assert_close(scores.sum(1), torch.ones(4))


def test_weights_come_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = net_of(Config()), net_of(Config()), net_of(Config(), seed=1)
    first.train()(torch.zeros(2, 1, 48, 48))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [net.state_dict()["block2.0.weight"] for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_weights_have_the_spread_of_pytorch_defaults() -> None:
    net = net_of(Config())
    with torch.random.fork_rng():
        torch.manual_seed(0)  # forty biases of an unlucky draw would lie closer together
        stock = [nn.Conv2d(44, 40, 5), nn.Linear(1764, 70)]
    ours = [net.block2[0], net.dense1[0]]
    for mine, theirs in zip(ours, stock, strict=True):
        for name in ("weight", "bias"):
            a, b = getattr(mine, name).detach(), getattr(theirs, name).detach()
            assert a.abs().max() <= b.abs().max() * 1.2
            assert a.std().item() == pytest.approx(b.std().item(), rel=0.35)
    state = net.state_dict()
    assert torch.equal(state["norm1.weight"], torch.ones(44))
    assert state["block1.1.weight"].item() == 0.25


def test_dropout_leaves_what_was_drawn_and_scales_it_up() -> None:
    dropping, plain = net_of(Config(dropout=0.75)), net_of(Config())
    images = torch.rand(4, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    kept = torch.ones(4, features(Config()), dtype=torch.bool)
    seen: list[torch.Tensor] = []
    for net in (dropping, plain):
        net.eval()
        net.dense1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    kept[:, ::4] = False
    dropping(images, kept), plain(images), dropping(images)
    dropped, whole, evaluated = seen
    assert torch.equal(evaluated, whole)
    assert not dropped[:, ::4].any()
    torch.testing.assert_close(dropped[:, 1::4], 4 * whole[:, 1::4])
