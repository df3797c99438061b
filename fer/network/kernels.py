"""Choose the kernels for activation and pooling: C++ on a CPU, Triton on a GPU, or PyTorch's.

The C++ code is compiled once per machine and cached.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer.home import cached
from fer.syntax import syntax_hash
from fer.training.memory import ran_out

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: NaNs must stay NaN. Predictive commoning, part of -O3, would carry pixels from
# one iteration to the next and spill registers.
FLAGS = ("-O3", "-fno-predictive-commoning", "-march=native", "-std=c++17", "-fopenmp")
SHARED = ("-fPIC", "-shared")
# The same constants as in kernels.cpp.
LANES = 16  # channels processed together
PART = 8  # images per partial sum
SIDE, TAPS = 48, 5 * 5  # image side and kernel taps of the fused convolution
WIDEST = 46  # maximum side of a convolution's output, given by buffer sizes

POINTERS = {
    "convolved_forward": 7,
    "convolved_backward": 8,
    "pooled_forward": 5,
    "pooled_backward": 7,
}


Library = ctypes.CDLL | Callable[[Any, Tensor, Tensor | None], Tensor]
"""CPU kernels, or the network's whole forward pass on a GPU, `fer.network.gpu_net.scores`."""


@dataclass(frozen=True)
class Kernels:
    """Compiled kernels and their description, or None and why PyTorch's are used instead."""

    library: Library | None
    description: str
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """The name stored with a study: other kernels or compilers round differently."""
        return "PyTorch's" if self.library is None else f"compiled {self.fingerprint}"


class Geometry(ctypes.Structure):
    """Shape and settings of a block; same layout as in the C++ source."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("images", "channels", "height", "width")),
        *((name, ctypes.c_int32) for name in ("stride", "max", "bfloat16", "threads")),
        ("slope", ctypes.c_float),
    ]


def kernels_for(device: torch.device) -> Kernels:
    """Return the fastest available kernels for a device."""
    return load_triton() if device.type == "cuda" else load()


@functools.cache
def load_triton() -> Kernels:
    """Return the GPU kernels if Triton can compile and launch them, else PyTorch's."""
    try:
        import triton

        from fer.network import gpu_kernels, gpu_net
        from fer.training import gpu_batch

        if torch.cuda.is_available():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            dtype = torch.bfloat16 if native else torch.float32
            probe(torch.device("cuda"), dtype)
    # No C compiler or libcuda (AssertionError), an unsupported GPU.
    except Exception as error:
        if ran_out(error) or isinstance(error, torch.AcceleratorError):
            raise  # not the fault of the kernels
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return Kernels(None, f"PyTorch's kernels, which are slower ({reason})")
    source = syntax_hash([Path(gpu_kernels.__file__), Path(gpu_batch.__file__)], ())
    fingerprint = hashlib.sha256(f"{source} {triton.__version__}".encode()).hexdigest()[:16]
    return Kernels(gpu_net.scores, "Triton kernels", fingerprint)


def probe(device: torch.device, dtype: torch.dtype) -> None:
    """Compile each Triton kernel for `dtype` and launch it once. Raises whatever that raises."""
    from fer.network.gpu_kernels import pooled
    from fer.training.gpu_batch import gather, judge

    for largest in (True, False):
        features = torch.zeros(1, 4, 3, 3, device=device, dtype=dtype, requires_grad=True)
        bias, slope = torch.zeros(4, device=device), torch.zeros(1, device=device)
        pooled(features, bias, slope, 1, largest).sum().backward()  # type: ignore[no-untyped-call]
    place = torch.zeros((), dtype=torch.int64, device=device)
    image = torch.zeros(1, 48, 48, dtype=torch.uint8, device=device)
    levels, one = torch.zeros(256, device=device, dtype=dtype), place.view(1)
    _, labels = gather(image, one, one, None, None, 0, place, 1, levels)
    scores = torch.zeros(1, 7, device=device)
    judge(scores, labels, 0.0, scores.sum(), place.clone(), place.clone())
    int(place)  # synchronise, so that GPU errors are raised here


@functools.cache
def load() -> Kernels:
    """Return the CPU kernels, from the cache or newly compiled (about two seconds)."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        return Kernels(None, "PyTorch's kernels, which are slower (no C++ compiler found)")
    try:
        fingerprint = _fingerprint(compiler)
        path = cached(f"kernels-{fingerprint}.so")
        if not path.is_file():
            _compile(compiler, path)
        try:
            library = ctypes.CDLL(str(path))
        except OSError:  # corrupt
            _compile(compiler, path)
            library = ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        return Kernels(None, f"PyTorch's kernels, which are slower ({compiler} failed: {last})")
    except OSError as error:
        return Kernels(None, f"PyTorch's kernels, which are slower ({compiler}: {error})")
    for name, pointers in POINTERS.items():
        function = getattr(library, name)
        function.argtypes = [ctypes.POINTER(Geometry), *[ctypes.c_void_p] * (pointers - 1)]
        function.restype = None
    return Kernels(library, "compiled kernels", fingerprint)


def _fingerprint(compiler: str) -> str:
    """Hash the preprocessed source, the compiler, and what -march=native means here."""
    preprocessed = subprocess.run(
        [compiler, *FLAGS, "-E", "-P", "-v", "-x", "c++", "-"],  # -E drops comments
        input=SOURCE.read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    source = " ".join(preprocessed.stdout.split())
    return hashlib.sha256(f"{source}\n{preprocessed.stderr}".encode()).hexdigest()[:16]


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        made = Path(work) / "kernels.so"
        subprocess.run(
            [compiler, *FLAGS, *SHARED, str(SOURCE), "-o", str(made)],
            capture_output=True,
            text=True,
            check=True,
        )
        made.replace(path)
