"""The GPU kernels, interpreted on a CPU, match PyTorch's layers.

Also tests that they compile for real GPUs; test_gpu.py runs them there.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("triton")

COMPARE = """
import itertools, json, sys
import torch
from torch import nn
from fer.network import gpu_kernels, kernels
from fer.network.gpu_kernels import pooled

gpu_kernels.ROWS = 256
kernels.probe(torch.device("cpu"), torch.bfloat16)
worst = 0.0
generator = torch.Generator().manual_seed(0)
for (channels, height, width), stride, largest, slope in itertools.product(
    [(5, 9, 12), (44, 8, 7), (68, 3, 3)], [1, 2], [True, False], [0.25, -0.3]
):
    # Multiples of 1/64: no rounding decides which of two is larger.
    features = torch.randint(-640, 641, (3, channels, height, width), generator=generator) / 64
    features[0, 0, 0, 0] = 0
    shift = torch.randint(-64, 65, (channels,), generator=generator) / 64
    results = []
    for ours in (True, False):
        mine, bias = features.clone().requires_grad_(), shift.clone().requires_grad_()
        layer = nn.PReLU(init=slope)
        pool = nn.MaxPool2d(3, stride) if largest else nn.AvgPool2d(3, stride)
        if ours:
            output = pooled(mine, bias, layer.weight, stride, largest)
        else:
            output = pool(layer(mine + bias[:, None, None]))
        output.backward(torch.linspace(0.5, 1.5, output.numel()).view(output.shape))
        results.append((output.detach(), mine.grad, bias.grad, layer.weight.grad))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        worst = max(worst, float((a - b).abs().max() / b.abs().max().clamp(min=1)))

none = torch.zeros(2)
hole = torch.zeros(1, 2, 6, 6)
hole[0, 1, 2, 2] = float("nan")
shown = {largest: pooled(hole, none, torch.tensor([0.25]), 2, largest).isnan().sum().item()
         for largest in (True, False)}
# With a slope of zero all that is negative ties: the first of equals gets the gradient.
flat = torch.full((1, 1, 5, 5), 2.0).requires_grad_()
pooled(flat, none[:1], torch.zeros(1), 2, True).sum().backward()
stock = torch.full((1, 1, 5, 5), 2.0).requires_grad_()
nn.MaxPool2d(3, 2)(stock).sum().backward()
half = pooled(features.bfloat16(), shift, torch.tensor([0.25]), 2, True)
print(json.dumps({"worst": worst, "nan": list(shown.values()), "bfloat16": str(half.dtype),
                  "ties": torch.equal(flat.grad, stock.grad)}))
"""

# A step of the GPU's beside the reference, both on the processor and from the same state.
STEP = """
import json, sys
import torch
from fer.config import Config
from fer.data import Faces
from fer.network import gpu_kernels, gpu_net
from fer.training import gpu_step
from fer.training.fit import Run, step

gpu_kernels.ROWS = 2048  # few large programs: each operation of one is interpreted
generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (7, 48, 48), generator=generator, dtype=torch.uint8)
faces = Faces(images, torch.arange(7), ("a", "b", "c", "d", "e", "f", "g"))
found = []
for settings in json.loads(sys.argv[1]):
    fixed = {"batch_size": 3, "oversample": "none", "lr": 1e-3, "precision": "float32"}
    config = Config(**{**fixed, **settings})
    runs = [Run(config, faces, torch.device("cpu"), plain=True) for _ in range(2)]
    for run, take in zip(runs, (step, gpu_step.step)):
        run.begin_epoch()
        if take is gpu_step.step:
            run.levels = gpu_step.levels_of(run)
            run.net.forward = lambda *args, net=run.net: gpu_net.scores(net, *args)
        take(run, 3)
    gradients, weights = (
        [torch.cat([pick(p).flatten() for p in run.net.parameters()]) for run in runs]
        for pick in (lambda p: p.grad, lambda p: p.detach())
    )
    means = [run.net.state_dict().get("norm2.running_var", torch.ones(1)) for run in runs]
    found.append({
        "gradient": float((gradients[0] - gradients[1]).norm() / gradients[0].norm()),
        "weights": float((weights[0] - weights[1]).abs().mean() / config.lr),
        "statistics": float((means[0] - means[1]).norm() / means[0].norm()),
        "loss": [float(run.loss_sum) for run in runs],
        "right": [int(run.right) for run in runs],
        "place": [int(run.place) for run in runs],
    })
print(json.dumps(found))
"""

# Offsets of a batch too large to be held here: 4096 images of 64 channels.
FAR = """
import json
import torch, triton
import triton.language as tl
from fer.network.gpu_kernels import at

@triton.jit
def offsets(pixels, channels, into, count: tl.constexpr):
    lane = tl.arange(0, count)
    pixel = tl.load(pixels + lane)
    tl.store(into + at(lane, lane, count), at(pixel, lane, channels))

