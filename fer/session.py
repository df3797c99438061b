"""FER-2013's images in a worker that trains trials (see `study.pipeline.Session`)."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fer.config import Config
from fer.data import Faces
from fer.errors import UserError
from fer.training import checkpoint
from fer.training.fit import Epoch, Run, progress
from fer.training.launch import open_stream
from fer.training.look import look
from fer.training.memory import free_memory, ran_out, tidy
from fer.training.pace import measure_epoch
from fer.training.stream import Mark, Stream

LOOKED = 3  # final epochs evaluated on the holdout: those that score a trial


class DeviceLost(BaseException):
    """The GPU itself failed: no trial in this process can continue."""


class FaceSession:
    """The images on a device. Several trials may train concurrently, each on its own stream.

    `sides` returns training and validation images for a trial's seed; `held` is the holdout.
    """

    def __init__(
        self,
        sides: Callable[[int], tuple[Faces, Faces]],
        held: Faces | None,
        device: torch.device,
    ) -> None:
        self._sides, self._held, self._device = sides, held, device
        self._idle: list[Stream] = []
        self.memory = free_memory(device)

    def pace(self, examples: Sequence[Mapping[str, Any]], at_once: int) -> float | None:
        """Return mean seconds per epoch while `at_once` examples train; None if out of memory."""
        while len(self._idle) < at_once:
            self._idle.append(open_stream(self._device))
        configs = [Config(**settings) for settings in examples]
        streams = self._idle[:at_once]
        training, validation = self._sides(configs[0].seed)
        return measure_epoch(configs, training, validation, self._device, streams)

    def train(
        self, settings: Mapping[str, Any], state: Path, key: str
    ) -> Iterator[Epoch | list[Epoch] | Mark | str]:
        """Train a trial from where it was interrupted, with a checkpoint after every epoch.

        Raises MemoryError if out of memory, DeviceLost if the GPU failed.
        """
        stream = self._idle.pop() if self._idle else open_stream(self._device)
        try:
            yield from self._trained(Config(**settings), state, key, stream)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold the trial's tensors
            self._check_device(error)
            if ran_out(error):
                raise MemoryError(" ".join(str(error).split())[:300]) from None
            raise
        finally:
            self._idle.append(stream)
            tidy(self._device)  # for larger trials on other lanes

    def _trained(
        self, config: Config, state: Path, key: str, stream: Stream
    ) -> Iterator[Epoch | list[Epoch] | Mark | str]:
        torch.set_num_threads(config.threads)
        training, validation = self._sides(config.seed)
        run = Run(config, training, self._device, stream)
        try:
            epochs = checkpoint.load(run, state, key)
        except checkpoint.Unusable as error:
            run, epochs = Run(config, training, self._device, stream), []
            yield f"its checkpoint is unusable ({error}): trained again from its seed"
        if epochs:
            yield list(epochs)
        for item in progress(run, validation):
            if not isinstance(item, Epoch):
                yield item
                continue
            if item.number > config.epochs - LOOKED and not item.diverged:
                last = item.number == config.epochs
                for looked in look(run, item, self._held, validation, last):
                    if isinstance(looked, Epoch):
                        item = looked
                    else:
                        yield looked
            epochs.append(item)
            if run.launcher.refused:
                yield f"steps run eagerly: {run.launcher.refused}"
            try:
                yield from checkpoint.saving(run, epochs, state, key)
            except UserError as error:
                yield f"its checkpoint cannot be written: {error}"
            yield item

    def _check_device(self, error: Exception) -> None:
        """Raise DeviceLost if the GPU failed, regardless of the error reported."""
        if isinstance(error, torch.AcceleratorError) and not ran_out(error):
            raise DeviceLost(str(error)) from error
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            try:
                torch.cuda.synchronize()
            except torch.AcceleratorError as failure:
                raise DeviceLost(str(failure)) from error
