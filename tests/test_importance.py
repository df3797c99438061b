"""What mattered in a search: told where it is plain, not where a few trials would change it."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial

from study.importance import importances, save_plot, varied
from tests.conftest import Command


def searched(count: int, noise: float) -> list[FrozenTrial]:
    """Trials in which `large` decides, then `kind`, and `nothing` has no effect."""
    generator = np.random.default_rng(5)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3)
    )
    for _ in range(count):
        trial = study.ask()
        value = trial.suggest_float("large", 0, 1)
        value += 0.3 * (trial.suggest_categorical("kind", ["a", "b"]) == "a")
        trial.suggest_float("nothing", 0, 1)
        trial.suggest_categorical("fixed", [7])
        if trial.number % 2:
            trial.suggest_float("of some", 0, 1)
        study.tell(trial, value + noise * generator.standard_normal())
    return study.get_trials()


def test_what_decides_comes_first_and_its_range_stands_apart() -> None:
    ranges = importances(searched(60, 0.0), np.random.default_rng(0))
    assert list(ranges) == ["large", "kind", "nothing"]
    for low, middle, high in ranges.values():
        assert 0 <= low <= middle <= high <= 1
    assert ranges["large"][0] > ranges["kind"][2] > ranges["nothing"][1]
    assert sum(middle for _, middle, _ in ranges.values()) == pytest.approx(1, abs=0.1)


def test_few_noisy_trials_have_ranges_that_overlap() -> None:
    ranges = importances(searched(8, 1.0), np.random.default_rng(0))
    assert ranges["large"][0] < ranges["nothing"][2]


def test_the_same_generator_gives_the_same_ranges() -> None:
    trials = searched(12, 0.1)
    first, again, other = (importances(trials, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_nothing_is_said_where_no_two_accuracies_differ() -> None:
    generator = np.random.default_rng(0)
    assert importances([], generator) == {}
    assert importances(searched(1, 0.0), generator) == {}
    assert importances(searched(1, 0.0) * 3, generator) == {}


def test_only_what_varies_is_named() -> None:
    assert varied(searched(9, 0.0)) == ["kind", "large", "nothing", "of some"]


def test_the_picture_has_a_bar_each(tmp_path: Path) -> None:
    save_plot({"one": (0.1, 0.5, 0.9), "two": (0.0, 0.2, 0.4)}, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 5000


def test_a_search_stands_on_the_results_page_with_its_best_and_its_beginning(
    command: Command,
) -> None:
    line = ("--trials", 8, "--subset", 150, "--epochs", 1, "--workers", 1, "--pruner", "none")
    assert command("study.run", "--space", "extended", *line).code == 0
    assert command("study.results", "--out", "page").code == 0
    page = Path("page/results.md").read_text()
    assert "python -m study.run --space extended --trials 8 --split grouped --subset 150" in page
    assert "| hand-tuned | hand-tuned |" in page
    assert "| one-cycle recipe | optimizer adamw, lr 0.003" in page
    assert "| search | " in page
    (picture,) = Path("page").glob("*.png")
    assert f"]({picture.name})" in page
    assert command("study.report", "--out", "page.html").code == 0
    assert "Share of the variance" in Path("page.html").read_text()