pixels = torch.tensor([0, 4096 * 46 * 46 - 1, 2**31 - 1, 7], dtype=torch.int32)
into = torch.zeros(4, 4, dtype=torch.int64)
offsets[(1,)](pixels, 512, into, 4)
print(json.dumps([into.tolist(), (pixels.long()[:, None] * 512 + torch.arange(4)).tolist()]))
"""

COMPILE = """
import json
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fer.network import gpu_kernels
from fer.training import gpu_batch

sizes = []

def one(capability, kernel, constants, **types):
    types |= dict.fromkeys(constants, "constexpr")
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(ASTSource(kernel, types, constants), target=target)
    sizes.append(len(made.asm["cubin"]))

for kernel, pointers in ((gpu_kernels.pooled_forward, 5), (gpu_kernels.pooled_backward, 7)):
    for kind in ("bf16", "fp32"):
        for largest in (True, False):
            names = kernel.arg_names
            types = dict.fromkeys(names[:pointers], f"*{kind}")
            types |= {"slope": "*fp32", "bias": "*fp32"}
            if largest:
                types["places"] = "*u8"
            if "parts" in types:
                types["parts"] = "*fp32"
            constants = dict(zip(names[-4:], (4, largest, 32, 64), strict=True))
            types |= dict.fromkeys(names[pointers:-4], "i32")
            one(80 if (kind == "bf16") == largest else 90, kernel, constants, **types)

for kind, capability in (("bf16", 90), ("fp32", 80)):
    places = dict.fromkeys(("labels", "order", "top", "left", "place", "labels_into"), "*i64")
    one(capability, gpu_batch.gathered, {"side": 48, "block": 256}, images="*u8", mirrored="*u8",
        levels="*" + kind, into="*" + kind, flips="i32", padding="i32", **places)
for capability in (80, 90):
    one(capability, gpu_batch.judged, {"rows": 64, "lanes": 8}, scores="*fp32", labels="*i64",
        gradient="*fp32", loss_sum="*fp32", right="*i64", place="*i64", size="i32",
        classes="i32", smoothing="fp32")
print(json.dumps(sizes))
"""


def python(code: str, *arguments: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_interpreted_they_equal_pytorchs_layers() -> None:
    found = python(COMPARE, TRITON_INTERPRET="1")
    assert found["worst"] < 1e-5
    assert found["nan"] == [4, 4]  # all four windows see it
    assert found["ties"]
    assert found["bfloat16"] == "torch.bfloat16"


SETTINGS: list[dict[str, Any]] = [
    {"crop_padding": 3, "label_smoothing": 0.1, "schedule": "cosine"},
    {
        "conv_activation": "relu",
        "channels1": 10,
        "channels2": 70,
        "norm": "group",
        "mirror": False,
    },
    {"conv_activation": "elu", "norm": "none", "rotation": 9.0, "erasing": 0.5, "dropout": 0.3}
    | {"crop_padding": 2, "output_activation": "softmax"},
    {"precision": "bfloat16", "norm": "group", "pool1": "average"},
]


def test_interpreted_a_step_of_the_gpus_is_the_reference_step() -> None:
    for settings, found in zip(
        SETTINGS, python(STEP, json.dumps(SETTINGS), TRITON_INTERPRET="1"), strict=True
    ):
        exact = "precision" not in settings
        loss = pytest.approx(found["loss"][0], rel=1e-5 if exact else 1e-2)
        assert found["loss"][1] == loss, settings
        assert found["place"] == [3, 3], settings
        assert found["gradient"] < (1e-5 if exact else 0.05), settings
        if exact:
            assert found["right"][0] == found["right"][1], settings
            assert found["statistics"] < 1e-5, settings
            assert found["weights"] < 0.02, settings


def test_interpreted_offsets_of_the_largest_batches_have_more_than_32_bits() -> None:
    found, expected = python(FAR, TRITON_INTERPRET="1")
    assert found == expected
    assert expected[1][0] > 2**31


def test_they_compile_for_gpus_that_are_not_here() -> None:
    sizes = python(COMPILE)
    assert len(sizes) == 12
    assert min(sizes) > 1000


PROBED = """
import json, sys
import torch, triton
from fer.network import kernels

torch.cuda.is_available = lambda: True
torch.cuda.is_bf16_supported = lambda including_emulation: True
found = []
for failure in (
    AssertionError("libcuda.so cannot found!"),
    AssertionError(),
    triton.CompilationError("", None, "no such card"),
    torch.OutOfMemoryError("CUDA out of memory"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
):
    def probe(device, dtype, failure=failure):
        raise failure

    kernels.probe = probe
    kernels.load_triton.cache_clear()
    try:
        made = kernels.load_triton()
        assert made.library is None
        found.append(made.description)
    except RuntimeError as error:
        found.append("raised")
print(json.dumps(found))
"""


def test_kernels_that_a_gpu_cannot_run_are_replaced_and_one_line_says_why() -> None:
    *replaced, full, failed = python(PROBED)
    for said, line in zip(("libcuda.so cannot", "AssertionError", "no such card"), replaced,
                          strict=True):  # fmt: skip
        assert "PyTorch's kernels, which are slower" in line
        assert said in line
        assert "\n" not in line
    # A GPU that is full or fails says nothing of the kernels.
    assert (full, failed) == ("raised", "raised")
