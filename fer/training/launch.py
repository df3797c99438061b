"""How a run's work reaches its device: called at once, or captured into CUDA graphs on a stream.

A step of a small network keeps a GPU busy for a tenth of the time that it takes to launch it.
Several steps captured into one graph are launched together, and the streams of several runs,
driven in turn by one thread, fill what a single one leaves idle.
"""

from collections.abc import Hashable

import torch

from fer.training.memory import give_back, ran_out
from fer.training.stream import HostStream, Stream, Work


class Launcher:
    """Launches the work of one run on a stream, from graphs where the stream captures.

    Work is called the first time, which also prepares whatever a capture must find ready, then
    captured once and replayed. Where a capture fails it is called ever after, and `refused` says
    why. `memory` is what the graphs will want, in bytes.
    """

    def __init__(self, stream: Stream, memory: float = 0.0) -> None:
        stream.begin_run(memory)
        self.stream = stream
        self.refused = ""
        self._warm: set[Hashable] = set()
        self._graphs: dict[tuple[Hashable, int], Work] = {}

    def launch(self, name: Hashable, work: Work, times: int = 1) -> None:
        """Do `work` so many times; the same `name` always stands for the same work."""

        def all_of_it() -> None:
            for _ in range(times):
                work()

        with self.stream.active():
            replay = self._graphs.get((name, times))
            if replay is None and name in self._warm and self._captures():
                replay = self._capture(name, times, all_of_it)
            (replay or all_of_it)()
        self._warm.add(name)

    def turns(self, name: Hashable, times: int) -> list[int]:
        """How often to `launch` work that is wanted so many times, and how many times each.

        Steps that are called, or that are fewer than a graph has, go one by one: others have
        their turn between them, and a graph of one step serves every such rest.
        """
        whole = name in self._warm and times == self.stream.steps_at_once
        if not self.stream.captures or (whole and not self.refused):
            return [times]
        return [1] * times

    def _captures(self) -> bool:
        return self.stream.captures and not self.refused

    def _capture(self, name: Hashable, times: int, work: Work) -> Work | None:
        graph = None
        try:
            try:
                graph = self.stream.capture(work)
            except RuntimeError as error:
                if not ran_out(error):
                    raise
            if graph is None:
                give_back()  # within a capture PyTorch can't give back what other streams keep
                graph = self.stream.capture(work)
        except RuntimeError as error:  # what does not fit twice may still fit once, called
            self.refused = f"no graph of {name}: {' '.join(str(error).split())[:200]}"
            return None
        self._graphs[name, times] = graph
        return graph


def open_stream(device: torch.device) -> Stream:
    """The best that a device offers."""
    if device.type != "cuda":
        return HostStream()
    from fer.training.cuda import CudaStream, compute_reproducibly

    compute_reproducibly()
    return CudaStream(device)
