"""The fast paths match the eager float32 step with PyTorch's own layers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fer.config import Config
from fer.network import kernels
from fer.network.block import Block
from fer.network.model import Net
from fer.network.prelu import PReLU
from fer.training.fit import update
from fer.training.optimizers import make_optimizer

OPTIMIZERS = ["adam", "adamax", "sgd", "rmsprop", "adagrad", "asgd", "rprop"]
VARIANTS: list[dict[str, Any]] = [
    *({"optimizer": name, "lr": 1e-3} for name in OPTIMIZERS),
    *({"output_activation": name} for name in ("none", "tanh", "sigmoid", "softmax")),
    *({f"pool{i}": kind} for i in (1, 2, 3) for kind in ("max", "average")),
    {"pool1": "average", "conv_activation": "relu"},
    {"conv_activation": "relu"},
    {"norm": "none"},
]


@pytest.fixture(params=["compiled", "PyTorch's"])
def library(request: pytest.FixtureRequest) -> Any:
    """The kernels of a machine with a C++ compiler, and of one without."""
    return compiled() if request.param == "compiled" else None


def compiled() -> Any:
    made = kernels.load()
    if made.library is None:
        pytest.skip(made.description)
    return made.library


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


def exact(*shape: int, generator: torch.Generator) -> Tensor:
    """Multiples of 1/64 in [-1, 1].

    Sums of their products have no rounding, so that no maximum depends on the order of a sum,
    which differs between processors: another place would get the whole gradient.
    """
    return torch.randint(-64, 65, shape, generator=generator) / 64


def block_pass(block: Block, images: Tensor, seed: int = 5) -> list[Tensor]:
    """A block's output, and its gradients for the images (if they want any) and its weights."""
    for parameter in block.parameters():
        parameter.grad = None
    images.grad = None
    output = block(images)
    # Of one sign: the slope's gradient would else be a small difference of large sums.
    output.backward(torch.rand(output.shape, generator=torch.Generator().manual_seed(seed)))
    found = [output.detach(), *(p.grad for p in block.parameters() if p.grad is not None)]
    return found if images.grad is None else [*found, images.grad.clone()]


