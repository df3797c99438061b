"""Launching work: eager first, then captured, then replayed; many runs driven by one thread.

A fake replaces the GPU's streams and graphs: it records what it is asked for, and decides after
how many queries a mark is reached, so that runs overtake each other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fer.config import Config, Optimizer
from fer.data import Faces, split
from fer.training.evaluation import Validation
from fer.training.fit import Epoch, Run, fit, parts, progress, score, step, together
from fer.training.launch import Launcher
from fer.training.stream import REACHED, HostStream
from tests.conftest import drawn_faces
from tests.test_fast_step import stock

CPU = torch.device("cpu")


@dataclass
class Device:
    """What the streams of a stand-in share."""

    seed: int = 0
    log: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)
        self.active: list[str] = []


@dataclass
class Reached:
    """A mark that is reached when the device says so, some looks after it was set."""

    looks: int

    def query(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def synchronize(self) -> None:
        self.looks = 0


class Recorded:
    """A stream whose graphs are the functions they were captured from."""

    steps_at_once = 3
    ahead = 2
    captures = True

    def __init__(self, device: Device, name: str = "a") -> None:
        self.device, self.name = device, name

    def begin_run(self, memory: float) -> None:
        pass

    @contextmanager
    def active(self) -> Iterator[None]:
        self.device.active.append(self.name)
        yield
        self.device.active.pop()

    def mark(self) -> Reached:
        assert self.device.active[-1] == self.name, "a mark on another stream"
        return Reached(int(self.device.generator.integers(0, 4)))

    def capture(self, work: Callable[[], object]) -> Callable[[], object]:
        assert self.device.active[-1] == self.name, "a capture on another stream"
        self.device.log.append((self.name, "capture"))

        def replay() -> None:
            assert self.device.active[-1] == self.name, "a replay on another stream"
            self.device.log.append((self.name, "replay"))
            work()

        return replay


class Refusing(Recorded):
    """A stream that can't capture after all."""

    def capture(self, work: Callable[[], object]) -> Callable[[], object]:
        self.device.log.append((self.name, "refused"))
        raise RuntimeError("operation not permitted\nwhen stream is capturing")


@pytest.fixture(scope="module")
def sides() -> tuple[Faces, Faces]:
    return split(drawn_faces(90), "grouped")


def numbers(epochs: list[Epoch]) -> list[tuple[float, float, float, bytes]]:
    return [(epoch.train_loss, epoch.loss, epoch.accuracy, epoch.right) for epoch in epochs]


def launches(stream: Any, *calls: tuple[str, int]) -> list[str]:
    """What a launcher does for some calls of work, and what work was done."""
    launcher = Launcher(stream)
    done: list[str] = []
    for name, times in calls:
        launcher.launch(name, partial(done.append, name), times)
    assert done == [name for name, times in calls for _ in range(times)]
    return [what for _, what in stream.device.log]


def test_work_is_called_first_then_captured_once_and_replayed() -> None:
    log = launches(Recorded(Device()), *[("step", 3)] * 4)
    assert log == ["capture", "replay", "replay", "replay"]


def test_each_number_of_steps_and_each_kind_of_work_has_a_graph() -> None:
    log = launches(
        Recorded(Device()), ("step", 3), ("step", 2), ("last", 1), ("step", 3), ("step", 2)
    )
    assert log == ["capture", "replay", "capture", "replay", "replay"]


def test_a_capture_that_fails_is_tried_once_and_the_work_is_called_instead() -> None:
    stream = Refusing(Device())
    launcher, done = Launcher(stream), []
    for _ in range(4):
        launcher.launch("step", lambda: done.append(1), 2)
    assert len(done) == 8
    assert stream.device.log == [("a", "refused")]
    assert "no graph of step: operation not permitted when stream is capturing" in launcher.refused


