"""The display on terminals of any width."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from rich.text import Text

from fer.output import wrapped
from study.analysis.effects import Effect
from study.analysis.odds import few_seeds
from study.analysis.removed import NOTHING, judged
from study.engine.display import Display
from study.engine.ending import Finished
from study.storage.records import Ending, Result
from tests.conftest import Command

SPACE: dict[str, Any] = {
    "optimizer": CategoricalDistribution(["adam", "adagrad"]),
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    **{f"pool{i}": CategoricalDistribution(["max", "average"]) for i in (1, 2, 3)},
}
SETTINGS = {"optimizer": "adam", "lr": 2e-4, "pool1": "max", "pool2": "max", "pool3": "max"}
Show = Callable[..., list[str]]


def ended(origin: str = "", remark: str = "", ending: Ending = Ending.COMPLETE) -> Finished:
    result = Result(ending, 0.3355, 1, 3, 12.0, best=0.36)
    return Finished(7, ending, result, SETTINGS, origin, remark)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """The lines of a terminal so wide on which trials end; on a pipe without a width."""

    def lines(width: int | None, *trials: Finished, search: bool = True) -> list[str]:
        if width is not None:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("COLUMNS", str(width))
        display = Display(9, None, 3, SPACE, search)
        for trial in trials:
            display.finished(trial)
        return [Text.from_ansi(line).plain for line in capsys.readouterr().out.splitlines()]

    return lines


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 300])
@pytest.mark.parametrize("origin", ["", "hand-tuned", "hand-made adamax, sigmoid" * 3])
def test_a_trial_is_one_line_at_any_width(width: int, origin: str, show: Show) -> None:
    (line,) = show(width, ended(origin))
    assert len(line) <= width
    assert line.startswith("trial 7    complete 0.3355")


def test_80_columns_have_score_epochs_seconds_the_first_settings_and_the_tag(show: Show) -> None:
    (line,) = show(80, ended("hand-tuned"), search=True)
    for word in ("0.3355", "3 epochs", "12 s", "adam", "[hand-tuned]", "best so far"):
        assert word in line
    (line,) = show(80, ended())
    assert "lr 0.0002" in line


def test_a_wide_terminal_says_when_it_was_best(show: Show) -> None:
    assert "best 0.3600 (epoch 1 of 3)" in show(140, ended())[0]
    assert "best 0.3600 (epoch 1 of 3)  " in show(None, ended())[0]


def test_a_pipe_has_every_setting_and_how_far_the_study_is(show: Show) -> None:
    (line,) = show(None, ended("hand-tuned"))
    assert "adam     lr 0.0002   max      max      max" in line
    assert "1/9 trials" in line


def test_a_comparison_names_what_it_compares_instead_of_settings(show: Show) -> None:
    for width in (80, None):
        (line,) = show(width, ended("relu, seed 0"), search=False)
        assert "relu, seed 0" in line
        assert "adam" not in line


def test_why_a_trial_failed_is_shown_whole_below_its_line(show: Show) -> None:
    reason = "its worker was ended by SIGKILL, often because memory ran out (see --workers)"
    line, *below = show(80, ended(remark=reason, ending=Ending.FAILED))
    assert line.startswith("trial 7    failed")
    assert " ".join(" ".join(below).split()) == reason
    assert all(len(each) <= 80 for each in below)
    (line,) = show(80, ended(remark="repeats trial 3"))
    assert line.endswith("repeats trial 3  best so far")


def test_prose_breaks_between_words_and_continues_below_its_first_word() -> None:
    text = "plan   12 trials of 960 training and 240 validation images"
    assert wrapped(text, 30, 7).splitlines() == [
        "plan   12 trials of 960",
        "       training and 240",
        "       validation images",
    ]
    assert wrapped(text, None) == text
    assert wrapped("a/long/path/that/is/to/be/pasted", 30) == "a/long/path/that/is/to/be/pasted"


def test_a_bad_storage_is_refused_before_the_data_is_read(command: Command) -> None:
    for name in ("study.run", "study.compare --vary norm", "study.emotions"):
        for url in ("nonsense", "sqlite:///no/folder.db"):
            done = command(*name.split(), "--storage", url, "--data", "no.csv")
            assert done.code == 2, done
            assert "storage" in done.err
            assert "no.csv" not in done.err


def test_options_name_the_kind_of_their_values_alone(command: Command) -> None:
    assert "--epochs INT" in " ".join(command("study.run", "--help").out.split())
    assert "--seeds: " not in command("study.compare", "--seeds", "x").err
    assert command("study.run", "--epochs", "x").err == (
        "error: --epochs x: it should be an integer\n"
    )


def test_a_class_that_is_removed_is_judged_by_the_skill_that_is_left() -> None:
    seeds = tuple(range(6))
    ours = Effect(NOTHING, seeds, (0.50, 0.52, 0.51, 0.50, 0.49, 0.51))
    happy = Effect("happy", seeds, tuple(score - 0.06 for score in ours.scores[::-1]))
    fear = Effect("fear", seeds, tuple(score + 0.001 for score in ours.scores[::-1]))
    assert {label: each.word for label, each in judged([ours, happy, fear]).items()} == {
        "happy": "worse",
        "fear": "not told apart",
    }
    assert judged([happy, fear]) == {}


def test_intervals_of_skill_from_two_seeds_have_no_numbers_where_they_say_nothing() -> None:
    ours = Effect(NOTHING, (0, 1), (-0.05, 0.02))
    (verdict,) = judged([ours, Effect("happy", (0, 1), (0.10, -0.08))]).values()
    assert verdict.points.endswith("[too few seeds]")
    assert not math.isfinite(verdict.low)


def test_few_seeds_are_warned_of_before_they_are_trained() -> None:
    assert "one seed" in few_seeds(1, 7, 240)
    assert "2 seeds detect no difference below 10 points" in few_seeds(2, 7, 84)
    assert few_seeds(4, 7, 84) == ""
