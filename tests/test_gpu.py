"""Tests that need a GPU: graphs, streams and kernels match plain steps."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
import torch
from torch import nn

from fer import session
from fer.config import Config, Optimizer
from fer.data import Faces, split
from fer.session import FaceSession
from fer.training import checkpoint
from fer.training.cuda import CudaStream
from fer.training.device import settle
from fer.training.fit import Epoch, Run, fit, progress, to_device, together
from fer.training.launch import Launcher, open_stream
from fer.training.stream import Mark
from study.options import DEFAULT_URL
from study.storage import records
from study.workers.messages import Done, Job, OutOfMemory
from study.workers.worker import Lane, advance, train
from tests.conftest import Command, drawn_faces

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
GPU = torch.device("cuda", 0)
OPTIMIZERS = get_args(get_args(Optimizer)[0])


@pytest.fixture(scope="module")
def sides() -> tuple[Faces, Faces]:
    training, validation = split(drawn_faces(700), "grouped")
    return to_device(training, GPU), to_device(validation, GPU)


def config(**settings: Any) -> Config:
    base = {"epochs": 3, "batch_size": 16, "lr": 1e-3}
    return settle(Config.model_validate(base | settings), GPU)


def run(settings: Config, sides: tuple[Faces, Faces], captures: bool = True) -> Run:
    stream = open_stream(GPU) if captures else CudaStream(GPU, captures=False)
    return Run(settings, sides[0], GPU, stream)


def numbers(epochs: list[Epoch]) -> list[tuple[float, float, float, bytes]]:
    return [(epoch.train_loss, epoch.loss, epoch.accuracy, epoch.right) for epoch in epochs]


def alone(settings: Config, sides: tuple[Faces, Faces], captures: bool = True) -> Any:
    made = run(settings, sides, captures)
    epochs = numbers(list(fit(made, sides[1])))
    assert not made.launcher.refused
    return epochs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("largest", [True, False])
def test_the_kernels_equal_pytorchs_layers(dtype: Any, stride: int, largest: bool) -> None:
    from fer.network.gpu_kernels import pooled

    generator = torch.Generator().manual_seed(0)
    features = torch.randint(-64, 65, (9, 44, 46, 46), generator=generator) / 64
    shift = torch.randint(-64, 65, (44,), generator=generator) / 64
    results = []
    for ours in (True, False):
        mine = features.to(GPU, dtype).requires_grad_()
        bias = shift.to(GPU).requires_grad_()
        layer = nn.PReLU(init=0.25).to(GPU)
        pool = nn.MaxPool2d(3, stride) if largest else nn.AvgPool2d(3, stride)
        if ours:
            output = pooled(mine, bias, layer.weight, stride, largest)
        else:
            output = pool(layer(mine.float() + bias[:, None, None])).to(dtype)
        output.backward(torch.ones_like(output))  # type: ignore[no-untyped-call]
        results.append((output.detach().float(), mine.grad, bias.grad, layer.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_graphs_give_the_curve_of_called_steps(optimizer: str, sides: tuple[Faces, Faces]) -> None:
    settings = config(
        optimizer=optimizer,
        dropout=0.2,
        rotation=10,
        crop_padding=2,
        zoom=0.1,
        erasing=0.5,
        schedule="constant" if optimizer == "rprop" else "one-cycle",
        tta="mirror",
        mirror_validation=True,
    )
    assert alone(settings, sides) == alone(settings, sides, captures=False)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("activation", ["prelu", "elu"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("oversample", ["none", "disgust"])
def test_a_run_repeats_to_the_last_bit_captured_and_called(
    precision: str, activation: str, norm: str, oversample: str, sides: tuple[Faces, Faces]
) -> None:
    settings = config(
        precision=precision, conv_activation=activation, norm=norm, oversample=oversample
    )
    first = alone(settings, sides)
    assert alone(settings, sides) == first
    assert alone(settings, sides, captures=False) == first


@pytest.mark.parametrize("changes", [{}, {"crop_padding": 2, "rotation": 9.0, "norm": "none"}])
def test_a_gpus_own_step_learns_what_pytorchs_layers_learn(
    changes: dict[str, Any], sides: tuple[Faces, Faces]
) -> None:
    settings = config(precision="float32", epochs=1, **changes)
    ours = next(fit(run(settings, sides), sides[1]))
    theirs = next(fit(Run(settings, sides[0], GPU, open_stream(GPU), plain=True), sides[1]))
    assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_curve_is_the_same_alone_and_beside_neighbours(
    optimizer: str, sides: tuple[Faces, Faces]
) -> None:
    ours = config(optimizer=optimizer)
    neighbours = [
        config(optimizer=name, batch_size=8 * 2**i, pool1="average", fc_width=30 + i)
        for i, name in enumerate(OPTIMIZERS[:5])
    ]
    expected = alone(ours, sides)
    found: list[Epoch] = []
    trainings = [progress(run(each, sides), sides[1]) for each in (ours, *neighbours)]
    for i, epoch in together(trainings):
        if i == 0:
            found.append(epoch)
    assert numbers(found) == expected


def test_a_capture_that_fails_leaves_the_steps_called_and_the_stream_usable(
    sides: tuple[Faces, Faces],
) -> None:
    stream = open_stream(GPU)
    launcher = Launcher(stream)
    value = torch.ones((), device=GPU)
    for _ in range(3):
        launcher.launch("reading", value.item)
    assert "no graph of reading" in launcher.refused
    after = Run(config(), sides[0], GPU, stream)
    assert numbers(list(fit(after, sides[1]))) == alone(config(), sides)
    assert not after.launcher.refused


def lanes_beside(
    ours: Config, other: Config, sides: tuple[Faces, Faces]
) -> tuple[list[Epoch], list[Any]]:
    """Epochs of `ours`, driven in turn with the lane of another trial, and the other's news."""
    epochs: list[Epoch] = []
    session = FaceSession(lambda seed: sides, None, GPU)
    lane = Lane(train(session, Job(other.settings(), Path("other.state"), "other")))
    news: list[Any] = []
    mark: Mark | None = None
    training = progress(run(ours, sides), sides[1])
    while True:
        if not any(isinstance(each, Done | OutOfMemory) for each in news) and (
            lane.mark is None or lane.mark.query()
        ):
            told = advance(lane)
            news += [told] if told is not None else []
        if mark is not None and not mark.query():
            continue
        item = next(training, None)
        if item is None:
            return epochs, news
        if isinstance(item, Epoch):
            epochs.append(item)
        mark = None if isinstance(item, Epoch) else item