def test_work_that_fits_called_but_not_captured_is_called_and_one_line_says_why() -> None:
    class Full(Recorded):
        tries = 0

        def capture(self, work: Callable[[], object]) -> Callable[[], object]:
            self.tries += 1
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    stream, done = Full(Device()), []
    launcher = Launcher(stream)
    for _ in range(3):
        launcher.launch("step", lambda: done.append(1))
    assert len(done) == 3
    assert stream.tries == 2  # the second with what others kept
    assert "no graph of step: cuDNN error: CUDNN_STATUS_ALLOC_FAILED" in launcher.refused


def test_memory_that_runs_out_for_called_work_ends_the_run() -> None:
    class Full(Recorded):
        def capture(self, work: Callable[[], object]) -> Callable[[], object]:
            work()
            return work

    def hungry() -> None:
        if launcher.refused:
            raise torch.OutOfMemoryError("CUDA out of memory, called")
        if launched:
            raise torch.OutOfMemoryError("CUDA out of memory, captured")

    launched: list[int] = []
    launcher = Launcher(Full(Device()))
    launcher.launch("step", hungry)
    launched.append(1)
    with pytest.raises(torch.OutOfMemoryError, match="called"):
        launcher.launch("step", hungry)


def test_memory_that_others_keep_is_given_back_and_the_capture_tried_again() -> None:
    class Full(Recorded):
        tries = 0

        def capture(self, work: Callable[[], object]) -> Callable[[], object]:
            self.tries += 1
            if self.tries == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().capture(work)

    stream = Full(Device())
    assert launches(stream, ("step", 1), ("step", 1)) == ["capture", "replay"]
    assert stream.tries == 2


def test_a_processor_calls_all_work() -> None:
    launcher, done = Launcher(HostStream()), []
    for _ in range(3):
        launcher.launch("step", lambda: done.append(1), 2)
    assert len(done) == 6
    assert not launcher.refused


@pytest.mark.parametrize("optimizer", get_args(get_args(Optimizer)[0]))
def test_graphs_give_the_curve_of_plain_steps(optimizer: str, sides: tuple[Faces, Faces]) -> None:
    config = Config.model_validate(
        {"optimizer": optimizer, "lr": 1e-3, "epochs": 2, "batch_size": 8}
        | {"dropout": 0.2, "rotation": 10, "crop_padding": 2, "mirror_validation": True}
        | {"schedule": "constant" if optimizer == "rprop" else "cosine"}
    )
    device = Device()
    plain = list(fit(Run(config, sides[0], CPU), sides[1]))
    run = Run(config, sides[0], CPU, Recorded(device))
    assert numbers(list(fit(run, sides[1]))) == numbers(plain)
    at_once = Recorded.steps_at_once
    launches = parts(len(run.train), 8, at_once)
    # One graph a whole part, else one a step; so are the steps of the first part.
    an_epoch = sum(1 if times == at_once else times for _, times in launches) + 1
    # The first step of each batch size and the first evaluation are called.
    called = len({size for size, _ in launches}) + 1
    assert device.log.count(("a", "replay")) == 2 * an_epoch + at_once - 1 - called
    captured = device.log.count(("a", "capture"))
    assert captured == len({size for size, _ in launches}) + 2  # of many steps, and evaluation


@pytest.mark.parametrize("seed", range(3))
def test_many_runs_on_one_thread_have_the_curves_they_have_alone(
    seed: int, sides: tuple[Faces, Faces]
) -> None:
    configs = [
        Config(epochs=3, batch_size=8, dropout=0.3),
        Config(epochs=1, optimizer="sgd", lr=0.1, batch_size=16),
        Config(epochs=2, optimizer="rprop", lr=1e-3, pool1="average"),
        Config(epochs=2, optimizer="adamax", fc_width=20, output_activation="softmax"),
    ]
    alone = [numbers(list(fit(Run(config, sides[0], CPU), sides[1]))) for config in configs]
    device = Device(seed)
    runs = [
        Run(config, sides[0], CPU, Recorded(device, str(i))) for i, config in enumerate(configs)
    ]
    beside: list[list[Epoch]] = [[] for _ in configs]
    for i, epoch in together([progress(run, sides[1]) for run in runs]):
        beside[i].append(epoch)
    assert [numbers(epochs) for epochs in beside] == alone
    # They took turns.
    streams = [name for name, what in device.log if what == "replay"]
    assert sum(a != b for a, b in pairwise(streams)) > len(configs)


