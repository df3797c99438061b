"""Which kernels compute activation and pooling: C++ on a processor, Triton on a GPU, or PyTorch's.

The C++ is compiled once on the machine that trains and kept in the cache folder.
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
# No -ffast-math: a value that is no number must stay one. Predictive commoning, part of -O3, would
# carry pixels from one turn to the next and run out of registers.
FLAGS = ("-O3", "-fno-predictive-commoning", "-march=native", "-std=c++17", "-fopenmp")
SHARED = ("-fPIC", "-shared")
# As in the source.
LANES = 16  # channels that a kernel takes at a time
PART = 8  # images over which a kernel sums
SIDE, TAPS = 48, 5 * 5  # of the images and the convolution that a kernel computes
WIDEST = 46  # side of a convolution's output that fits a kernel's buffers

POINTERS = {
    "convolved_forward": 7,
    "convolved_backward": 8,
    "pooled_forward": 5,
    "pooled_backward": 7,
}


Library = ctypes.CDLL | Callable[[Any, Tensor, Tensor | None], Tensor]
"""A processor's kernels, or the network's whole forward pass, `fer.network.gpu_net.scores`."""


@dataclass(frozen=True)
class Kernels:
    """The compiled kernels if there are any, and in words what computes instead and why."""

    library: Library | None
    description: str
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """What is stored with a study: others, or of another compiler, round differently."""
        return "PyTorch's" if self.library is None else f"compiled {self.fingerprint}"


class Geometry(ctypes.Structure):
    """What the kernels must know of a block; the same as in the C++ source."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("images", "channels", "height", "width")),
        *((name, ctypes.c_int32) for name in ("stride", "max", "bfloat16", "threads")),
        ("slope", ctypes.c_float),
    ]


def kernels_for(device: torch.device) -> Kernels:
    """The best there are on a device."""
    return load_triton() if device.type == "cuda" else load()


@functools.cache
def load_triton() -> Kernels:
    """The kernels of a GPU, if Triton can compile and launch them there."""
    try:
        import triton

        from fer.network import gpu_kernels, gpu_net
        from fer.training import gpu_batch

        if torch.cuda.is_available():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            dtype = torch.bfloat16 if native else torch.float32
            probe(torch.device("cuda"), dtype)
    # A C compiler or libcuda that Triton misses (AssertionError), a card it does not know.
    except Exception as error:
        if ran_out(error) or isinstance(error, torch.AcceleratorError):
            raise  # it says nothing of the kernels
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return Kernels(None, f"PyTorch's kernels, which are slower ({reason})")
    source = syntax_hash([Path(gpu_kernels.__file__), Path(gpu_batch.__file__)], ())
    fingerprint = hashlib.sha256(f"{source} {triton.__version__}".encode()).hexdigest()[:16]
    return Kernels(gpu_net.scores, "Triton kernels", fingerprint)


def probe(device: torch.device, dtype: torch.dtype) -> None:
    """Compile each Triton kernel for a GPU that computes in `dtype`, and launch it once.

    Raises whatever that raises.
    """
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
    int(place)  # waits, so that what fails on the GPU is raised here


@functools.cache
def load() -> Kernels:
    """The kernels of a processor: from the cache folder, or newly compiled (about two seconds)."""
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
        except OSError:  # damaged
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
    """Changes with what the source says, the compiler, and what -march=native means here."""
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
