"""Invalid input gives a one-line error with rule, value and location; nothing is written."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import Command, Table, frame, write_forms

Break = Callable[[pd.DataFrame], None]


def refused(
    command: Command, folder: Path, names: Sequence[object], module: str, *arguments: object
) -> None:
    """The command ends with 2 and one line with all `names`, and leaves `folder` as it was."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = command(module, *arguments)
    assert result.code == 2, result
    lines = [line for line in result.err.splitlines() if "DEMO FACES" not in line]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    for name in names:
        assert str(name) in lines[0], lines[0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def break_cell(column: str, row: int, value: object) -> Break:
    def change(rows: pd.DataFrame) -> None:
        rows[column] = rows[column].astype(object)
        rows.iloc[row, rows.columns.get_loc(column)] = value  # type: ignore[call-overload]

    return change


def change_pixels(row: int, change: Callable[[list[str]], object]) -> Break:
    def apply(rows: pd.DataFrame) -> None:
        words = str(rows["pixels"][row]).split()
        change(words)
        rows["pixels"] = [*rows["pixels"][:row], " ".join(words), *rows["pixels"][row + 1 :]]

    return apply


BROKEN_ROWS: dict[str, tuple[Break, Sequence[object]]] = {
    "too few pixels": (change_pixels(5, lambda words: words.pop()), ["2304", 2303, "line 7"]),
    "too many pixels": (change_pixels(0, lambda words: words.append("1")), [2305, "line 2"]),
    "no pixels": (break_cell("pixels", 3, ""), ["2304 pixels (48x48), got 0", "line 5"]),
    "pixel above 255": (
        change_pixels(9, lambda words: words.__setitem__(17, "256")),
        ["0..255", "'256'", "line 11"],
    ),
    "negative pixel": (
        change_pixels(9, lambda words: words.__setitem__(0, "-1")),
        ["0..255", "'-1'", "line 11"],
    ),
    "fractional pixel": (
        change_pixels(1, lambda words: words.__setitem__(0, "1.5")),
        ["'1.5'", "line 3"],
    ),
    "pixel that is a word": (
        change_pixels(1, lambda words: words.__setitem__(2303, "nan")),
        ["'nan'", "line 3"],
    ),
    "label 7": (break_cell("emotion", 4, 7), ["0..6", "'7'", "line 6"]),
    "label -1": (break_cell("emotion", 4, -1), ["0..6", "'-1'", "line 6"]),
    "label 1.0": (break_cell("emotion", 4, 1.5), ["0..6", "'1.5'", "line 6"]),
    "label missing": (break_cell("emotion", 4, None), ["0..6", "line 6"]),
    "usage unknown": (break_cell("Usage", 2, "Trainig"), ["'Trainig'", "line 4"]),
}


@pytest.mark.parametrize("mistake", BROKEN_ROWS)
def test_a_broken_row_is_named(
    mistake: str, command: Command, table: Table, own_folder: Path
) -> None:
    change, names = BROKEN_ROWS[mistake]
    rows = frame(table)
    change(rows)
    rows.to_csv("bad.csv", index=False)
    refused(command, own_folder, [*names, "bad.csv"], "study.run", "--data", "bad.csv")


@pytest.mark.parametrize("missing", ["emotion", "pixels"])
def test_a_missing_column_is_named(
    missing: str, command: Command, table: Table, own_folder: Path
) -> None:
    frame(table).drop(columns=missing).to_csv("bad.csv", index=False)
    names = [f"column {missing!r}", "bad.csv", "usage"]
    refused(command, own_folder, names, "fer.train", "--data", "bad.csv")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", ["empty"]),
        (b"emotion,pixels\n", ["no rows"]),
        (b"a,b,c\n1,2,3\n", ["not a supported format"]),
        (bytes(range(256)) * 20, ["not a supported format"]),
        (b"PAR1 and then nothing of a parquet file", ["parquet"]),
        (b"emotion,pixels\n1,2,3\n", ["CSV"]),
        (b"emotion,pixels\n1,\xff\xfe\n", ["CSV"]),
    ],
)
def test_a_file_that_is_no_known_form_is_refused(
    content: bytes, names: Sequence[object], command: Command, own_folder: Path
) -> None:
    Path("faces.csv").write_bytes(content)
    refused(command, own_folder, [*names, "faces.csv"], "study.run", "--data", "faces.csv")


