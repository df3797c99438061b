"""Final models: trained on all images, with several seeds, and their model card."""

import csv
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from fer import data, one_run, seeds
from fer.config import Config
from fer.origin import Origin
from fer.train import best_length
from fer.training.fit import Epoch, Run, fit
from tests.conftest import Command, Table, frame
from tests.test_bad_input import refused

SMALL = ("--subset", 150, "--epochs", 2, "--lr", 0.002)


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def head_of(folder: str) -> dict[str, Any]:
    """The YAML at the head of a card."""
    _, head, _ = Path(folder, "README.md").read_text().split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


# All images.


def test_a_whole_run_trains_on_all_images_and_has_no_score(table: Table, command: Command) -> None:
    frame(table).to_csv("faces.csv", index=False)
    line = ("fer.train", "--data", "faces.csv", "--epochs", 2, "--out", "run")
    done = command(*line, "--whole")
    assert done.code == 0, done
    assert "training    70 images, 100 after oversampling disgust" in done.out
    assert "validation  none" in done.out
    assert "score       none" in done.out
    assert list(rows_of("run/metrics.csv")[0]) == [
        *("number", "train_loss", "train_accuracy", "seconds")
    ]
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"]["whole"] is True
    assert not Path("run/confusion.png").exists()
    assert "model-index" not in head_of("run")
    assert "trained on all images" in Path("run/README.md").read_text()
    assert command("fer.evaluate", "run", "--data", "faces.csv").code == 0
    (result,) = head_of("run")["model-index"][0]["results"]
    assert result["dataset"]["split"] == "PrivateTest"
    arguments = ("fer.predict", "run", "--data", "faces.csv", "--table", "table.csv")
    refused(command, Path(), ["--whole", "faces.csv"], *arguments)


def test_a_whole_run_takes_the_steps_of_any_run_on_these_images(
    table: Table, command: Command
) -> None:
    """Whatever it looks at in the place of validation images, it learns nothing of it."""
    frame(table).to_csv("faces.csv", index=False)
    line = ("fer.train", "--epochs", 2, "--threads", 1)
    assert command(*line, "--whole", "--data", "faces.csv", "--out", "whole").code == 0
    dataset = data.load(Path("faces.csv"))
    config = Config(**yaml.safe_load(Path("whole/config.yaml").read_text())["config"])
    run = Run(config, dataset.part("Training"), torch.device("cpu"))
    losses = [epoch.train_loss for epoch in fit(run, dataset.part("PublicTest"))]
    assert [float(row["train_loss"]) for row in rows_of("whole/metrics.csv")] == losses
    weights = load_file("whole/model.safetensors")
    for name, tensor in run.net.state_dict().items():
        np.testing.assert_array_equal(weights[name], tensor.numpy())


def test_a_diverged_whole_run_says_so(command: Command) -> None:
    line = ("--subset", 150, "--epochs", 3, "--optimizer", "sgd", "--lr", 10, "--whole")
    hot = ("--output-activation", "none", "--norm", "none", "--momentum", 0.9)
    done = command("fer.train", *line, *hot, "--out", "run")
    assert done.code == 2
    assert "the loss is not finite" in done.err


def test_a_seed_that_diverges_is_reported_and_the_others_are_trained(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_run, "fit", diverging(seed=1, epoch=2))
    line = ("fer.train", *SMALL, "--no-onnx", "--out", "many", "--seeds", 3)
    done = command(*line)
    assert done.code == 0, done
    assert "diverged    the loss is not finite after epoch 2" in done.out
    assert "the mean of 2 seeds" in done.out
    assert "diverged    1 of 3 seeds (1): no model" in done.out
    assert [row["seed"] for row in rows_of("many/seeds.csv")] == ["0", "2"]
    assert "Diverged: 1 of 3 seeds" in Path("many/seed-0/README.md").read_text()
    assert "next        python -m fer.evaluate many/seed-0" in done.out
    # Not even its last epoch makes a model of it, whatever else lies in its folder.
    Path("many/seed-1/notes.txt").touch()
    monkeypatch.setattr(one_run, "fit", fit)
    again = command(*line)
    assert again.code == 0, again
    assert "seed 1      has diverged" in again.out
    assert "epoch " not in again.out
    assert "the mean of 2 seeds" in again.out
    evaluated = command("fer.evaluate", "many/seed-1")
    assert evaluated.code == 2
    assert "not a run folder" in evaluated.err
    refused(
        command, Path(), ["--out", "diverged", "many/seed-1"],
        *("fer.train", *SMALL, "--lr", 0.001, "--seed", 1, "--seeds", 1, "--out", "many"),
    )  # fmt: skip


