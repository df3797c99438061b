"""A CUDA stream whose work can be captured into graphs, and deterministic GPU arithmetic."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from fer.training.memory import make_room
from fer.training.stream import Mark, Work


class CudaStream:
    """A CUDA stream that serves one run after another."""

    steps_at_once = 16
    # Queue enough that no stream runs dry when the one thread stalls, for example in a capture.
    ahead = 4

    def __init__(self, device: torch.device, captures: bool = True) -> None:
        self.captures = captures
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.default_stream(device))

    def begin_run(self, memory: float) -> None:
        # The graphs of a run share one memory pool, freed with them.
        self._pool = torch.cuda.graph_pool_handle()
        self._wanted = memory

    @contextmanager
    def active(self) -> Iterator[None]:
        # Run backward in this thread: PyTorch has one autograd thread per GPU, which would
        # serialise all streams.
        with torch.cuda.stream(self._stream), torch.autograd.set_multithreading_enabled(False):
            yield

    def mark(self) -> Mark:
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def capture(self, work: Work) -> Work:
        # Not torch.cuda.graph: it synchronises the device, and so waits for every other run.
        if not make_room(self._device, self._wanted):
            raise RuntimeError(f"less than {self._wanted / 2**30:.1f} GiB are free for it")
        before = torch.cuda.memory_reserved(self._device)
        graph = torch.cuda.CUDAGraph()
        collects = gc.isenabled()
        gc.disable()  # it could free an old graph in the middle of the capture
        try:
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                work()
                graph.capture_end()
            except BaseException:
                # Each raises if the capture has already ended.
                with suppress(RuntimeError):
                    graph.capture_end()
                with suppress(RuntimeError):  # not ended by a failed capture up to PyTorch 2.12
                    index = self._device.index or 0
                    torch._C._cuda_endAllocateToPool(index, self._pool)
                    torch._C._cuda_releasePool(index, self._pool)  # nor counted out of its users
                raise
        finally:
            if collects:
                gc.enable()
        # One thread drives all streams, so memory reserved meanwhile is for this run's graphs.
        self._wanted -= torch.cuda.memory_reserved(self._device) - before
        return graph.replay


def compute_reproducibly() -> None:
    """Make CUDA libraries deterministic. Call before the first stream is opened."""
    # By default they may autotune, sum in nondeterministic order, or use TF32 for float32.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Streams that share a hardware queue would wait for each other.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
