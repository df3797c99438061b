"""Export of the final settings from a search and from its confirmation."""

import math
import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from fer.config import Config
from study.analysis.chosen import is_of
from study.confirm import label
from study.options import DEFAULT_URL
from study.spec.faces import for_final_model
from study.storage import records
from tests.conftest import Command, trials

BLOBS = ("--pipeline", "tests.blobs:pipeline", "--workers", 1)
FACES: dict[str, Any] = {
    "data": "fer2013",
    "data_sha256": "0",
    "classes": [],
    "split": "grouped",
    "subset": None,
}


def content(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and provenance of an exported file."""
    found = yaml.safe_load(Path(name).read_text())
    return found["config"], found["provenance"]


@pytest.mark.parametrize(
    ("name", "epochs", "exported"),
    [("fer2013", 3, 30), ("fer2013", 30, 30), ("fer2013", 50, 50), ("demo", 2, 4), ("demo", 9, 9)],
)
def test_a_final_model_has_the_usual_epochs_or_more_and_all_cores(
    name: str, epochs: int, exported: int
) -> None:
    settings = Config(epochs=epochs, threads=1, lr=0.01).settings()
    found, line = for_final_model(settings, {**FACES, "data": name})
    assert found == {**settings, "epochs": exported, "threads": 0}
    assert (f"default {exported} epochs instead of the trial's {epochs}" in line) == (
        exported > epochs
    )
    assert "all cores instead of the trial's 1 thread" in line
    assert f"--epochs {epochs} --threads 1 repeats the trial" in line


def test_settings_of_another_pipeline_stay_as_they_are() -> None:
    assert for_final_model({"epochs": 3, "threads": 1}, {}) == ({"epochs": 3, "threads": 1}, "")


@pytest.fixture
def confirmation(command: Command) -> str:
    """The name of a confirmation of the search `small`."""
    assert command("study.run", *BLOBS, "--trials", 6, "--study", "small").code == 0
    done = command("study.confirm", *BLOBS, "--study", "small", "--top", 2, "--seeds", 3)
    assert done.code == 0, done
    (name,) = {*optuna.get_all_study_names(DEFAULT_URL)} - {"small"}
    return str(name)


def test_of_a_confirmation_the_settings_with_the_highest_mean_are_exported(
    confirmation: str, command: Command
) -> None:
    done = command("study.export", "--study", confirmation)
    assert done.code == 0, done
    by_setting: dict[str, list[optuna.trial.FrozenTrial]] = {}
    for trial in trials(study=confirmation):
        label, _, _ = trial.user_attrs[records.ORIGIN].rpartition(", seed ")
        by_setting.setdefault(label, []).append(trial)
    assert {len(each) for each in by_setting.values()} == {3}
    means = {
        label: statistics.fmean(trial.value or 0.0 for trial in each)
        for label, each in by_setting.items()
    }
    best = max(means, key=lambda label: means[label])
    settings, known = content("best.yaml")
    first, *_ = by_setting[best]
    assert settings == records.kept(first, records.CONFIG)
    assert known["setting"] == best
    assert known["search"] == "small"
    assert known["trials"] == [trial.number for trial in by_setting[best]]
    assert known["share_right"] == pytest.approx(means[best])
    low, high = known["interval_95"]
    assert low < known["share_right"] < high
    results = [records.kept(trial, records.RESULT) for trial in by_setting[best]]
    assert known["best_epoch"] == statistics.median(result["epoch"] for result in results)
    assert known["epochs"] == results[0]["epochs"]
    assert (known["chosen_among"], known["chosen_among_trials"]) == (len(means), 6)
    assert known["confirmed"] in (True, False, None)
    assert best in done.out
    assert f"of 3 seeds {means[best]:.4f}" in done.out
    # --trial still selects one.
    number = next(each for label, each in by_setting.items() if label != best)[0].number
    line = ("--study", confirmation, "--trial", number, "--out", "other.yaml")
    assert command("study.export", *line).code == 0
    assert content("other.yaml")[1]["trial"] == number


def test_a_search_says_what_its_confirmation_would_choose(
    confirmation: str, command: Command
) -> None:
    done = command("study.export", "--study", "small")
    assert done.code == 0, done
    (line,) = [line for line in done.out.splitlines() if "confirmation" in line]
    assert f"python -m study.export --study {confirmation}" in line
    _, known = content("best.yaml")
    assert known["confirmation"] == confirmation
    assert command("study.export", "--study", confirmation, "--out", "winner.yaml").code == 0
    _, winner = content("winner.yaml")
    assert winner["setting"] in line
    best = trials()[known["trial"]]
    if winner["setting"] in (label(best), records.kept(best, records.ORIGIN)):
        assert known["confirmed"] == winner["confirmed"]
        assert "the same settings" in line
    else:
        assert "other settings" in line
    if "points_against_control" in known:
        points = known["points_against_control"]
        assert all(value is None or math.isfinite(value) for value in points["interval_95"])


def test_a_search_that_was_not_confirmed_says_so_in_its_file(command: Command) -> None:
    assert command("study.run", *BLOBS, "--trials", 2, "--study", "small").code == 0
    done = command("study.export")
    assert done.code == 0, done
    assert "confirmation" not in done.out
    _, known = content("best.yaml")
    assert known["confirmed"] is None
    assert known["chosen_among"] == 2


def test_the_control_is_the_choice_of_a_confirmation_by_where_it_is_from() -> None:
    control, found = (
        optuna.trial.create_trial(value=0.5, user_attrs={records.ORIGIN: name} if name else {})
        for name in ("hand-tuned", "")
    )
    assert is_of("hand-tuned", control)
    assert not is_of("hand-tuned", found)
    found.number = control.number = 8
    assert is_of("trial 8", found)
    assert is_of("trial 8 (hand-made adagrad)", found)
    assert not is_of("trial 80", found)
