"""Memory: reused between training steps, released between runs."""

import ctypes
import gc
import sys
from typing import Any

import torch

# Parts of OOM messages. After a failed allocation cuDNN drops the allocator's message and looks
# for an algorithm that needs less memory; it only reports that it found none.
RAN_OUT = (
    "can't allocate memory",
    "bad_alloc",
    "out of memory",
    "unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm",
    "STATUS_ALLOC_FAILED",  # of cuBLAS, cuDNN and cuSOLVER
    "ALLOCATION_FAILED",  # of cuDNN
)
SHORT = 1 / 8  # share of free GPU memory below which memory is short
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h


def reuse_memory() -> None:
    """Make glibc keep up to 1 GiB of freed memory. Does nothing with other C libraries.

    A step frees and reallocates some hundred large blocks. By default the kernel maps and clears
    each one again, which took a fifth to a third of a step on two cores.
    """
    mallopt = _c_library("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
        mallopt(M_TOP_PAD, 64 << 20)


def give_back() -> None:
    """Release cached memory to the system or the GPU: the next run may need less."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()  # no gc: runs leave no cycles, and it would stall the others
    else:
        gc.collect()
    trim = _c_library("malloc_trim")
    if trim is not None:
        trim(0)


def free_memory(device: torch.device) -> int | None:
    """Return a GPU's free bytes, rounded down to GiB so that decisions based on them repeat.

    None for the CPU, whose memory the operating system manages.
    """
    return torch.cuda.mem_get_info(device)[0] >> 30 << 30 if device.type == "cuda" else None


def ran_out(error: BaseException) -> bool:
    """Whether `error` is an OOM of the device or the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On a CPU PyTorch raises RuntimeError for any reason; on a GPU, libraries do.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in RAN_OUT)


def tidy(device: torch.device) -> None:
    """Release memory after a run; on a GPU only if memory is short.

    On a GPU the next run reuses the cache, and allocating from the driver stalls all streams.
    """
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        if free >= SHORT * whole:
            return
    give_back()


def make_room(device: torch.device, wanted: float) -> bool:
    """Release a GPU's cached memory unless `wanted` bytes are free, and return whether they are.

    PyTorch cannot do so during a capture; cuDNN would then silently choose an algorithm that needs
    less memory and rounds differently.
    """
    if torch.cuda.mem_get_info(device)[0] < wanted:
        give_back()
    return torch.cuda.mem_get_info(device)[0] >= wanted


def _c_library(name: str) -> Any:
    """Return a function of the C library, or None if it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