def test_a_file_or_folder_that_is_missing_or_of_no_form_is_refused(
    command: Command, own_folder: Path
) -> None:
    refused(command, own_folder, ["no such", "nope.csv"], "study.run", "--data", "nope.csv")
    Path("some").mkdir()
    refused(command, own_folder, ["no supported format", "some"], "study.run", "--data", "some")


def test_an_unknown_folder_name_and_a_broken_image_are_named(
    command: Command, table: Table, tmp_path: Path, own_folder: Path
) -> None:
    folders = write_forms(table, tmp_path)["folders"]
    image = folders / "train" / "happy" / "Training_1036.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    refused(command, own_folder, ["broken image", image], "study.run", "--data", folders)
    image.write_bytes(b"not an image")
    refused(command, own_folder, ["not an image", image], "study.run", "--data", folders)
    image.write_bytes(whole)
    (folders / "train" / "happy").rename(folders / "train" / "hapy")
    refused(command, own_folder, ["angry", "hapy"], "study.run", "--data", folders)


def test_a_class_too_small_to_split_is_named(
    command: Command, table: Table, own_folder: Path
) -> None:
    rows = frame(table)
    keep = (rows.emotion != 1) | (rows.index == rows.index[rows.emotion == 1][0])
    rows[keep].to_csv("few.csv", index=False)
    names = ["'disgust'", "too small to split", "1 distinct", "--remove disgust"]
    refused(command, own_folder, names, "study.run", "--data", "few.csv")
    rows[rows.emotion != 1].to_csv("few.csv", index=False)
    refused(command, own_folder, ["'disgust'", "has 0"], "study.run", "--data", "few.csv")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--trials", 0], ["--trials 0", "greater than or equal to 1"]),
        (["--trials", "many"], ["--trials", "many"]),
        (["--epochs", 0], ["--epochs", "0"]),
        (["--subset", 0], ["--subset", "0"]),
        (["--subset", 99999], ["--subset", "1200", "99999"]),
        (["--subset", 8], ["too small to split", "--subset"]),
        (["--workers", 0], ["--workers", "0"]),
        (["--timeout", -1], ["--timeout", "-1"]),
        (["--seed", -1], ["--seed", "-1"]),
        (["--space", "wide"], ["--space", "wide"]),
        (["--sampler", "best"], ["--sampler", "best"]),
        (["--nope", 1], ["--nope"]),
        (["--remove", "joy"], ["--remove", "'joy'", "angry"]),
        (
            ["--remove", "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"],
            ["at least two classes", "--remove"],
        ),
        (["--storage", "no url"], ["--storage", "'no url'"]),
        (["--storage", "sqlite://"], ["--storage", "file"]),
        (["--storage", "sqlite:////proc/nope/x.db"], ["storage", "/proc/nope/x.db"]),
        (["--storage", "nosuchdb://host/x"], ["storage", "nosuchdb"]),
        (["--study", ""], ["--study"]),
    ],
)
def test_a_bad_option_of_a_study_is_named(
    arguments: Sequence[object], names: Sequence[object], command: Command, own_folder: Path
) -> None:
    refused(command, own_folder, names, "study.run", *arguments)


def test_storage_that_is_no_database_is_named(command: Command, own_folder: Path) -> None:
    Path("notes.txt").write_text("not a database, only some text in a file\n" * 50)
    names = ["storage", "sqlite:///notes.txt", "not a database"]
    refused(command, own_folder, names, "study.run", "--storage", "sqlite:///notes.txt")
    refused(command, own_folder, names, "study.export", "--storage", "sqlite:///notes.txt")


def test_storage_that_cannot_be_written_is_named(command: Command, own_folder: Path) -> None:
    optuna.storages.RDBStorage("sqlite:///old.db")
    url = "sqlite:///file:old.db?mode=ro&uri=true"
    refused(command, own_folder, ["readonly", "old.db"], "study.run", "--storage", url)


def test_a_storage_password_is_not_shown(command: Command, own_folder: Path) -> None:
    url = "nosuchdb://me:secret@host/studies"
    assert "secret" not in command("study.run", "--storage", url).err


