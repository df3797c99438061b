"""A CUDA stream whose work can be captured into graphs, and arithmetic that repeats on a GPU."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from fer.training.memory import make_room
from fer.training.stream import Mark, Work


class CudaStream:
    """A stream of a GPU, on which one run follows another."""

    steps_at_once = 16
    # So much is queued that a stall of the one thread, such as a capture, empties no stream.
    ahead = 4

    def __init__(self, device: torch.device, captures: bool = True) -> None:
        self.captures = captures
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.default_stream(device))

    def begin_run(self, memory: float) -> None:
        # The graphs of a run share their memory, which ends with them.
        self._pool = torch.cuda.graph_pool_handle()
        self._wanted = memory

    @contextmanager
    def active(self) -> Iterator[None]:
        # Backward passes in this thread: the one that PyTorch keeps for a GPU would serve all
        # streams in turn.
        with torch.cuda.stream(self._stream), torch.autograd.set_multithreading_enabled(False):
            yield

    def mark(self) -> Mark:
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def capture(self, work: Work) -> Work:
        # torch.cuda.graph would wait for the whole GPU, thus for every other run.
        make_room(self._device, self._wanted)
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
                # Each says that it is over already, if it is.
                with suppress(RuntimeError):
                    graph.capture_end()
                with suppress(RuntimeError):  # up to PyTorch 2.12 a lost capture leaves this open
                    torch._C._cuda_endAllocateToPool(self._device.index or 0, self._pool)
                raise
        finally:
            if collects:
                gc.enable()
        # One thread drives all streams: what was reserved meanwhile is for this run's graphs.
        self._wanted -= torch.cuda.memory_reserved(self._device) - before
        return graph.replay


def compute_reproducibly() -> None:
    """Make CUDA's libraries repeat their results; call it before the first stream is opened."""
    # They would choose what is fastest today, or add up in the order of arrival; and float32 is
    # meant where it is said.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # With fewer queues to the GPU than streams these would wait for each other.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
