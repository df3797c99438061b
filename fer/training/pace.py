"""How long an epoch takes on this machine, measured on a few images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from fer.config import Config
from fer.data import Faces
from fer.training.augment import oversample
from fer.training.fit import Epoch, Run, progress, together
from fer.training.memory import give_back, ran_out
from fer.training.stream import Mark, Stream

MEASURED = {"cpu": (64, 1), "cuda": (64, 48)}  # images at least, and steps of a batch


def measure_epoch(
    examples: Sequence[Config],
    training: Faces,
    validation: Faces,
    device: torch.device,
    streams: Sequence[Stream],
) -> float | None:
    """Seconds of an epoch of all images while every stream is busy, the mean over `examples`.

    None if not even a few images fit the memory.
    """
    count = len(streams)
    seconds: list[float] = []
    for first in range(0, len(examples), count):
        # Every stream has something to do, and every example is measured.
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
    """Train a little with each example, all at once; the seconds as if of all images."""
    generator = np.random.default_rng(0)

    def some(faces: Faces, part: float) -> Faces:
        return faces.take(generator.permutation(len(faces))[: max(1, round(part * len(faces)))])

    least, steps = MEASURED[device.type]
    factors, trainings = [], []
    # The first epochs also prepare kernels, memory and graphs.
    warm = 2 if streams[0].captures else 1
    for config, stream in zip(examples, streams, strict=True):
        torch.set_num_threads(config.threads)
        part = min(1.0, max(least, steps * config.batch_size) / len(training))
        # A learning rate that ends in NaN would end the measurement as well.
        changes = {"epochs": warm + 1, "oversample": "none", "lr": 1e-9}
        short = config.model_copy(update=changes)
        with stream.active():  # what one stream makes another may not find ready
            sides = some(training, part), some(validation, part)
            images = len(oversample(training, config, torch.Generator()))
        run = Run(short, sides[0], device, stream)
        factors.append(images / len(run.train))
        trainings.append(progress(run, sides[1]))
    # All have prepared themselves before the first is measured.
    for _ in together([_until(warm, training) for training in trainings]):
        pass
    return [factors[i] * epoch.seconds for i, epoch in together(trainings)]


def _until(number: int, training: Iterator[Epoch | Mark]) -> Iterator[Epoch | Mark]:
    """A training up to an epoch; it can go on afterwards."""
    for item in training:
        yield item
        if isinstance(item, Epoch) and item.number == number:
            return