@pytest.mark.parametrize("whole", [(), ("--whole",)])
def test_if_every_seed_diverges_there_is_no_model(
    whole: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_run, "fit", diverging(seed=5, epoch=1))
    done = command("fer.train", *SMALL, *whole, "--out", "run", "--seed", 5, "--seeds", 1)
    assert done.code == 2
    assert "every seed diverged (5): run" in done.err
    done = command("fer.train", *SMALL, *whole, "--out", "two", "--seed", 5, "--seeds", 2)
    assert done.code == 0, done
    assert "diverged    1 of 2 seeds (5): no model" in done.out


def diverging(seed: int, epoch: int) -> Any:
    """Training in which the loss of one seed is infinite after an epoch."""

    def trained(run: Run, validation: data.Faces) -> Iterator[Any]:
        for each in fit(run, validation):
            lost = run.config.seed == seed and each.number == epoch
            yield replace(each, train_loss=math.inf) if lost else each

    return trained


BEST = Origin(epochs=30, best_epoch=17)


@pytest.mark.parametrize(
    ("settings", "origin", "epochs"),
    [
        (Config(), BEST, 17),
        (Config(schedule="cosine"), BEST, 30),
        (Config(schedule="one-cycle"), BEST, 30),
        (Config(), Origin(epochs=3, best_epoch=2), 30),  # of another length
        (Config(), Origin(epochs=30), 30),
    ],
)
def test_a_whole_run_is_as_long_as_was_best(settings: Config, origin: Origin, epochs: int) -> None:
    assert best_length(settings, origin).epochs == epochs


def test_the_best_epoch_of_the_file_holds_for_whole_runs_unless_epochs_are_given(
    command: Command,
) -> None:
    known = {"epochs": 3, "best_epoch": 2, "data_sha256": None}
    Path("best.yaml").write_text(yaml.safe_dump({"config": {"epochs": 3}, "provenance": known}))
    line = ("fer.train", "--config", "best.yaml", "--subset", 150)
    lengths = {}
    for name, options in {
        "validated": (),
        "whole": ("--whole",),
        "given": ("--whole", "--epochs", 3),
        "falling": ("--whole", "--schedule", "cosine"),
    }.items():
        done = command(*line, *options, "--out", name)
        assert done.code == 0, done
        lengths[name] = len(rows_of(f"{name}/metrics.csv"))
        assert ("epochs      2 of 3" in done.out) == (name == "whole")
    assert lengths == {"validated": 3, "whole": 2, "given": 3, "falling": 3}
    # Of a run, whose settings came from there.
    assert (
        command("fer.train", "--config", "validated/config.yaml", *line[3:], "--whole").code == 0
    )
    assert len(rows_of("runs/final/metrics.csv")) == 2


# Several seeds.


def test_seeds_are_trained_each_in_its_folder_and_reported_together(command: Command) -> None:
    line = ("fer.train", *SMALL, "--seeds", 3, "--seed", 5, "--out", "many")
    done = command(*line)
    assert done.code == 0, done
    folders = [f"many/seed-{seed}" for seed in (5, 6, 7)]
    assert sorted(map(str, Path("many").iterdir())) == [*folders, "many/seeds.csv"]
    scores = [
        statistics.fmean(float(row["accuracy"]) for row in rows_of(f"{folder}/metrics.csv"))
        for folder in folders
    ]
    assert [float(row["accuracy"]) for row in rows_of("many/seeds.csv")] == scores
    assert f"score       {statistics.fmean(scores):.4f}, the mean of 3 seeds" in done.out
    assert f"spread      {statistics.stdev(scores):.4f}" in done.out
    assert "next        python -m fer.evaluate many/seed-5" in done.out  # the first, not the best
    for folder in folders:
        assert f"{statistics.fmean(scores):.4f}, the mean of 3 seeds" in (
            Path(folder, "README.md").read_text()
        )
    # A seed has the model that it has alone.
    assert command("fer.train", *SMALL, "--seed", 6, "--out", "alone").code == 0
    assert (
        Path("alone/model.safetensors").read_bytes()
        == Path("many/seed-6/model.safetensors").read_bytes()
    )
    # More of them: those that are there are kept.
    kept = Path("many/seed-5/model.safetensors").stat().st_mtime_ns
    done = command(*line, "--seeds", 4)
    assert done.code == 0, done
    assert Path("many/seed-5/model.safetensors").stat().st_mtime_ns == kept
    assert "the mean of 4 seeds" in done.out
    assert done.out.count("epoch   1/2") == 1
    text = Path("many/seed-5/README.md").read_text()
    assert text.count("the mean of 4 seeds") == 1
    assert "the mean of 3 seeds" not in text


