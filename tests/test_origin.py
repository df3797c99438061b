"""Training on images other than those the settings were found on: noted or refused."""

from pathlib import Path

import pytest
import yaml

from fer.config import Config
from fer.origin import read_origin
from tests.conftest import Command, Table, frame, write_forms
from tests.test_bad_input import refused

FOUND = ("--data", "faces.csv", "--subset", 50, "--remove", "disgust", "--epochs", 1)


@pytest.fixture
def best(table: Table, command: Command) -> str:
    """best.yaml of a study on 50 images without disgust."""
    frame(table).to_csv("faces.csv", index=False)
    arguments = ("--study", "small", "--trials", 1, "--workers", 1)
    assert command("study.run", *FOUND, *arguments).code == 0
    assert command("study.export", "--study", "small").code == 0
    return "best.yaml"


def notes(out: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in out.splitlines() if line.startswith("note ")]


def test_each_difference_between_then_and_now_is_in_one_note(
    best: str, table: Table, command: Command
) -> None:
    Path("forms").mkdir()
    forms = write_forms(table, Path("forms"))
    other = frame(table).iloc[:-1].assign(Usage="Training")
    other.to_csv("other.csv", index=False)
    same = f"{best} was found under other conditions: "
    left_out = "classes left out: disgust then, none now"
    expected = {
        FOUND[2:]: [],
        # The same images in another form are the same.
        ("--data", forms["parquet"], *FOUND[2:]): [],
        ("--epochs", 1): [f"{same}{left_out}; images: 50 then, all now"],
        ("--subset", 70, "--epochs", 1): [f"{same}{left_out}; images: 50 then, all now"],
        ("--subset", 63, "--epochs", 2): [
            f"{same}{left_out}; images: 50 then, 63 now; epochs: 1 then, 2 now"
        ],
        ("--split-seed", 7, *FOUND[2:]): [
            f"{same}validation: grouped split then, grouped split, seed 7 now"
        ],
        # Leaving out and the file's order change the hash, though the images are the same.
        ("--split", "file-order", "--subset", 50, "--epochs", 1): [
            f"{same}{left_out}; validation: grouped split then, file-order split now"
        ],
    }
    for number, (options, lines) in enumerate(expected.items()):
        out = ("--config", best, "--out", f"run{number}")
        done = command("fer.train", "--data", "faces.csv", *out, *options)
        assert done.code == 0, done
        assert notes(done.out) == lines
    done = command("fer.train", "--config", best, "--data", "other.csv", *FOUND[2:])
    (note,) = notes(done.out)
    assert note.startswith(f"{same}data: fer2013 (")
    assert "; " not in note


def test_what_a_run_was_trained_on_counts_more_than_what_its_settings_were_found_on(
    best: str, command: Command
) -> None:
    arguments = ("fer.train", "--data", "faces.csv")
    assert command(*arguments, "--config", best, "--out", "run", "--epochs", 1).code == 0
    done = command(*arguments, "--config", "run/config.yaml", "--out", "again")
    assert (done.code, notes(done.out)) == (0, [])
    done = command(*arguments, "--config", "run/config.yaml", "--out", "less", "--subset", 63)
    assert notes(done.out) == [
        "run/config.yaml was found under other conditions: images: all then, 63 now"
    ]
    # So of a run whose settings were found on nothing.
    assert command(*arguments, "--epochs", 1, "--out", "own").code == 0
    done = command(*arguments, "--config", "own/config.yaml", "--out", "other", "--remove", "sad")
    assert notes(done.out) == [
        "own/config.yaml was found under other conditions: classes left out: none then, sad now"
    ]


def test_a_comparison_says_it_too_and_takes_no_other_data_by_chance(
    best: str, command: Command, own_folder: Path
) -> None:
    arguments = ("study.compare", "--vary", "seed", "--seeds", 1, "--workers", 1)
    done = command(*arguments, "--config", best, "--data", "faces.csv", "--epochs", 1)
    assert done.code == 0, done
    assert notes(done.out) == [
        f"{best} was found under other conditions: classes left out: disgust then, none now; "
        "images: 50 then, all now"
    ]
    for module in (arguments, ("fer.train",)):
        refused(command, own_folder, ["other data", "demo", best], *module, "--config", best)


def test_settings_from_nowhere_and_older_files_say_nothing(best: str, command: Command) -> None:
    content = yaml.safe_load(Path(best).read_text())
    for key in ("classes", "split", "split_seed"):
        del content["provenance"][key]
    Path("old.yaml").write_text(yaml.safe_dump(content))
    Path("plain.yaml").write_text("epochs: 1\n")
    arguments = ("fer.train", "--data", "faces.csv", "--subset", 50)
    done = command(*arguments, "--config", "plain.yaml", "--out", "plain", "--epochs", 2)
    assert (done.code, notes(done.out)) == (0, [])
    options = ("--config", "old.yaml", "--out", "old", "--remove", "disgust", "--epochs", 1)
    done = command(*arguments, *options, "--split", "stratified")
    assert (done.code, notes(done.out)) == (0, [])


def test_a_split_of_each_trials_own_is_that_of_its_seed() -> None:
    Path("a.yaml").write_text("config: {seed: 3}\nprovenance: {split_seed: seed}\n")
    assert read_origin(Path("a.yaml"), Config(seed=3)).split_seed == 3


@pytest.mark.parametrize(("epochs", "best"), [(3, 2), (30, None)])
@pytest.mark.parametrize("run", ["", "data: {name: x, sha256: abc}\n"])
def test_the_best_epoch_is_known_of_trainings_as_long_as_those_it_was_found_in(
    epochs: int, best: int | None, run: str
) -> None:
    known = "provenance: {epochs: 3, best_epoch: 2, threads: 1, data_sha256: abc}"
    Path("a.yaml").write_text(f"config: {{epochs: {epochs}, threads: 2}}\n{known}\n{run}")
    origin = read_origin(Path("a.yaml"), Config(epochs=epochs, threads=2))
    assert origin.best_epoch == best
    # A run had the epochs and threads of its settings; others may be exported for a longer one.
    assert (origin.epochs, origin.threads) == ((epochs, 2) if run else (3, 1))
