"""The life of a worker process: one thread that trains a few trials at once, a lane each."""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from fer.config import Config
from fer.data import Faces
from fer.training.augment import oversample
from fer.training.fit import Epoch, Run, progress, to_device, together
from fer.training.launch import Mark, Stream, open_stream
from fer.training.memory import free_memory, give_back, ran_out, reuse_memory
from study.training import Broken, Done, Imported, Job, OutOfMemory, Ready, Task, Trained, train

# For measuring the pace: images at least, and steps of a batch.
MEASURED = {"cpu": (64, 1), "cuda": (64, 48)}
NAP = 2e-4  # seconds between looks at a device that is busy with all lanes


@dataclass
class Lane:
    """A trial in training, and what it waits for."""

    training: Iterator[Trained | Mark]
    mark: Mark | None = None  # the device has to reach it first
    asked: bool = False  # the parent has to say whether it should go on


def work(connection: Connection, device: torch.device) -> None:
    """What a worker process does: a Task, then Jobs on its lanes, until the parent ends.

    After Trained a lane waits to be told whether to go on.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reuse_memory()
    # As in fer.training.launch, but here CUDA begins before there is a stream.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # The first optimizer imports for a second what else the first epoch would wait for.
    torch.optim.SGD([torch.zeros(1, requires_grad=True, device=device)])
    try:
        connection.send(Imported())
        task: Task = connection.recv()
        training, validation = (
            to_device(
                Faces(torch.from_numpy(images), torch.from_numpy(labels), task.classes), device
            )
            for images, labels in (task.training, task.validation)
        )
        streams = [open_stream(device) for _ in range(task.lanes)]
        memory = free_memory(device)
        pace = None
        if task.examples:
            pace = measure_epoch(task.examples, training, validation, device, streams)
        connection.send((0, Ready(pace, memory)))
        serve(connection, training, validation, device, streams)
    except (EOFError, OSError):
        return  # the parent has ended


def serve(
    connection: Connection,
    training: Faces,
    validation: Faces,
    device: torch.device,
    streams: list[Stream],
) -> None:
    """Train whatever the parent puts on the lanes, taking turns, and tell it every epoch."""
    lanes: dict[int, Lane] = {}
    moved = False
    while True:
        moving = {number: lane for number, lane in lanes.items() if not lane.asked}
        while connection.poll((0 if moved else NAP) if moving else None):
            number, message = connection.recv()
            if isinstance(message, Job):
                job = train(message, training, validation, device, streams[number])
                moving[number] = lanes[number] = Lane(job)
            else:
                moving[number] = lanes[number]
                lanes[number].asked = False
                if not message:
                    lanes[number].training.close()  # type: ignore[attr-defined]
            moved = True
        moved = False
        for number, lane in moving.items():
            if lane.mark is not None and not lane.mark.query():
                continue
            moved = True
            news = advance(lane)
            if news is None:
                continue
            connection.send((number, news))
            lane.asked = isinstance(news, Trained)
            if not lane.asked:
                del lanes[number]
                give_back()  # the next trial may be a small one, or another lane's a large one


def advance(lane: Lane) -> Trained | Done | OutOfMemory | Broken | None:
    """Let a lane do what it can without waiting; its news, if there are any.

    Whatever happens in a trial ends that trial alone, unless the GPU itself has failed: that
    raises, and ends the process.
    """
    try:
        item = next(lane.training, None)
    except Exception as error:  # whatever it is, the parent stores and counts it
        if ran_out(error):
            return OutOfMemory(" ".join(str(error).split())[:300])
        if isinstance(error, torch.AcceleratorError):
            raise
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # raises if it was the GPU, whatever the error says
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return Broken(f"{type(error).__name__} at {place}", traceback.format_exc())
    if item is None or isinstance(item, Trained):
        lane.mark = None
        return item or Done()
    lane.mark = item
    return None


def measure_epoch(
    examples: list[Config],
    training: Faces,
    validation: Faces,
    device: torch.device,
    streams: list[Stream],
) -> float | None:
    """Seconds of an epoch of all images while every lane is busy, the mean over `examples`.

    Each is measured on a few images. None if not even these fit the memory.
    """
    count = len(streams)
    seconds: list[float] = []
    starved = False
    for first in range(0, len(examples), count):
        # Every lane has something to do, and every example is measured.
        row = [examples[(first + i) % len(examples)] for i in range(count)]
        try:
            seconds += _paced(row, training, validation, device, streams)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            starved = True
        if starved:
            give_back()
            break
    return sum(seconds) / len(seconds) if seconds else None


def _paced(
    examples: list[Config],
    training: Faces,
    validation: Faces,
    device: torch.device,
    streams: list[Stream],
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
        # A learning rate that ends in no number would end the measurement as well.
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
    """What a training has to say up to an epoch; it can go on afterwards."""
    for item in training:
        yield item
        if isinstance(item, Epoch) and item.number == number:
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
