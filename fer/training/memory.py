"""Memory: kept between training steps, given back between runs."""

import ctypes
import gc
import sys
from typing import Any

import torch

# What errors say of memory that did not suffice. cuDNN drops what the allocator said and looks for
# an algorithm that needs less; that none is found is all that it tells.
RAN_OUT = (
    "can't allocate memory",
    "bad_alloc",
    "out of memory",
    "unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm",
    "STATUS_ALLOC_FAILED",  # of cuBLAS, cuDNN and cuSOLVER
    "ALLOCATION_FAILED",  # of cuDNN
)
SHORT = 1 / 8  # of a GPU's memory free
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


def reuse_memory() -> None:
    """Tell the C library to keep up to 1 GiB of freed memory; does nothing where it is not glibc.

    A step frees and asks again for some hundred large blocks. By default each is mapped and
    cleared anew by the kernel, which took a fifth to a third of a step on two cores.
    """
    mallopt = _c_library("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
        mallopt(M_TOP_PAD, 64 << 20)


def give_back() -> None:
    """Return what is free to the system or to the GPU: the next run may be a small one."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()  # runs leave no cycles, and a collection would hold up the others
    else:
        gc.collect()
    trim = _c_library("malloc_trim")
    if trim is not None:
        trim(0)


def free_memory(device: torch.device) -> int | None:
    """Bytes that a GPU has free, in whole GiB: what decides by them is to decide so again.

    None for the processor, whose memory the system lends.
    """
    return torch.cuda.mem_get_info(device)[0] >> 30 << 30 if device.type == "cuda" else None


def ran_out(error: BaseException) -> bool:
    """Whether `error` says that memory, the device's or the machine's, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On the processor PyTorch raises RuntimeError whatever the reason, on a GPU so do libraries.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in RAN_OUT)


def tidy(device: torch.device) -> None:
    """After a run: give memory back, on a GPU only if it is short.

    There the next run takes it over, and asking the driver anew holds up all streams.
    """
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        if free >= SHORT * whole:
            return
    give_back()


def make_room(device: torch.device, wanted: float) -> None:
    """Give back what a GPU keeps for others unless it has `wanted` bytes free.

    Within a capture PyTorch cannot do so, and cuDNN then chooses an algorithm that needs less and
    rounds otherwise, without a word.
    """
    if torch.cuda.mem_get_info(device)[0] < wanted:
        give_back()


def _c_library(name: str) -> Any:
    """A function of glibc; None where there is none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