def test_interrupted_seeds_resume_to_the_same_models(command: Command) -> None:
    line = ("fer.train", *SMALL, "--threads", 1, "--seeds", 2, "--no-onnx", "--out")
    assert command(*line, "whole").code == 0
    arguments = [sys.executable, "-u", "-m", *map(str, line), "run"]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    seen = 0
    for text in running.stdout:
        seen += text.startswith("epoch   1/2")
        if seen == 2:  # of the second seed
            running.kill()
            break
    running.communicate()
    done = command(*line, "run")
    assert done.code == 0, done
    assert "seed 0      is finished" in done.out
    for seed in (0, 1):
        weights = [Path(name, f"seed-{seed}/model.safetensors") for name in ("whole", "run")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert Path("whole/seeds.csv").read_text() == Path("run/seeds.csv").read_text()


def test_whole_models_with_several_seeds_have_no_score(command: Command) -> None:
    done = command("fer.train", *SMALL, "--whole", "--seeds", 2, "--out", "many")
    assert done.code == 0, done
    assert "score       none for 2 models" in done.out
    assert sorted(path.name for path in Path("many").iterdir()) == ["seed-0", "seed-1"]


def test_seeds_that_cannot_be_and_folders_of_others_are_refused(
    command: Command, own_folder: Path
) -> None:
    for arguments, names in (
        (("--seeds", 0), ["--seeds", "at least 1", "0"]),
        (("--seeds", -3), ["--seeds", "at least 1", "-3"]),
        (("--seeds", 2, "--seed", 2**31 - 1), ["--seed", str(2**31)]),
    ):
        refused(command, own_folder, names, "fer.train", *SMALL, "--out", "many", *arguments)
    assert command("fer.train", *SMALL, "--out", "one").code == 0
    refused(
        command, own_folder, ["--out", "one/"], "fer.train", *SMALL, "--out", "one", "--seeds", 2
    )
    assert command("fer.train", *SMALL, "--seeds", 1, "--out", "many").code == 0
    other = ("fer.train", *SMALL, "--lr", 0.1, "--seeds", 2, "--out", "many")
    refused(command, own_folder, ["finished run", "many/seed-0"], *other)


def test_the_interval_of_seeds_is_students() -> None:
    found = seeds.together([0.60, 0.61, 0.62])
    assert found.mean == pytest.approx(0.61)
    assert found.spread == pytest.approx(0.01)
    assert found.error == pytest.approx(0.01 / math.sqrt(3))
    assert found.high - found.mean == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-5)
    assert math.isnan(seeds.together([0.6]).low)


# The card.


def epoch(number: int, right: list[int]) -> Epoch:
    confusion = np.diag([sum(right), len(right) - sum(right)])
    return Epoch(
        *(number, 1.0, 0.5, 1.0, statistics.fmean(right), 0.5, 0.5, confusion, 1.0),
        np.packbits(np.array(right, bool)).tobytes(),
    )


def test_the_interval_of_a_score_is_that_of_the_images_over_the_scored_epochs() -> None:
    right = np.random.default_rng(0).integers(0, 2, (4, 1000))
    found = one_run.score_of([epoch(i + 1, row.tolist()) for i, row in enumerate(right)])
    each = right[1:].mean(0)
    assert found.value == pytest.approx(each.mean())
    error = each.std(ddof=1) / math.sqrt(1000)
    assert (found.low, found.high) == pytest.approx(
        (each.mean() - 1.96 * error, each.mean() + 1.96 * error), abs=1e-6
    )


