"""JSON output is valid for every parser; NaN and infinities become null."""

import ast
import json
import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from fer.errors import UserError
from fer.strict_json import number, to_json
from study.spec.spec import searching
from study.storage.records import RESULT, kept, result_of
from tests.blobs import Blobs
from tests.conftest import Command, trials
from tests.test_imports import MODULES

NAN = float("nan")


def refuse(word: str) -> Any:
    raise AssertionError(f"{word} in JSON")


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_become_null_however_deep() -> None:
    value = {"a": [1.5, NAN, (math.inf, {"b": -math.inf})], "c": "NaN", "d": True}
    assert strict(to_json(value)) == {"a": [1.5, None, [None, {"b": None}]], "c": "NaN", "d": True}
    assert math.isnan(number(None))
    assert number(1) == 1.0


def test_a_diverged_trial_leaves_strict_json_and_is_read_again(command: Command) -> None:
    line = ("--study", "small", "--pipeline", "tests.blobs:diverging", "--workers", 1)
    assert command("study.run", *line, "--trials", 2).code == 0
    with closing(sqlite3.connect("studies.db")) as connection:
        names = (f"{owner}_{kind}" for owner in ("trial", "study") for kind in ("user", "system"))
        for table in names:
            for (text,) in connection.execute(f"SELECT value_json FROM {table}_attributes"):
                strict(text)
    first = trials()[0]
    (loss, lost) = kept(first, RESULT)["curves"]["loss"]
    assert (loss > 0, lost) == (True, None)
    result = result_of(first)
    assert result is not None
    assert math.isnan(result.curves["loss"][1])
    optuna_command = ("trials", "--study-name", "small", "--storage", "sqlite:///studies.db")
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("optuna")), *optuna_command, "-f", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(strict(shown.stdout)) == 2
    again = command(
        *("study.replay", "--study", "small", "--trial", 0, "--out", "again.json"),
        *("--pipeline", "tests.blobs:diverging"),
    )
    assert again.code == 0, again
    assert strict(Path("again.json").read_text())["replayed"]["loss"] == [loss, None]


def test_results_with_nan_of_older_databases_are_read() -> None:
    study = optuna.create_study(storage="sqlite:///old.db", study_name="old")
    trial = study.ask()
    stored = {"score": 0.5, "epochs": 1, "seconds": 1.0, "curves": {"loss": [NAN]}}
    trial.set_user_attr(RESULT, stored)
    study.tell(trial, 0.5)
    result = result_of(trials("sqlite:///old.db", "old")[0])
    assert result is not None
    assert math.isnan(result.curves["loss"][0])


def test_a_setting_that_json_does_not_have_is_refused() -> None:
    space = {**Blobs.space, "clip": CategoricalDistribution([1.0, math.inf])}

    class Clipped(Blobs):
        pass

    Clipped.space = space
    with pytest.raises(UserError, match="setting clip = inf: must be finite"):
        searching(Clipped(), "x", None, 0)


def test_every_json_of_ours_is_written_by_one_function() -> None:
    """What Optuna's storage keeps, or compares with what it keeps, apart."""
    found = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("dumps", "dump")
        if isinstance(node.value, ast.Name) and node.value.id == "json"
    }
    assert found <= {
        *("fer.strict_json", "study.spec.space", "study.storage.cached_database"),
        *("study.storage.owner", "study.storage.writing"),
    }
