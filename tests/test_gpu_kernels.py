"""The GPU's kernels, interpreted on the processor, compute what PyTorch's layers do.

That they compile for real GPUs is tested as well; that they run there is in test_gpu.py.
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
from fer.network.gpu_kernels import pooled

worst = 0.0
generator = torch.Generator().manual_seed(0)
for (channels, height, width), stride, largest, slope in itertools.product(
    [(5, 9, 12), (44, 8, 7), (3, 3, 3)], [1, 2], [True, False], [0.25, -0.3]
):
    # Multiples of 1/64: no rounding decides which of two is larger.
    features = torch.randint(-640, 641, (3, channels, height, width), generator=generator) / 64
    features[0, 0, 0, 0] = 0
    results = []
    for ours in (True, False):
        mine = features.clone().requires_grad_()
        layer = nn.PReLU(init=slope)
        pool = nn.MaxPool2d(3, stride) if largest else nn.AvgPool2d(3, stride)
        output = pooled(mine, layer.weight, stride, largest) if ours else pool(layer(mine))
        output.backward(torch.linspace(0.5, 1.5, output.numel()).view(output.shape))
        results.append((output.detach(), mine.grad, layer.weight.grad))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        worst = max(worst, float((a - b).abs().max() / b.abs().max().clamp(min=1)))

hole = torch.zeros(1, 2, 6, 6)
hole[0, 1, 2, 2] = float("nan")
shown = {largest: pooled(hole, torch.tensor([0.25]), 2, largest).isnan().sum().item()
         for largest in (True, False)}
# With a slope of zero all that is negative ties: the first of equals gets the gradient.
flat = torch.full((1, 1, 5, 5), 2.0).requires_grad_()
pooled(flat, torch.zeros(1), 2, True).sum().backward()
stock = torch.full((1, 1, 5, 5), 2.0).requires_grad_()
nn.MaxPool2d(3, 2)(stock).sum().backward()
half = pooled(features.bfloat16(), torch.tensor([0.25]), 2, True)
print(json.dumps({"worst": worst, "nan": list(shown.values()), "bfloat16": str(half.dtype),
                  "ties": torch.equal(flat.grad, stock.grad)}))
"""

COMPILE = """
import json
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fer.network import gpu_kernels

sizes = []
for kernel, pointers in ((gpu_kernels.pooled_forward, 4), (gpu_kernels.pooled_backward, 6)):
    for kind in ("bf16", "fp32"):
        for largest in (True, False):
            names = kernel.arg_names
            types = dict.fromkeys(names[:pointers], f"*{kind}")
            types |= {"slope": "*fp32", "total": "i32"}
            if largest:
                types["places"] = "*u8"
            if "parts" in types:
                types["parts"] = "*fp32"
            values = (44, 46, 46, 22, 22, 2, largest, gpu_kernels.BLOCK)
            constants = dict(zip(names[pointers + 1 :], values, strict=True))
            types |= dict.fromkeys(constants, "constexpr")
            source = ASTSource(kernel, types, constants)
            for capability in (80, 90):
                made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
                sizes.append(len(made.asm["cubin"]))
print(json.dumps(sizes))
"""


def python(code: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
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


def test_they_compile_for_gpus_that_are_not_here() -> None:
    sizes = python(COMPILE)
    assert len(sizes) == 16
    assert min(sizes) > 1000
