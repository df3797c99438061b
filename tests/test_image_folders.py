"""Image folders in common layouts are read; whatever cannot be interpreted is named."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from fer import data
from fer.config import EMOTIONS
from fer.errors import UserError
from fer.evaluate import choose_split
from tests.conftest import Command, Table, frame, write_forms
from tests.test_bad_input import refused

SPLITS = {"train": "Training", "test": "PublicTest"}


@pytest.fixture
def expected(table: Table, tmp_path: Path) -> str:
    """The hash of the data set, read from a table."""
    frame(table).to_csv(tmp_path / "expected.csv", index=False)
    return data.read(tmp_path / "expected.csv").sha256


def write_folders(
    table: Table,
    root: Path,
    splits: Mapping[str, str] = SPLITS,
    names: Sequence[str] = EMOTIONS,
    prefix: str = "",
) -> Path:
    """Image folders: the usage of each split's folder, and the names of the emotions' folders."""
    for split, usage in splits.items():
        rows = zip(table.jpegs, table.labels, table.usages, strict=True)
        for i, (jpeg, label, of_row) in enumerate(rows):
            if of_row == usage:
                folder = root / split / names[label]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{prefix}{i}.jpg").write_bytes(jpeg)
    return root


def notes(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on stderr of the data at `path`."""
    capsys.readouterr()
    data.find(path)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "names",
    [
        ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"),
        ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral"),
        ("0 angry", "1 disgust", "2 fear", "3 happy", "4 sad", "5 surprise", "6 neutral"),
        ("0_angry", "1-disgust", "2. fear", "3-Happy", "(4) sad", "05_surprise", "6neutral"),
        ("ANGER", "DISGUSTED", "afraid", "joy", "SADNESS", "Surprised", "NEUTRALITY"),
    ],
)
def test_folders_may_have_any_usual_name_of_an_emotion(
    names: Sequence[str], table: Table, tmp_path: Path, expected: str
) -> None:
    dataset = data.read(write_folders(table, tmp_path / "faces", names=names))
    assert dataset.sha256 == expected
    assert dataset.counts() == {"Training": 70, "Test": 7}


@pytest.mark.parametrize(
    ("train", "other", "usage"),
    [
        ("train", "test", "Test"),
        ("Training", "Testing", "Test"),
        ("Training", "PublicTest", "PublicTest"),
        ("TRAIN", "private_test", "PrivateTest"),
        ("train", "val", "Validation"),
        ("01 training data", "Valid", "Validation"),
        ("train_set", "validation_set", "Validation"),
        ("fer2013-train", "dev", "Validation"),
    ],
)
def test_folders_may_have_any_usual_name_of_a_split(
    train: str, other: str, usage: str, table: Table, tmp_path: Path, expected: str
) -> None:
    splits = {train: "Training", other: "PublicTest"}
    dataset = data.read(write_folders(table, tmp_path / "faces", splits))
    assert dataset.sha256 == expected
    assert dataset.counts() == {"Training": 70, usage: 7}


def test_a_validation_folder_is_never_the_test_and_reported_as_set_aside(
    command: Command, table: Table, own_folder: Path
) -> None:
    write_folders(table, Path("faces"), {"train": "Training", "val": "PublicTest"})
    options = ("--epochs", 1, "--fc-width", 2, "--data", "faces")
    trained = command("fer.train", *options, "--out", "run")
    assert trained.code == 0, trained.err
    assert "note: 7 images of the validation split (val, valid" in trained.err
    for name in ("valid", "validation", "val"):
        next(Path("faces").glob("val*")).rename(Path("faces") / name)
        refusal = command("fer.evaluate", "run", "--data", "faces")
        assert refusal.code == 2
        assert "no labelled test images, it has 70 Training, 7 Validation" in refusal.err
    write_folders(table, Path("faces"), {"test": "PrivateTest"})
    Path("faces/test/sad/83.jpg").write_bytes(table.jpegs[59])  # eight images, not seven
    assert "Test: 8 images" in command("fer.evaluate", "run", "--data", "faces").out
    asked = command("fer.evaluate", "run", "--data", "faces", "--split", "Validation")
    assert "Validation: 7 images" in asked.out


