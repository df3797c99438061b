"""Launch a run's work on its device: eagerly, or from CUDA graphs on a stream.

A step of a small network keeps a GPU busy for a tenth of the time that it takes to launch it. So
several steps are captured into one graph and launched together, and one thread drives the streams
of several runs, which together keep the GPU busy.
"""

from collections.abc import Hashable

import torch

from fer.training.memory import give_back, ran_out
from fer.training.stream import HostStream, Stream, Work


class Launcher:
    """Launches the work of one run on a stream, from CUDA graphs if the stream captures.

    Work runs eagerly the first time, as the warm-up that a capture needs; then it is captured once
    and replayed. After a failed capture nothing more is captured, and `refused` says why. `memory`
    is the bytes that the graphs will need.
    """

    def __init__(self, stream: Stream, memory: float = 0.0) -> None:
        stream.begin_run(memory)
        self.stream = stream
        self.refused = ""
        self._warm: set[Hashable] = set()
        self._graphs: dict[tuple[Hashable, int], Work] = {}

    def launch(self, name: Hashable, work: Work, times: int = 1) -> None:
        """Do `work` the given number of times; a `name` must always stand for the same work."""

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
        """Split the given number of times into separate calls of `launch`.

        Eager steps, and a rest with fewer steps than a graph, are launched one by one: other runs
        get their turn in between, and a graph of one step serves every such rest.
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
                give_back()  # PyTorch cannot free other streams' cached memory during a capture
                graph = self.stream.capture(work)
        except RuntimeError as error:  # graphs need more memory: eager steps may still fit
            self.refused = f"no graph of {name}: {' '.join(str(error).split())[:200]}"
            return None
        self._graphs[name, times] = graph
        return graph


def open_stream(device: torch.device) -> Stream:
    """Return a new stream: a CUDA stream, or on a CPU one that runs work at once."""
    if device.type != "cuda":
        return HostStream()
    from fer.training.cuda import CudaStream, compute_reproducibly

    compute_reproducibly()
    return CudaStream(device)
