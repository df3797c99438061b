"""Measure how long an epoch takes on this machine, on a few images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from fer.config import Config
from fer.data import Faces
from fer.training.augment import oversample
from fer.training.fit import Epoch, Run, progress, together
from fer.training.memory import give_back, ran_out
from fer.training.stream import Mark, Stream

MEASURED = {"cpu": (64, 1), "cuda": (64, 48)}  # minimum images, minimum steps


def measure_epoch(
    examples: Sequence[Config],
    training: Faces,
    validation: Faces,
    device: torch.device,
    streams: Sequence[Stream],
) -> float | None:
    """Return the seconds per epoch of all images with every stream busy, averaged over `examples`.

    None if even a few images run out of memory.
    """
    count = len(streams)
    seconds: list[float] = []
    for first in range(0, len(examples), count):
        # The last row wraps around, so that every stream is busy.
        row = [examples[(first + i) % len(examples)] for i in range(count)]
        try:
            seconds += _measured(row, training, validation, device, streams)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            break
    give_back()
    return sum(seconds) / len(seconds) if seconds else None


def _measured(
    examples: list[Config],
    training: Faces,
    validation: Faces,
    device: torch.device,
    streams: Sequence[Stream],
) -> list[float]:
    """Train each example briefly, all at once; return seconds extrapolated to all images."""
    generator = np.random.default_rng(0)

    def some(faces: Faces, part: float) -> Faces:
        return faces.take(generator.permutation(len(faces))[: max(1, round(part * len(faces)))])

    least, steps = MEASURED[device.type]
    factors, trainings = [], []
    # Warm-up: the first epochs also prepare kernels, memory and graphs.
    warm = 2 if streams[0].captures else 1
    for config, stream in zip(examples, streams, strict=True):
        torch.set_num_threads(config.threads)
        part = min(1.0, max(least, steps * config.batch_size) / len(training))
        # A NaN loss would end the measurement, so train with a tiny learning rate.
        changes = {"epochs": warm + 1, "oversample": "none", "lr": 1e-9}
        short = config.model_copy(update=changes)
        with stream.active():  # tensors made on another stream may not be ready
            sides = some(training, part), some(validation, part)
            images = len(oversample(training, config, torch.Generator()))
        run = Run(short, sides[0], device, stream)
        factors.append(images / len(run.train))
        trainings.append(progress(run, sides[1]))
    # All finish their warm-up before the first is measured.
    for _ in together([_until(warm, training) for training in trainings]):
        pass
    return [factors[i] * epoch.seconds for i, epoch in together(trainings)]


def _until(number: int, training: Iterator[Epoch | Mark]) -> Iterator[Epoch | Mark]:
    """Yield from a training up to an epoch, without closing it."""
    for item in training:
        yield item
        if isinstance(item, Epoch) and item.number == number:
            return