def test_a_trial_pruned_in_mid_flight_leaves_its_neighbour_alone(
    sides: tuple[Faces, Faces], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pruned(run: Run, validation: Faces) -> Iterator[Epoch | Mark]:
        yield from islice(progress(run, validation), 8)

    monkeypatch.setattr(session, "progress", pruned)
    epochs, news = lanes_beside(config(), config(optimizer="sgd", epochs=50), sides)
    assert numbers(epochs) == alone(config(), sides)
    assert isinstance(news[-1], Done)


def test_out_of_memory_ends_that_trial_alone_and_its_neighbour_continues(
    sides: tuple[Faces, Faces], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(run: Run, validation: Faces) -> Iterator[Epoch | Mark]:
        yield from islice(progress(run, validation), 6)
        torch.empty(1 << 50, dtype=torch.uint8, device=GPU)

    monkeypatch.setattr(session, "progress", hungry)
    epochs, news = lanes_beside(config(), config(optimizer="sgd"), sides)
    assert numbers(epochs) == alone(config(), sides)
    assert isinstance(news[-1], OutOfMemory)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_resumes_bit_for_bit_from_a_checkpoint(
    optimizer: str, sides: tuple[Faces, Faces], tmp_path: Any
) -> None:
    settings = config(optimizer=optimizer, dropout=0.2)
    first, epochs = run(settings, sides), []
    for epoch in fit(first, sides[1]):
        epochs.append(epoch)
        checkpoint.save(first, epochs, tmp_path / "state.safetensors", "key")
        break
    second = run(settings, sides)
    assert len(checkpoint.load(second, tmp_path / "state.safetensors", "key")) == 1
    rest = list(fit(second, sides[1]))
    assert numbers([*epochs, *rest]) == alone(settings, sides)


def test_the_gpu_learns_what_the_processor_learns(sides: tuple[Faces, Faces]) -> None:
    settings = config(precision="float32", epochs=1, mirror=False)
    on_cpu = [Faces(side.images.cpu(), side.labels.cpu(), side.classes) for side in sides]
    here = next(fit(Run(settings, on_cpu[0], torch.device("cpu")), on_cpu[1]))
    there = next(fit(run(settings, sides), sides[1]))
    assert there.train_loss == pytest.approx(here.train_loss, rel=1e-2)


def test_a_whole_study_repeats_and_its_trials_can_be_replayed(command: Command) -> None:
    courses = []
    for name in ("first", "second"):
        done = command(
            "study.run", "--device", "cuda", "--subset", 300, "--epochs", 3, "--trials", 20,
            "--study", name,
        )  # fmt: skip
        assert done.code == 0, done
        assert "no graph of" not in done.out
        study = optuna.load_study(study_name=name, storage=DEFAULT_URL)
        courses.append(
            [
                (
                    trial.params,
                    trial.intermediate_values,
                    records.kept(trial, records.RESULT)["curves"]["loss"],
                )
                for trial in study.get_trials()
                if trial.state in records.FINISHED
            ]
        )
    assert len(courses[0]) == 20
    assert courses[0] == courses[1]
    replayed = command("study.replay", "--study", "first", "--trial", 3, "--device", "cuda")
    assert replayed.code == 0, replayed
    assert "identical" in replayed.out
