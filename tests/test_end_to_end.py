"""From a study to a model that classifies photos, through the real commands."""

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors import safe_open

from fer import data, runs
from tests.conftest import Command, Table, write_forms


def test_search_export_train_evaluate_predict(
    table: Table, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = write_forms(table, tmp_path)
    images = ("--data", forms["fer2013.csv"])
    study = command("study.run", *images, "--trials", 2, "--epochs", 2, "--study", "mine")
    assert study.code == 0, study
    assert "DEMO" not in study.err

    exported = command("study.export", "--out", "best.yaml")
    assert exported.code == 0, exported
    best = yaml.safe_load(Path("best.yaml").read_text())
    assert best["provenance"]["study"] == "mine"
    assert best["provenance"]["data"] == "fer2013"
    assert (best["config"]["epochs"], best["config"]["threads"]) == (30, 0)
    assert (best["provenance"]["epochs"], best["provenance"]["threads"]) == (2, 1)
    assert "train for the default 30 epochs instead of the trial's 2" in exported.out

    # The demo faces must not be trained on by forgetting --data.
    forgotten = command("fer.train", "--config", "best.yaml", "--out", "run")
    assert forgotten.code == 2
    assert "other data" in forgotten.err

    final = ("--config", "best.yaml", "--out", "run", "--epochs", 2)  # by default the usual 30
    trained = command("fer.train", *final, *images)
    assert trained.code == 0, trained
    assert "training    56 images, 80 after oversampling disgust" in trained.out
    assert "validation  14 images" in trained.out
    with Path("run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "2"]
    # Same settings, images and seed: the final training repeats the trial's curve.
    accuracies = [float(row["accuracy"]) for row in rows]
    assert statistics.fmean(accuracies) == best["provenance"]["validation_accuracy"]
    assert max(accuracies) == best["provenance"]["best_epoch_score"]
    with safe_open("run/model.safetensors", "np") as weights:
        assert weights.metadata() == {"epoch": "2"}  # of the scored epochs, not of the best one
    for picture in ("curves.png", "confusion.png"):
        with Image.open(Path("run") / picture) as image:
            assert image.width > 300

    # Another form of the same images will do.
    monkeypatch.setenv("FER_CACHE", str(Path.cwd() / "cache"))  # with a ledger of its own
    first = command("fer.evaluate", "run", "--data", forms["folders"], "--out", "score.json")
    assert first.code == 0, first
    assert "PrivateTest: 7 images" in first.out
    sha256 = data.load(forms["folders"]).sha256
    assert f"evaluation 1 on this split of data {sha256[:12]} (1 by this run)\n" in first.out
    assert "note" not in first.out
    score = json.loads(Path("score.json").read_text())
    assert np.array(score["confusion"]).sum() == 7
    second = command("fer.evaluate", "run", *images)
    assert "(2 by this run); each one makes the score a little less reliable" in second.out
    public = command("fer.evaluate", "run", *images, "--split", "PublicTest")
    assert "PublicTest: 7 images" in public.out
    assert "evaluation 1 " in public.out

    Image.new("RGBA", (300, 200), "teal").save("a.png")
    Image.fromarray(np.full((48, 48), 77, np.uint8)).save("b.bmp")
    predicted = command("fer.predict", "run", "a.png", "b.bmp")
    assert predicted.code == 0, predicted
    header, *lines = predicted.out.splitlines()
    assert header.split() == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    for line in lines:
        shares = [float(word.rstrip("%")) for word in line.split()[2:]]
        assert len(shares) == 7
        assert sum(shares) == pytest.approx(100, abs=0.5)


def test_an_interrupted_training_resumes_to_the_same_model(command: Command) -> None:
    settings = ("--subset", 119, "--epochs", 4, "--schedule", "cosine", "--threads", 1)
    line = ("fer.train", *settings, "--out")
    assert command(*line, "whole").code == 0
    arguments = [sys.executable, "-u", "-m", *map(str, line), "run"]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    for text in running.stdout:
        if text.startswith("epoch   2/4"):
            running.kill()
            break
    running.communicate()
    kept = Path("run/metrics.csv").read_text()
    other = command(*line, "run", "--lr", 0.001)
    assert other.code == 2
    assert "interrupted run with other settings" in other.err
    assert Path("run/metrics.csv").read_text() == kept

    with runs.alone(Path("run")):
        second = command(*line, "run")
    assert second.code == 2
    assert "another process is training in --out: run" in second.err
    assert Path("run/metrics.csv").read_text() == kept

    again = command(*line, "run")
    assert again.code == 0, again
    assert "resumed     after epoch " in again.out
    assert "epoch   1/4" not in again.out
    assert "epoch   4/4" in again.out
    curves = []
    for folder in ("whole", "run"):
        with Path(folder, "metrics.csv").open() as file:
            curves.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert curves[0] == curves[1]
    weights = [Path(folder, "model.safetensors").read_bytes() for folder in ("whole", "run")]
    assert weights[0] == weights[1]
    assert {path.name for path in Path("run").iterdir()} == {
        path.name for path in Path("whole").iterdir()
    }
    assert "--out holds a finished run" in command(*line, "run").err


def test_a_damaged_state_of_an_interrupted_training_is_reported(command: Command) -> None:
    line = ("fer.train", "--subset", 150, "--epochs", 1, "--out", "run")
    assert command(*line).code == 0
    Path("run/checkpoint.safetensors").write_bytes(b"no tensors")
    again = command(*line)
    assert again.code == 2
    assert again.err.splitlines()[-1].startswith("error: the interrupted run cannot be resumed (")
    assert again.err.endswith("give another --out: run\n")


def test_overrides_win_over_the_file_and_presets_differ(command: Command) -> None:
    Path("mine.yaml").write_text("lr: 0.01\nfc_width: 20\n")
    small = ("--subset", 150, "--epochs", 1)
    result = command("fer.train", "--config", "mine.yaml", "--lr", 0.003, *small, "--out", "a")
    assert result.code == 0, result
    config = yaml.safe_load(Path("a/config.yaml").read_text())["config"]
    assert (config["lr"], config["fc_width"], config["epochs"]) == (0.003, 20, 1)
    result = command("fer.train", "--preset", "baseline", *small, "--out", "b")
    assert result.code == 0, result
    config = yaml.safe_load(Path("b/config.yaml").read_text())["config"]
    assert config["output_activation"] == "softmax"
    assert "after oversampling" not in result.out


def test_a_model_of_fewer_classes_knows_them(command: Command) -> None:
    options = ("--subset", 150, "--epochs", 1, "--remove", "disgust", "sad")
    assert command("fer.train", *options, "--out", "run").code == 0
    evaluated = command("fer.evaluate", "run")
    assert evaluated.code == 0, evaluated
    assert "disgust" not in evaluated.out
    Image.new("L", (50, 50)).save("a.png")
    assert "surprise" in command("fer.predict", "run", "a.png").out