def test_stopping_one_run_leaves_its_neighbour_alone(sides: tuple[Faces, Faces]) -> None:
    config = Config(epochs=3, batch_size=8)
    alone = numbers(list(fit(Run(config, sides[0], CPU), sides[1])))
    device = Device()
    ours = progress(Run(config, sides[0], CPU, Recorded(device, "ours")), sides[1])
    other = progress(Run(config, sides[0], CPU, Recorded(device, "other")), sides[1])
    epochs = []
    for i, item in enumerate(ours):
        if i < 4:
            next(other)
        elif i == 4:
            other.close()  # type: ignore[attr-defined]
        if isinstance(item, Epoch):
            epochs.append(item)
        else:
            item.synchronize()
    assert numbers(epochs) == alone


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_so_many_parts_are_under_way_before_the_first_is_waited_for(
    ahead: int, sides: tuple[Faces, Faces]
) -> None:
    stream = Recorded(Device())
    stream.ahead = ahead
    run = Run(Config(epochs=1, batch_size=4), sides[0], CPU, stream)
    next(item for item in progress(run, sides[1]) if item is not REACHED)
    assert int(run.place) == ahead * Recorded.steps_at_once * 4


def test_others_have_their_turn_between_steps_that_are_called(sides: tuple[Faces, Faces]) -> None:
    run = Run(Config(epochs=1, batch_size=4), sides[0], CPU, Refusing(Device()))
    places = []
    for item in progress(run, sides[1]):
        if item is REACHED:
            places.append(int(run.place))
        elif places:
            break
    assert places == [4, 8, 16, 20]  # within the first two parts of three steps


def test_a_processor_takes_a_part_at_a_time(sides: tuple[Faces, Faces]) -> None:
    run = Run(Config(epochs=1, batch_size=2), sides[0], CPU, HostStream())
    next(progress(run, sides[1]))
    assert int(run.place) == min(len(run.train), 2 * HostStream.steps_at_once * 2)


def test_a_nan_loss_ends_the_epoch_early(sides: tuple[Faces, Faces]) -> None:
    config = Config(
        epochs=3, batch_size=2, optimizer="sgd", lr=10, output_activation="none", norm="none"
    )
    run = Run(config, sides[0], CPU, Recorded(Device()))
    epochs = list(fit(run, sides[1]))
    assert len(epochs) == 1
    assert epochs[0].diverged
    assert int(run.place) < len(sides[0]) / 2


class OnTheDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what no graph can hold: the host reading a value, and drawing."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "rand", "bernoulli", "normal", "uniform")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not any(word in name for word in self.FORBIDDEN), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad"])
def test_a_step_and_an_evaluation_read_and_draw_nothing(
    optimizer: str, sides: tuple[Faces, Faces]
) -> None:
    config = Config.model_validate(
        {"optimizer": optimizer, "dropout": 0.2, "rotation": 10, "crop_padding": 2}
        | {"zoom": 0.1, "erasing": 0.5, "tta": "ten-crop", "label_smoothing": 0.1}
        | {"copies": "twice", "mirror_validation": True}
        | {"schedule": "one-cycle" if optimizer == "adam" else "constant"}
        | {"batch_size": 8, "precision": "bfloat16"}
    )
    run = Run(config, sides[0], CPU)
    stock(run.net)  # the processor's kernels take a slope as a number
    run.begin_epoch()
    step(run, 8)
    with OnTheDevice():  # type: ignore[no-untyped-call]
        step(run, 8)
        score(run, Validation(sides[1], config))
    forbidding = OnTheDevice()  # type: ignore[no-untyped-call]
    with pytest.raises(AssertionError, match="_local_scalar_dense"), forbidding:
        float(run.loss_sum)
