"""Importance of settings: reported if clear, not if a few trials would change it."""

import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from study.analysis import importance
from study.analysis.importance import LEAST, importances, save_plot, varied
from study.spec.space import place
from tests.conftest import Command

SPACE = {f"{kind}_lr": {"only": {"of": "kind", "value": kind, "setting": "lr"}} for kind in "ab"}


def searched(count: int, noise: float, rates: float = 0.0) -> list[FrozenTrial]:
    """Trials in which `large` decides, then `kind`, and `nothing` has no effect; `rates` times
    how far the learning rate is from 0.001, which each kind has a parameter for."""
    generator = np.random.default_rng(5)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3)
    )
    for _ in range(count):
        trial = study.ask()
        value = trial.suggest_float("large", 0, 1)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        value += 0.3 * (kind == "a")
        trial.suggest_float("nothing", 0, 1)
        trial.suggest_categorical("fixed", [7])
        if trial.number % 2:
            trial.suggest_float("of some", 0, 1)
        rate = trial.suggest_float(f"{kind}_lr", 1e-4, 1e-1, log=True)
        value += rates * abs(math.log10(rate) + 3)
        study.tell(trial, value + noise * generator.standard_normal())
    return study.get_trials()


def test_what_decides_comes_first_and_its_range_is_separate() -> None:
    ranges = importances(searched(60, 0.0), SPACE, np.random.default_rng(0))
    assert list(ranges)[:2] == ["large", "kind"]
    assert {*ranges} == {"large", "kind", "nothing", "lr"}
    for low, middle, high in ranges.values():
        assert 0 <= low <= middle <= high <= 1
    assert ranges["large"][0] > ranges["kind"][2] > ranges["nothing"][1]
    assert 0.7 < sum(middle for _, middle, _ in ranges.values()) < 1


@pytest.mark.parametrize("format", [2, 3])
def test_the_learning_rate_counts_though_each_optimizer_has_its_own(format: int) -> None:
    found = searched(60, 0.0, rates=1.0)
    if format == 2:  # which kept no more of a space than the names of its parameters
        for trial in found:
            trial.set_user_attr("config", {"kind": "", "lr": 0.0})
    ranges = importances(found, SPACE if format == 3 else {}, np.random.default_rng(0))
    assert {*ranges} == {"large", "kind", "nothing", "lr"}
    assert next(iter(ranges)) == "lr"
    assert ranges["lr"][0] > 0.3


APART = {"a": (1e-4, 1e-2), "b": (1.0, 1e2)}  # ranges of a rate


def with_rates_apart(score: Callable[[str, float], float]) -> list[FrozenTrial]:
    """Trials scored by their kind and by the place of its rate in its own range, 0..1."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3)
    )
    for _ in range(40):
        trial = study.ask()
        kind = trial.suggest_categorical("kind", ["a", "b"])
        low, high = APART[kind]
        rate = trial.suggest_float(f"{kind}_lr", low, high, log=True)
        trial.suggest_float("nothing", 0, 1)
        study.tell(trial, score(kind, math.log(rate / low) / math.log(high / low)))
    return study.get_trials()


def test_a_rate_counts_by_its_place_in_the_range_of_its_kind() -> None:
    # Rates themselves would have two humps, with a kind each: forty trials do not show them.
    best_in_the_middle = with_rates_apart(lambda kind, place: -abs(place - 0.5))
    ranges = importances(best_in_the_middle, SPACE, np.random.default_rng(0))
    assert next(iter(ranges)) == "lr"
    assert ranges["lr"][1] > 0.7
    assert ranges["kind"][1] < 0.05
    # And a rate would tell the kind, and take its credit.
    kind_alone = with_rates_apart(lambda kind, place: float(kind == "a"))
    ranges = importances(kind_alone, SPACE, np.random.default_rng(0))
    assert ranges["kind"][1] > 0.95
    assert ranges["lr"][1] < 0.02


@pytest.mark.parametrize(
    ("value", "within", "expected"),
    [
        (1e-3, FloatDistribution(1e-4, 1e-2, log=True), 0.5),
        (1e-4, FloatDistribution(1e-4, 1e-2, log=True), 0.0),
        (0.25, FloatDistribution(-1.0, 1.0), 0.625),
        (16, IntDistribution(4, 64, log=True), 0.5),
        (7, IntDistribution(3, 7), 1.0),
        (3, IntDistribution(3, 3), 0.0),
    ],
)
def test_a_place_is_linear_or_logarithmic_as_its_range_is(
    value: float, within: FloatDistribution | IntDistribution, expected: float
) -> None:
    assert place(value, within) == pytest.approx(expected)


def test_what_settings_do_together_is_no_share_of_one_of_them() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    for _ in range(60):
        trial = study.ask()
        a, b = (trial.suggest_float(name, -1, 1) for name in "ab")
        study.tell(trial, a * b)
    ranges = importances(study.get_trials(), {}, np.random.default_rng(0))
    assert sum(middle for _, middle, _ in ranges.values()) < 0.7


def test_few_noisy_trials_have_ranges_that_overlap() -> None:
    ranges = importances(searched(LEAST, 1.0), SPACE, np.random.default_rng(0))
    assert ranges["large"][0] < ranges["nothing"][2]


def test_the_same_generator_gives_the_same_ranges() -> None:
    trials = searched(12, 0.1)
    first, again, other = (
        importances(trials, SPACE, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_nothing_is_said_where_no_two_scores_differ() -> None:
    generator = np.random.default_rng(0)
    assert importances([], SPACE, generator) == {}
    assert importances(searched(1, 0.0), SPACE, generator) == {}
    assert importances(searched(1, 0.0) * 2 * LEAST, SPACE, generator) == {}
    assert importances(searched(LEAST - 1, 0.0), SPACE, generator) == {}


def test_only_what_varies_is_named() -> None:
    assert varied(searched(9, 0.0)) == ["a_lr", "b_lr", "kind", "large", "nothing", "of some"]


def test_the_picture_has_a_bar_each(tmp_path: Path) -> None:
    save_plot({"one": (0.1, 0.5, 0.9), "two": (0.0, 0.2, 0.4)}, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 5000


@pytest.mark.long
def test_a_search_appears_on_the_results_page_with_its_best_and_its_beginning(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 2)  # the ranges are tested above
    line = ("--trials", 11, "--subset", 150, "--epochs", 1, "--workers", 1, "--pruner", "none")
    mine = ("--study", "../my [b]", "--remove", "disgust")
    assert command("study.run", "--space", "extended", *line, *mine).code == 0
    assert command("study.results", "--out", "page").code == 0
    page = Path("page/results.md").read_text()
    asked = re.search(r"^    python -m (study.run .*)$", page, re.MULTILINE)
    assert asked is not None
    again = command(*shlex.split(asked[1]))
    assert "study  ../my [b], 11 trials finished" in again.out, again
    assert "without disgust" in page
    assert "| hand-tuned | hand-tuned |" in page
    assert "| one-cycle recipe | optimizer adamw, lr 0.003" in page
    assert "| search | " in page
    assert "11 trials complete, 0 pruned" in page
    assert re.search(r"^Trial \d+, the best found .* hand-made settings", page, re.MULTILINE)
    (picture,) = Path("page").glob("*.png")
    assert f"]({picture.name})" in page
    assert {path.name for path in Path().iterdir()} >= {"page", "studies.db"}
    assert not [*Path("..").glob("*.png")]
    assert command("study.report", "--out", "page.html").code == 0
    assert "Share of the variance" in Path("page.html").read_text()
