"""Tables in several files: shards and splits are found by name; missing parts are an error."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from fer import data
from fer.config import EMOTIONS
from fer.errors import UserError
from tests.conftest import Command, Table, frame
from tests.test_bad_input import refused


def write(table: Table, path: Path, usage: str = "Training", part: slice = slice(None)) -> None:
    """Some images of a split, as Hugging Face's library exports them."""
    names = sorted(EMOTIONS)
    rows = [i for i, of_row in enumerate(table.usages) if of_row == usage][part]
    content = pa.table(
        {
            "image": [{"bytes": table.jpegs[i], "path": f"{i}.jpg"} for i in rows],
            "label": [names.index(EMOTIONS[table.labels[i]]) for i in rows],
        }
    )
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(content.replace_schema_metadata(metadata), path)


def expected(table: Table, folder: Path) -> str:
    frame(table).to_csv(folder / "expected.csv", index=False)
    return data.read(folder / "expected.csv").sha256


@pytest.mark.parametrize(
    ("train", "test", "validation"),
    [
        (
            "data/train-{:05}-of-00003",
            "data/test-00000-of-00001",
            "data/validation-00000-of-00001",
        ),
        ("train-{:05}-of-00003-0a1b2c{}", "test-00000-of-00001-0a1b2c", "val-00000-of-00001-ff0"),
        ("default/train/{:04}", "default/test/0000", "default/validation/0000"),
        ("train/part-{:05}", "test/part-00000", "valid/part-00000"),
        ("train/faces_{}", "test/faces", "dev/faces"),
        ("fer2013_train_{}", "fer2013_test", "fer2013_valid"),
    ],
)
def test_shards_and_splits_in_one_folder_are_read_as_one(
    train: str, test: str, validation: str, table: Table, tmp_path: Path
) -> None:
    root = tmp_path / "faces"
    for i in range(3):
        write(table, root / f"{train.format(i, i)}.parquet", part=slice(i, None, 3))
    write(table, root / f"{test}.parquet", "PrivateTest")
    write(table, root / f"{validation}.parquet", "PublicTest")
    (root / "README.md").write_text("x")
    for _ in range(2):  # decoded, then from the cache
        dataset = data.read(root)
        assert dataset.counts() == {"Training": 70, "Test": 7, "Validation": 7}
        assert dataset.sha256 == expected(table, tmp_path)
        assert any("7 images of the validation split" in note for note in dataset.notes)


def test_tables_of_splits_may_be_csv_files(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    for name, usage in {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}.items():
        rows = frame(table)[frame(table).Usage == usage]
        rows.drop(columns="Usage").to_csv(root / f"{name}.csv", index=False)
    assert data.read(root).counts() == {"Training": 70, "Test": 7, "Validation": 7}
    assert data.read(root).sha256 == expected(table, tmp_path)
    assert data.find(root / "train.csv").counts() == {"Training": 70}
    with pytest.raises(UserError, match="no training images, only 7 Test"):
        data.find(root / "test.csv")
    frame(table)[["pixels"]].to_csv(root / "test.csv", index=False)
    capsys.readouterr()
    assert data.find(root).counts() == {"Training": 70, "Validation": 7}
    assert "test.csv next to train.csv, val.csv ignored" in capsys.readouterr().err


def test_a_column_tells_more_than_the_name_of_a_file(table: Table, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    rows = frame(table)
    rows[rows.Usage == "Training"].to_csv(root / "train.csv", index=False)
    rows[rows.Usage != "Training"].to_csv(root / "test.csv", index=False)
    assert data.read(root).counts() == {"Training": 70, "PublicTest": 7, "PrivateTest": 7}


@pytest.mark.parametrize("named", ["folder", "file"])
@pytest.mark.parametrize("there", [[0], [0, 2], [1], [2]])
def test_missing_shards_are_named(
    there: list[int], named: str, command: Command, table: Table, own_folder: Path
) -> None:
    for i in there:
        write(table, Path(f"faces/train-{i:05}-of-00003.parquet"), part=slice(i, None, 3))
    write(table, Path("faces/test-00000-of-00001.parquet"), "PublicTest")
    path = (
        Path("faces") if named == "folder" else Path(f"faces/train-{there[0]:05}-of-00003.parquet")
    )
    lost = [i for i in range(3) if i not in there or (named == "file" and i != there[0])]
    names = [f"{len(lost)} of 3 shards", *(f"train-{i:05}-of-00003.parquet" for i in lost)]
    refused(command, own_folder, names, "fer.train", "--data", path)


def test_a_gap_in_numbers_without_a_total_is_named_and_a_lone_one_is_reported(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "faces" / "train"
    for i in (0, 1, 3):
        write(table, root / f"{i:04}.parquet", part=slice(i, None, 4))
    with pytest.raises(UserError, match=r"1 of 4 shards are missing: 0002\.parquet"):
        data.read(tmp_path / "faces")
    data.find(root / "0001.parquet")
    assert "only 0001.parquet is read, not 0000.parquet, 0003" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "b"], "2 tables, give one of them, .*unknown are a.parquet, b.parquet"),
        (["train", "tets"], r"unknown are tets.parquet \(test\?\)"),
        (["train", "partial-train"], r"unknown are partial-train.parquet"),
        (["train", "training"], "train.parquet, training.parquet are all Training"),
        (["train", "train-00000-of-00001"], "are all Training, give one of them"),
        (["train-00000-of-00001-aa", "train-00000-of-00001-bb"], "a shard appears twice"),
        (["train-00000-of-99999999"], "99,999,998 of 99,999,999 shards .* and 99,999,986 more"),
    ],
)
def test_files_that_are_not_clearly_one_data_set_are_refused(
    names: list[str], said: str, table: Table, tmp_path: Path
) -> None:
    for name in names:
        write(table, tmp_path / "faces" / f"{name}.parquet")
    with pytest.raises(UserError, match=said) as caught:
        data.read(tmp_path / "faces")
    assert len(str(caught.value)) < 900


def test_an_index_in_parquet_beside_folders_is_no_table(table: Table, tmp_path: Path) -> None:
    folder = tmp_path / "faces" / "train" / "sad"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(table.jpegs[0])
    pd.DataFrame({"file": ["1.jpg"], "label": ["sad"]}).to_parquet(
        tmp_path / "faces" / "metadata.parquet"
    )
    dataset = data.read(tmp_path / "faces")
    assert dataset.counts() == {"Training": 1}
    assert any("metadata.parquet" in note for note in dataset.notes)
