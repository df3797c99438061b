"""The benchmark measures what it says, on a few faces."""

import pytest
import torch

from bench import harness
from bench.pipelines import PIPELINES, ReportNet
from bench.speed import Contestant, measure_speed
from fer.config import Config
from fer.data import Faces, split
from fer.model import Net, parameter_count
from tests.conftest import drawn_faces

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sides() -> tuple[Faces, Faces]:
    return split(drawn_faces(84), "grouped")


def test_every_contestant_trains_the_same_network() -> None:
    unused = torch.Generator()
    assert parameter_count(ReportNet(7)) == parameter_count(Net(Config(), 7, unused))


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_yields_the_seconds_of_its_epochs(
    name: str, sides: tuple[Faces, Faces]
) -> None:
    epochs = PIPELINES[name](*sides, Config(), CPU)
    assert all(next(epochs) > 0 for _ in range(2))


def test_contestants_are_measured_in_turn_as_ratios_to_the_first(
    sides: tuple[Faces, Faces],
) -> None:
    contestants = [Contestant("plain", "plain", 1, 1), Contestant("ours", "ours", 2, 1)]
    first, second = measure_speed(contestants, *sides, Config(), CPU, rounds=2, epochs=1)
    assert first["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    ratio = second["ratio"]
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert second["images_per_second"]["median"] > 0
    assert second["bytes_per_process"] > 1e8


def test_storage_is_measured_at_each_size() -> None:
    costs = harness.storage_costs("sqlite:///bench.db", [0, 4, 8], 2)
    assert [cost.trials_before for cost in costs] == [0, 4, 8]
    assert all(cost.trial_ms > 0 and cost.opening_ms > 0 for cost in costs)


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "random"])
def test_samplers_are_measured(sampler: str) -> None:
    assert harness.sampler_cost(sampler, 12, draws=2) > 0