def test_the_card_has_data_protocol_scores_and_limits(table: Table, command: Command) -> None:
    frame(table).to_csv("faces.csv", index=False)
    line = ("--data", "faces.csv", "--epochs", 5, "--lr", 0.002, "--out", "run")
    assert command("fer.train", *line).code == 0
    head = head_of("run")
    assert head["pipeline_tag"] == "image-classification"
    assert "license" not in head
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["split"]) == ("run", "validation")
    scored = statistics.fmean(float(row["accuracy"]) for row in rows_of("run/metrics.csv")[-3:])
    (accuracy, *_) = result["metrics"]
    assert accuracy["value"] == pytest.approx(scored, abs=1e-6)
    low, high = accuracy["args"]["interval_95"]
    assert low < accuracy["value"] < high
    text = Path("run/README.md").read_text()
    sha256 = yaml.safe_load(Path("run/config.yaml").read_text())["data"]["sha256"]
    for words in (
        *(sha256, "grouped split", "epochs 3 to 5", "| disgust |", f"**{scored:.4f}**"),
        *(
            "Not for judging people",
            "Labels are noisy",
            "Posed and web",
            "load_run",
            "| seed | 0 |",
        ),
    ):
        assert words in text, words


def test_a_test_score_is_added_to_the_card_and_what_a_person_wrote_stays(
    table: Table, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_CACHE", str(Path.cwd() / "cache"))  # with a ledger of its own
    frame(table).to_csv("faces.csv", index=False)
    images = ("--data", "faces.csv")
    assert command("fer.train", *images, "--epochs", 1, "--out", "run").code == 0
    card = Path("run/README.md")
    mine = (
        card.read_text()
        .replace("---\ntags:", "---\nlicense: mit\ntags:")
        .replace("## Limits", "## Thanks\n\nTo all.\n\n## Limits")
    )
    card.write_text(mine)
    for look in (1, 2):
        done = command("fer.evaluate", "run", *images, "--out", "score.json")
        assert "saved  run/README.md" in done.out
        assert f"evaluation {look} on this split" in card.read_text()
    assert command("fer.evaluate", "run", *images, "--split", "PublicTest").code == 0
    text, head = card.read_text(), head_of("run")
    assert head["license"] == "mit"
    assert "## Thanks\n\nTo all." in text
    assert text.count("### Test: PrivateTest") == text.count("### Test: PublicTest") == 1
    results = head["model-index"][0]["results"]
    splits = [each["dataset"]["split"] for each in results]
    assert splits == ["validation", "PrivateTest", "PublicTest"]
    low, high = results[1]["metrics"][0]["args"]["interval_95"]
    assert (
        f"| accuracy | {results[1]['metrics'][0]['value']:.4f} | [{low:.4f}, {high:.4f}] |" in text
    )


@pytest.mark.parametrize(
    "text", [b"no head", b"---\nlr: &a 1\n---\n", b"---\n\xff\n---\n", b"---\n- 1\n---\n"]
)
def test_a_card_that_cannot_be_changed_stays_and_the_score_is_reported(
    text: bytes, command: Command
) -> None:
    assert command("fer.train", "--subset", 150, "--epochs", 1, "--out", "run").code == 0
    card = Path("run/README.md")
    card.write_bytes(text)
    done = command("fer.evaluate", "run", "--out", "score.json")
    assert done.code == 0, done
    assert "note: the model card was not updated: " in done.out
    assert card.read_bytes() == text
    assert Path("score.json").exists()


def test_a_card_that_leads_elsewhere_or_is_gone_is_let_be(command: Command) -> None:
    assert command("fer.train", "--subset", 150, "--epochs", 1, "--out", "run").code == 0
    card = Path("run/README.md")
    Path("other.md").write_text(card.read_text())
    before = Path("other.md").read_text()
    card.unlink()
    assert command("fer.evaluate", "run").code == 0
    assert not card.exists()
    card.symlink_to("../other.md")
    assert "note: the model card was not updated" in command("fer.evaluate", "run").out
    assert Path("other.md").read_text() == before