@settings(deadline=None, max_examples=60)
@given(
    inputs=st.sampled_from([1, 3]),
    outputs=st.integers(1, 50),
    images=st.integers(1, 20),
    height=st.integers(5, 48),
    width=st.integers(5, 48),
    stride=st.integers(1, 3),
    pooling=st.sampled_from(["max", "average"]),
    # With a slope of 0 all that is negative ties, and either place may get the gradient.
    slope=st.one_of(st.none(), st.floats(-1.5, -0.01), st.floats(0.01, 1.5)),
    seed=st.integers(0, 1000),
)
def test_a_compiled_block_equals_pytorchs_layers_at_any_size(
    inputs: int,
    outputs: int,
    images: int,
    height: int,
    width: int,
    stride: int,
    pooling: Any,
    slope: float | None,
    seed: int,
) -> None:
    library = compiled()
    convolution = nn.Conv2d(inputs, outputs, 5, padding=1)
    generator = torch.Generator().manual_seed(seed)
    for parameter in convolution.parameters():
        parameter.data = exact(*parameter.shape, generator=generator)
    activation = nn.ReLU() if slope is None else PReLU(init=slope)
    blocks = [Block(convolution, activation, pooling, stride, each) for each in (library, None)]
    pixels = exact(images, inputs, height, width, generator=generator)
    pixels.requires_grad_(inputs > 1)
    for ours, theirs in zip(*(block_pass(block, pixels) for block in blocks), strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-5


@pytest.mark.parametrize("slope", [0.25, -0.25])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_first_block_equals_pytorchs_layers(pooling: Any, slope: float) -> None:
    convolution, activation = nn.Conv2d(1, 44, 5, padding=1), PReLU(init=slope)
    generator = torch.Generator().manual_seed(0)
    for parameter in convolution.parameters():
        parameter.data = exact(*parameter.shape, generator=generator)
    library = compiled()
    blocks = [Block(convolution, activation, pooling, 2, each) for each in (library, None)]
    images = exact(19, 1, 48, 48, generator=generator)
    for ours, theirs in zip(*(block_pass(block, images) for block in blocks), strict=True):
        assert (ours - theirs).norm() <= 2e-5 * theirs.norm()
    with torch.no_grad():
        torch.testing.assert_close(blocks[0](images), blocks[1](images))


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    library = compiled()
    found = []
    for each in (library, None):
        block = Block(nn.Conv2d(1, 3, 1, padding=1), nn.ReLU(), "max", 2, each)
        nn.init.constant_(block[0].weight, 1.0)  # type: ignore[arg-type]
        nn.init.constant_(block[0].bias, 1.0)  # type: ignore[arg-type]
        images = torch.ones(2, 1, 9, 9, requires_grad=True)
        found.append(block_pass(block, images)[-1])
    torch.testing.assert_close(found[0], found[1])


def test_compiled_sums_do_not_depend_on_the_threads() -> None:
    block = Block(nn.Conv2d(1, 44, 5, padding=1), PReLU(), "max", 2, compiled())
    images = torch.rand(33, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    results, before = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(block_pass(block, images))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_nan_stays_nan(library: Any) -> None:
    block = Block(nn.Conv2d(1, 20, 5, padding=1), PReLU(), "max", 2, library)
    images = torch.zeros(2, 1, 48, 48)
    images[1, 0, 20, 30] = float("nan")
    with torch.autocast("cpu", torch.bfloat16):
        output = block(images)
    assert not output[0].isnan().any()
    # Windows that see one of the 5x5 places which the pixel reaches.
    assert (output[1].isnan().sum((1, 2)) >= 9).all()


def stock(net: Net) -> Net:
    """`net` with PyTorch's own layers alone."""
    for block in (net.block1, net.block2, net.block3):
        block.kernels = None
        if isinstance(block[1], PReLU):
            layer = nn.PReLU()
            layer.load_state_dict(block[1].state_dict())
            block[1] = layer
    return net.to(memory_format=torch.contiguous_format)


def one_step(config: Config, library: Any, reference: bool) -> tuple[float, Tensor, Tensor]:
    """The loss of a step, and all gradients and new weights in a row."""
    generator = torch.Generator().manual_seed(3)
    net = Net(config, 7, generator, library)
    net = stock(net) if reference else net
    images = torch.rand(32, 1, 48, 48, generator=generator) * 2 - 1
    labels = torch.randint(0, 7, (32,), generator=generator)
    net.train()
    optimizer = make_optimizer(config, net)
    if reference:
        for group in optimizer.param_groups:
            group["fused"] = group["foreach"] = False
    loss, _ = update(net, optimizer, images, labels)
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    return float(loss), gradient, torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_float32_step_equals_the_reference(variant: dict[str, Any], library: Any) -> None:
    config = Config.model_validate({**variant, "precision": "float32"})
    loss, gradient, weights = one_step(config, library, reference=False)
    expected_loss, expected, expected_weights = one_step(config, None, reference=True)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    # Rounding may choose another of two nearly equal maxima of a pooling window.
    assert (gradient - expected).norm() <= 5e-3 * expected.norm()
    # Rules that divide by a gradient's size move a weight whose gradient is noise either way.
    assert (weights - expected_weights).abs().mean() <= 0.01 * config.lr


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_bfloat16_step_is_near_the_reference(variant: dict[str, Any], library: Any) -> None:
    config = Config.model_validate({**variant, "precision": "bfloat16"})
    loss, gradient, _ = one_step(config, library, reference=False)
    exact = config.model_copy(update={"precision": "float32"})
    expected_loss, expected, _ = one_step(exact, None, reference=True)
    assert loss == pytest.approx(expected_loss, rel=0.01)
    assert F.cosine_similarity(gradient, expected, dim=0) > 0.98


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_a_fused_optimizer_equals_its_plain_form(name: str) -> None:
    config = Config.model_validate({"optimizer": name, "lr": 0.01, "weight_decay": 0.1})
    results = []
    for fused in (True, False):
        net = Net(config, 7, torch.Generator().manual_seed(1))
        optimizer = make_optimizer(config, net)
        optimizer.param_groups[0]["fused"] = fused
        noise = torch.Generator().manual_seed(2)
        for _ in range(4):
            for parameter in net.parameters():
                # Training gives gradients the layout of their weights; fused rules rely on it.
                parameter.grad = torch.empty_like(parameter).normal_(generator=noise)
            optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_kernels_are_compiled_once_and_then_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled()  # skips where nothing can be compiled
    monkeypatch.setenv("FER_CACHE", "cache")
    made = []
    for _ in range(2):
        assert kernels.load.__wrapped__().description == "compiled kernels"
        made.append([(file.name, file.stat().st_mtime_ns) for file in Path("cache").iterdir()])
    assert len(made[0]) == 1
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("compiler", "reason"), [("false", "false failed"), ("nosuchcompiler", "nosuchcompiler")]
)
def test_without_a_working_compiler_pytorchs_kernels_are_used_and_one_line_says_why(
    compiler: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    found = kernels.load.__wrapped__()
    assert found.library is None
    assert "PyTorch's kernels" in found.description
    assert reason in found.description
    assert "\n" not in found.description


def test_without_any_compiler_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(kernels, "COMPILERS", ("nosuchcompiler",))
    assert "no C++ compiler found" in kernels.load.__wrapped__().description
