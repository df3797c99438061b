"""Training is deterministic given its seed, learns, and can be stopped after any epoch."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fer.config import Config, Optimizer
from fer.data import Faces, split
from fer.training.evaluation import evaluate, predict
from fer.training.fit import Epoch, Run, fit, parts
from tests.conftest import drawn_faces

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sides() -> tuple[Faces, Faces]:
    """250 synthetic faces, split."""
    return split(drawn_faces(250), "grouped")


def curve(config: Config, sides: tuple[Faces, Faces]) -> list[Epoch]:
    return list(fit(Run(config, sides[0], CPU), sides[1]))


def numbers(epochs: list[Epoch]) -> list[tuple[float, float, float]]:
    return [(epoch.train_loss, epoch.loss, epoch.accuracy) for epoch in epochs]


def test_one_seed_gives_one_curve_and_another_seed_another(sides: tuple[Faces, Faces]) -> None:
    config = Config(epochs=2, dropout=0.3, rotation=10, crop_padding=2)
    first = numbers(curve(config, sides))
    torch.rand(5)  # the global generator has no say
    assert numbers(curve(config, sides)) == first
    assert numbers(curve(config.model_copy(update={"seed": 1}), sides)) != first


def test_a_curve_is_the_same_beside_a_neighbour(sides: tuple[Faces, Faces]) -> None:
    config, other = Config(epochs=2, dropout=0.3), Config(epochs=2, optimizer="sgd", lr=0.1)
    alone = numbers(curve(config, sides))
    ours, neighbour = Run(config, sides[0], CPU), Run(other, sides[0], CPU)
    pairs = zip(fit(ours, sides[1]), fit(neighbour, sides[1]), strict=True)
    assert numbers([mine for mine, _ in pairs]) == alone


def test_mirrored_validation_images_are_drawn_from_the_seed_and_change_no_training(
    sides: tuple[Faces, Faces],
) -> None:
    config = Config(epochs=3)
    mirrored = config.model_copy(update={"mirror_validation": True})
    plain, first, second = (curve(each, sides) for each in (config, mirrored, mirrored))
    assert numbers(first) == numbers(second)
    assert [epoch.train_loss for epoch in first] == [epoch.train_loss for epoch in plain]
    assert all(a.loss != b.loss for a, b in zip(first, plain, strict=True))
    generator = torch.Generator().manual_seed(config.seed + 2)
    run = Run(mirrored, sides[0], CPU)
    for epoch in fit(run, sides[1]):  # about half of the images, others in each epoch
        chosen = torch.empty(len(sides[1]), dtype=torch.bool).bernoulli_(0.5, generator=generator)
        images = torch.where(chosen[:, None, None], sides[1].images.flip(-1), sides[1].images)
        seen = Faces(images, sides[1].labels, sides[1].classes)
        assert epoch.loss == evaluate(run.net, seen, mirrored).loss.item()


def test_an_epoch_tells_which_validation_images_were_right(sides: tuple[Faces, Faces]) -> None:
    run = Run(Config(epochs=2, optimizer="adamax", lr=0.002), sides[0], CPU)
    count = len(sides[1])
    for epoch in fit(run, sides[1]):
        right = predict(run.net, sides[1].images, run.config).argmax(1) == sides[1].labels
        assert epoch.right == np.packbits(right.numpy()).tobytes()
        assert len(epoch.right) == (count + 7) // 8
        assert 0 < right.sum() == round(epoch.accuracy * count)


@pytest.mark.long
def test_it_learns_the_drawn_faces(sides: tuple[Faces, Faces]) -> None:
    last = curve(Config(epochs=8, optimizer="adamax", lr=0.002, batch_size=16), sides)[-1]
    assert last.accuracy > 0.45  # chance is 0.14
    assert last.confusion.sum() == len(sides[1])
    assert last.accuracy == np.trace(last.confusion) / len(sides[1])


@pytest.mark.parametrize("optimizer", get_args(get_args(Optimizer)[0]))
def test_every_optimizer_trains(optimizer: str, sides: tuple[Faces, Faces]) -> None:
    config = Config.model_validate({"optimizer": optimizer, "lr": 1e-3, "epochs": 2})
    first, second = curve(config, sides)
    assert second.train_loss < first.train_loss


def test_the_learning_rate_and_weight_decay_reach_the_optimizer(
    sides: tuple[Faces, Faces],
) -> None:
    base = Config(epochs=1)
    changed = [base.model_copy(update=change) for change in ({"lr": 1e-3}, {"weight_decay": 0.1})]
    assert len({curve(config, sides)[0].train_loss for config in (base, *changed)}) == 3


def test_closing_stops_and_the_network_keeps_what_it_learnt(sides: tuple[Faces, Faces]) -> None:
    run = Run(Config(epochs=50), sides[0], CPU)
    before = run.net.state_dict()["dense2.0.weight"].clone()
    epochs = fit(run, sides[1])
    assert next(epochs).number == 1
    epochs.close()  # type: ignore[attr-defined]
    assert not torch.equal(run.net.state_dict()["dense2.0.weight"], before)


def test_a_nan_loss_is_reported(sides: tuple[Faces, Faces]) -> None:
    config = Config(epochs=1, optimizer="sgd", lr=10, output_activation="none", norm="none")
    assert curve(config, sides)[0].diverged


@given(count=st.integers(1, 3000), size=st.integers(2, 300), at_once=st.integers(1, 40))
def test_the_parts_of_an_epoch_hold_every_image_once_and_never_one_alone(
    count: int, size: int, at_once: int
) -> None:
    launches = parts(count, size, at_once)
    assert sum(batch * times for batch, times in launches) == count
    assert all(times <= at_once for _, times in launches)
    assert all(batch in (size, size + 1) for batch, _ in launches[:-1])
    assert count == 1 or launches[-1][0] > 1


def test_the_weights_see_only_training_images(sides: tuple[Faces, Faces]) -> None:
    config = Config(epochs=1)
    other = Faces(255 - sides[1].images, sides[1].labels, sides[1].classes)
    first, second = Run(config, sides[0], CPU), Run(config, sides[0], CPU)
    list(fit(first, sides[1])), list(fit(second, other))
    for name, tensor in first.net.state_dict().items():
        assert torch.equal(tensor, second.net.state_dict()[name]), name