def test_export_refuses_what_is_not_there(command: Command, own_folder: Path) -> None:
    refused(command, own_folder, ["no such storage", "studies.db"], "study.export")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("config: {learning_rate: 1}", ["unknown configuration key", "'learning_rate'"]),
        ("config: {lr: 11}", ["lr", "11", "less than or equal to 10"]),
        ("config: {fc_width: 7.5}", ["fc_width", "7.5"]),
    ],
)
def test_a_bad_configuration_is_named(
    text: str, names: Sequence[object], command: Command, own_folder: Path
) -> None:
    Path("best.yaml").write_text(text)
    refused(command, own_folder, [*names, "best.yaml"], "fer.train", "--config", "best.yaml")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--lr", 0], ["lr", "0"]),
        (["--dropout", 1], ["dropout", "less than 1"]),
        (["--optimizer", "lion"], ["--optimizer", "lion"]),
        (["--config", "nope.yaml"], ["nope.yaml"]),
        (["--config", "a.yaml", "--preset", "baseline"], ["--config", "--preset"]),
        (["--device", "tpu"], ["--device", "tpu"]),
    ],
)
def test_a_bad_option_of_training_is_named(
    arguments: Sequence[object], names: Sequence[object], command: Command, own_folder: Path
) -> None:
    refused(command, own_folder, names, "fer.train", *arguments)


def test_what_is_no_run_folder_or_of_another_architecture_is_named(
    command: Command, own_folder: Path
) -> None:
    refused(command, own_folder, ["not a run folder", "nope"], "fer.evaluate", "nope")
    Path("empty").mkdir()
    refused(command, own_folder, ["not a run folder", "empty"], "fer.evaluate", "empty")
    refused(command, own_folder, ["not a run folder", "empty"], "fer.predict", "empty", "a.jpg")

    trained = command("fer.train", "--out", "run", "--subset", 150, "--epochs", 1)
    assert trained.code == 0, trained
    refused(command, own_folder, ["--out", "run"], "fer.train", "--out", "run")
    refused(command, own_folder, ["a.jpg"], "fer.predict", "run", "a.jpg")
    Path("a.jpg").write_bytes(b"x")
    refused(command, own_folder, ["not an image", "a.jpg"], "fer.predict", "run", "a.jpg")
    refused(command, own_folder, ["Test images"], "fer.evaluate", "run", "--split", "Test")

    weights = load_file("run/model.safetensors")
    save_file(
        {**weights, "dense1.0.weight": weights["dense1.0.weight"][:5]}, "run/model.safetensors"
    )
    names: Sequence[object] = [
        "another architecture",
        "dense1.0.weight",
        "[5, 1764]",
        "[70, 1764]",
    ]
    refused(command, own_folder, names, "fer.evaluate", "run")
    save_file({"other": weights["dense1.0.weight"]}, "run/model.safetensors")
    refused(command, own_folder, ["another architecture"], "fer.predict", "run", "a.jpg")
    Path("run/model.safetensors").write_bytes(b"\x80\x04pickle")
    refused(command, own_folder, ["not a weights file"], "fer.evaluate", "run")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--batch-size", 1), ["--batch-size", "from 2 to 500", "1"]),
        (("--json", "no/such/file.json"), ["--json", "no/such/file.json"]),
        (("--data", "missing.csv"), ["missing.csv"]),
    ],
)
def test_the_benchmark_refuses_before_it_measures(
    arguments: tuple[object, ...], names: list[str], command: Command, own_folder: Path
) -> None:
    refused(command, own_folder, names, "bench", *arguments)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("study.run --trails 5", "--trials"),
        ("study.run --epoch 5", "--epochs"),
        ("study.run --no-handmade", "--no-hand-made"),
        ("study.run --split-see=3 --trails 5", "--split-seed"),
        ("study.run --sampler rnadom", "random"),
        ("study.confirm --seed 2", "--seeds"),
        ("study.compare --vary poolin", "pooling"),
        ("study.export --storge x", "--storage"),
        ("fer.train --optimiser adam", "--optimizer"),
        ("fer.train --pool1 maxx", "max"),
        ("bench --batchsize 3", "--batch-size"),
        ("study.run --zzz", None),
        ("study.run zzz", None),
    ],
)
def test_a_mistyped_option_or_value_gets_the_nearest_one(
    line: str, meant: str | None, command: Command
) -> None:
    done = command(*line.split())
    assert (done.code, done.err.count("\n")) == (2, 1)
    found = re.findall(r"; did you mean (\S+)\?", done.err)
    assert found == ([meant] if meant else [])