def test_a_test_folder_beside_one_of_publictest_is_not_guessed_to_be_the_test(
    table: Table, tmp_path: Path
) -> None:
    splits = {"train": "Training", "test": "PrivateTest", "PublicTest": "PublicTest"}
    dataset = data.read(write_folders(table, tmp_path / "faces", splits))
    with pytest.raises(UserError, match="--split: 70 Training, 7 PublicTest, 7 Test"):
        choose_split(dataset, "test")
    assert choose_split(dataset, "Test")[0] == "Test"


@pytest.mark.parametrize("above", ["archive", "archive/fer2013", "a/b"])
def test_a_root_one_or_two_levels_down_is_found_and_named(
    above: str, table: Table, tmp_path: Path, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(table, tmp_path / "faces" / above)
    assert data.read(tmp_path / "faces").sha256 == expected
    assert f"note: read from {root}" in notes(tmp_path / "faces", capsys)


def test_a_root_deeper_than_that_or_one_of_several_is_not_guessed(
    table: Table, tmp_path: Path
) -> None:
    write_folders(table, tmp_path / "faces" / "a" / "b" / "c")
    with pytest.raises(UserError, match=r"no supported format .* has a"):
        data.read(tmp_path / "faces")
    write_folders(table, tmp_path / "faces" / "a" / "x")
    write_folders(table, tmp_path / "faces" / "a" / "y")
    with pytest.raises(UserError, match=r"2 data sets, give one of them.*a/x, .*a/y"):
        data.read(tmp_path / "faces")


def test_folders_of_splits_within_folders_of_splits_are_read(
    table: Table, tmp_path: Path, expected: str
) -> None:
    splits = {"train/train": "Training", "test/images": "PublicTest"}
    dataset = data.read(write_folders(table, tmp_path / "faces", splits))
    assert (dataset.sha256, dataset.counts()) == (expected, {"Training": 70, "Test": 7})


def test_emotions_without_splits_are_for_training_with_a_note(
    table: Table, tmp_path: Path, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(table, tmp_path / "faces", {"train": "Training", "test": "PublicTest"})
    assert data.read(root / "train").sha256 == expected
    assert "all 70 images are for training" in notes(root / "train", capsys)
    with pytest.raises(UserError, match="no training images, only 7 Test"):
        data.find(root / "test")


def test_system_files_and_indices_are_skipped_and_counted(
    table: Table, tmp_path: Path, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(table, tmp_path / "faces")
    (root / "__MACOSX" / "train" / "happy").mkdir(parents=True)
    (root / "__MACOSX" / "train" / "happy" / "._1.jpg").write_bytes(b"x")
    (root / "train.csv").write_text("image,label\n1.jpg,happy\n")
    for name in ("labels.csv", "train/Thumbs.db", "test/sad/THUMBS.DB", "train/sad/desktop.ini"):
        (root / name).write_bytes(b"x")
    for name in (".DS_Store", "train/.DS_Store", "train/happy/._1.jpg", "train/happy/list.txt"):
        (root / name).write_bytes(b"x")
    for _ in range(2):  # decoded, then from the cache
        assert data.read(root).sha256 == expected
        said = notes(root, capsys)
        assert "note: 10 entries that are not images of the data set were skipped" in said
        for name in (".DS_Store (2)", "Thumbs.db", "__MACOSX", "train.csv", "._1.jpg"):
            assert name in said


def test_all_that_is_unknown_is_named_at_once_with_the_nearest_name(
    command: Command, table: Table, own_folder: Path
) -> None:
    write_folders(table, Path("faces"))
    for folder in ("train/contempt", "test/contempt", "train/hapy", "train/sad/more"):
        (Path("faces") / folder).mkdir()
    for file in ("trian/a/1.jpg", "extra/1.PNG", "train/loose.jpg"):
        (Path("faces") / file).parent.mkdir(parents=True, exist_ok=True)
        (Path("faces") / file).write_bytes(table.jpegs[0])
    names = ["contempt in test and train", "hapy (happy?)", "trian (train?)", "extra"]
    names += ["train/loose.jpg", "train/sad/more", "angry, disgust, fear"]
    refused(command, own_folder, names, "fer.train", "--data", "faces")


def test_folders_of_digits_are_never_guessed(
    command: Command, table: Table, own_folder: Path
) -> None:
    write_folders(table, Path("faces"), names="0123456")
    names = ["0 in test and train", "6 in", "only digits are ambiguous"]
    refused(command, own_folder, names, "fer.train", "--data", "faces")
    write_folders(table, Path("alone"), {".": "Training"}, "0123456")
    refused(command, own_folder, ["only digits"], "fer.train", "--data", "alone")


def test_folders_without_images_of_emotions_are_reported(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(table, tmp_path / "faces", {"train": "Training"})
    (root / "val").mkdir()
    (root / "test").mkdir()
    (root / "notebooks").mkdir()
    (root / "test" / "1.jpg").write_bytes(table.jpegs[0])
    said = notes(root, capsys)
    assert "1 file in test is not in an emotion's folder: ignored" in said
    assert "val contains no images" in said
    assert "notebooks/" in said


def test_folders_that_are_read_as_one_are_reported_and_a_link_is_read_once(
    table: Table, tmp_path: Path, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(table, tmp_path / "faces")
    (root / "training").symlink_to(root / "train")
    (root / "train" / "joy").mkdir()
    image = next((root / "train" / "happy").iterdir())
    image.rename(root / "train" / "joy" / image.name)
    assert data.read(root).sha256 == expected
    said = notes(root, capsys)
    assert "happy, joy in train are read as one: happy" in said
    assert "training is train: read once" in said


def test_prefixes_tell_the_test_splits_apart_but_never_contradict_a_folder(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(table, tmp_path / "faces", prefix="PrivateTest_")
    assert data.read(root).counts() == {"Training": 70, "PrivateTest": 7}
    assert "70 files in train are named after another split" in notes(root, capsys)
    (root / "test" / "sad" / "another.jpg").write_bytes(table.jpegs[0])
    assert data.read(root).counts() == {"Training": 70, "Test": 8}


def test_images_beside_a_table_are_reported_as_not_read(
    table: Table, tmp_path: Path, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(table, tmp_path / "faces")
    frame(table).to_csv(root / "fer2013.csv", index=False)
    frame(table)[["pixels"]].to_csv(root / "test.csv", index=False)
    assert data.read(root).sha256 == expected
    assert "test/, test.csv, train/ next to fer2013.csv ignored" in notes(root, capsys)


def test_all_broken_images_are_named_at_once(
    command: Command, table: Table, tmp_path: Path, own_folder: Path
) -> None:
    root = write_forms(table, tmp_path)["folders"]
    (root / "train" / "sad" / "a.JPG").write_bytes(b"")
    (root / "train" / "sad" / "b.bin").write_bytes(b"no image")
    (root / "test" / "sad" / "c.jpg").write_bytes(table.jpegs[0][:200])
    names = ["broken image", "test/sad/c.jpg", "also unreadable: train/sad/a.JPG, train/sad/b.bin"]
    refused(command, own_folder, names, "fer.train", "--data", root)


def test_endings_in_capitals_and_linked_folders_are_read(
    table: Table, tmp_path: Path, expected: str
) -> None:
    root = write_folders(table, tmp_path / "faces")
    for file in (root / "train" / "sad").iterdir():
        file.rename(file.with_suffix(".JPEG"))
    (root / "train" / "sad").rename(tmp_path / "elsewhere")
    (root / "train" / "sad").symlink_to(tmp_path / "elsewhere")
    Image.new("L", (48, 48)).save(root / "test" / "sad" / "1.PNG")
    assert data.read(root).sha256 == expected
