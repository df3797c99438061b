"""The benchmarks, on a few faces."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import harness, pipelines
from bench.pipelines import PIPELINES, ReportNet
from bench.speed import Contestant, measure_speed
from bench.steps import where_time_goes
from fer.config import Config
from fer.data import Faces, split
from fer.network.model import Net, parameter_count
from tests.conftest import Command, drawn_faces

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


@pytest.mark.parametrize("name", PIPELINES)
def test_the_turns_of_others_are_not_counted(
    name: str, sides: tuple[Faces, Faces], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    waited = [0]
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) + waited[0])
    monkeypatch.setattr(pipelines, "time", clock)
    epochs = PIPELINES[name](*sides, Config(), CPU)
    next(epochs)
    waited[0] = 10**6
    assert next(epochs) < 10**6


@pytest.mark.long
def test_several_runs_on_one_thread_are_one_contestant(sides: tuple[Faces, Faces]) -> None:
    contestants = [Contestant("one", "ours", 1, 1), Contestant("three", "ours", 1, 1, lanes=3)]
    one, three = measure_speed(contestants, *sides, Config(), CPU, rounds=1, epochs=1)
    assert three["images_per_second"]["median"] > 0.2 * one["images_per_second"]["median"]


@pytest.mark.long
def test_where_the_time_of_a_step_goes_is_reported_by_batch_size(
    sides: tuple[Faces, Faces], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = where_time_goes(*sides, CPU, "float32", quick=True)
    assert [row["batch"] for row in rows] == [16, 64]
    for row in rows:
        assert 0 < row["host"] <= row["whole"]
        assert min(row["draws"], row["scores"], row["kept"], row["lanes"][1]) > 0
        assert "capture" not in row  # a processor has none
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_accuracies_are_compared_seed_by_seed(command: Command) -> None:
    done = command(
        "bench.accuracy", "--seeds", 2, "--epochs", 1, "--subset", 150, "--json", "figures.json"
    )
    assert done.code == 0, done
    figures = json.loads(Path("figures.json").read_text())
    best = figures["best"]
    assert {len(values) for values in best.values()} == {2}
    assert figures["mean"] == pytest.approx(sum(best["fast"]) / 2 - sum(best["plain"]) / 2)
    assert figures["interval"][0] <= figures["mean"] <= figures["interval"][1]
    assert "fast - plain:" in done.out
    refused = command("bench.accuracy", "--seeds", 1)
    assert refused.code == 2
    assert "--seeds must be at least 2, got 1" in refused.err


@pytest.mark.long
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


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_are_measured(sampler: str) -> None:
    assert harness.sampler_cost(sampler, 12, draws=2) > 0
