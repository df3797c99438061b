"""Every form of FER-2013 gives the same data set, from a cache the second time."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from fer import data
from fer.config import EMOTIONS
from fer.data import cache
from fer.errors import UserError
from tests.conftest import REAL_DATA, Table, frame, write_forms


def test_every_form_gives_the_same_images_labels_usages_and_hash(
    table: Table, tmp_path: Path
) -> None:
    forms = write_forms(table, tmp_path)
    reference = data.read(forms["fer2013.csv"])
    assert reference.counts() == {"Training": 70, "PublicTest": 7, "PrivateTest": 7}
    for name, path in forms.items():
        dataset = data.read(path)
        assert dataset.sha256 == reference.sha256, name
        if name != "train.csv":
            np.testing.assert_array_equal(dataset.images, reference.images)
            np.testing.assert_array_equal(dataset.labels, reference.labels)
            np.testing.assert_array_equal(dataset.usages, reference.usages)
    assert data.read(forms["train.csv"]).counts() == {"Training": 70}


def test_images_keep_their_labels(table: Table, tmp_path: Path) -> None:
    dataset = data.read(write_forms(table, tmp_path)["fer2013.csv"])
    label_of = dict(zip(table.pixels, table.labels, strict=True))
    for image, label in zip(dataset.images, dataset.labels, strict=True):
        assert label_of[" ".join(map(str, image.ravel()))] == label


def test_the_form_is_recognised_by_content_not_by_name(table: Table, tmp_path: Path) -> None:
    forms = write_forms(table, tmp_path)
    renamed = forms["parquet"].rename(tmp_path / "faces.csv")
    assert data.read(renamed).sha256 == data.read(forms["fer2013.csv"]).sha256


def test_numbers_of_a_huggingface_file_are_mapped_by_its_class_names(
    table: Table, tmp_path: Path
) -> None:
    names = sorted(EMOTIONS)
    alphabetical = [names.index(EMOTIONS[label]) for label in table.labels]
    content = pa.table({"image": [{"bytes": jpeg} for jpeg in table.jpegs], "label": alphabetical})
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = tmp_path / "hf.parquet"
    pyarrow.parquet.write_table(content.replace_schema_metadata(metadata), path)
    dataset = data.read(path)
    assert dataset.part("Training").counts() == dict.fromkeys(EMOTIONS, 12)
    label_of = dict(zip(table.pixels, table.labels, strict=True))
    assert label_of[" ".join(map(str, dataset.images[0].ravel()))] == dataset.labels[0]


def test_a_second_read_comes_from_the_cache_and_a_changed_file_does_not(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_forms(table, tmp_path)["fer2013.csv"]
    first = data.read(path)
    with monkeypatch.context() as patch:
        patch.setattr(data, "read_table", lambda _: pytest.fail("the file was parsed again"))
        assert data.read(path).sha256 == first.sha256
    frame(table).iloc[:-3].to_csv(path, index=False)
    assert data.read(path).counts() != first.counts()


def test_a_damaged_cache_is_read_anew(table: Table, tmp_path: Path) -> None:
    path = write_forms(table, tmp_path)["fer2013.csv"]
    first = data.read(path)
    kept = cache.cache_file([str(path.resolve())])
    content = bytearray(kept.read_bytes())
    content[-100] ^= 0xFF
    kept.write_bytes(content)
    assert data.read(path).sha256 == first.sha256
    kept.write_bytes(b"short")
    assert data.read(path).sha256 == first.sha256


def test_removed_classes_leave_labels_without_holes(table: Table, tmp_path: Path) -> None:
    dataset = data.read(write_forms(table, tmp_path)["fer2013.csv"])
    fewer = dataset.without(["disgust", "sad"])
    assert fewer.classes == ("angry", "fear", "happy", "surprise", "neutral")
    assert fewer.part("Training").counts() == dict.fromkeys(fewer.classes, 10)
    assert fewer.sha256 != dataset.sha256
    happy = dataset.part("Training").images[dataset.part("Training").labels == 3]
    still = fewer.part("Training").images[fewer.part("Training").labels == 2]
    assert (happy == still).all()


def test_data_is_found_by_option_then_variable_then_folder_then_demo(
    table: Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert data.load(None).name == "demo"
    assert "DEMO FACES" in capsys.readouterr().err
    forms = write_forms(table, tmp_path)
    Path("data").mkdir()
    pd.read_csv(forms["fer2013.csv"]).iloc[:60].to_csv("data/fer2013.csv", index=False)
    assert len(data.load(None).labels) == 60
    monkeypatch.setenv("FER_DATA", str(forms["train.csv"]))
    assert data.load(None).counts() == {"Training": 70}
    assert len(data.load(forms["parquet"]).labels) == 84


def test_in_file_order_a_file_is_split_as_the_reports_listing_splits_it(
    table: Table, tmp_path: Path
) -> None:
    path = write_forms(table, tmp_path)["train.csv"]
    rows = pd.read_csv(path)
    ours = []
    for file in (path, tmp_path / "turned.csv"):
        turned = rows if file == path else rows.iloc[::-1]
        turned.to_csv(file, index=False)
        _, listing = train_test_split(
            turned, test_size=0.2, random_state=42, stratify=turned.emotion
        )
        for _ in range(2):  # decoded, then from the cache
            dataset = data.load(file, how="file-order")
            _, validation = data.split(dataset.part("Training"), "file-order")
            pixels = {" ".join(map(str, face.ravel())) for face in validation.images.numpy()}
            assert pixels == {*listing.pixels}
        ours.append(dataset.sha256)
    assert ours[0] != ours[1]  # another order, another split
    assert data.load(path).sha256 == data.load(tmp_path / "turned.csv").sha256


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real images are not here")
def test_the_facts_of_the_real_images_hold() -> None:
    dataset = data.read(REAL_DATA)
    training = dataset.part("Training")
    assert dataset.counts() == {"Training": 28709, "PublicTest": 3589}
    assert list(training.counts().values()) == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    report_training, report_validation = data.split(training, "stratified")
    assert (len(report_training), len(report_validation)) == (22967, 5742)
    assert report_training.counts()["disgust"] == 349


@pytest.mark.parametrize("form", ["folders", "parquet"])
def test_images_of_another_size_are_reported_each_time_they_are_read(
    form: str, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_forms(table, tmp_path)[form]
    if form == "folders":
        file = path / "train" / "sad" / "large.png"
        Image.new("L", (64, 60)).save(file)
        place = str(file)
    else:
        rows = pd.read_parquet(path).reset_index(drop=True)
        buffer = io.BytesIO()
        Image.new("L", (64, 60)).save(buffer, "PNG")
        rows.loc[3, "image"] = buffer.getvalue()
        rows.to_parquet(path)
        place = f"{path} row 4"
    for _ in range(2):  # decoded, then from the cache
        data.load(path, ["happy"])
        line = capsys.readouterr().err
        assert line.startswith("note: 1 image is not 48x48: cropped to a square and scaled")
        assert line.endswith(f"the first is 64x60 in {place}\n")


def test_an_eighth_class_is_refused_in_a_line(table: Table, tmp_path: Path) -> None:
    path = write_forms(table, tmp_path)["folders"]
    (path / "train" / "contempt").mkdir()
    with pytest.raises(UserError, match=r"must be named after one of angry.*contempt"):
        data.load(path)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_labels_and_usages_may_be_any_usual_words(form: str, table: Table, tmp_path: Path) -> None:
    words = ("Angry", "disgusted", "FEAR", "3-Happiness", "sadness", "5 surprised", "neutral")
    splits = {"Training": "train", "PublicTest": "val", "PrivateTest": "Testing"}
    path = tmp_path / f"faces.{form}"
    rows = pd.DataFrame(
        {
            "label": [words[label] for label in table.labels],
            "split": [*map(splits.get, table.usages)],
        }
    )
    if form == "csv":
        rows.assign(pixels=table.pixels).to_csv(path, index=False)
    else:
        rows.assign(image=table.jpegs).to_parquet(path)
    dataset = data.read(path)
    assert dataset.counts() == {"Training": 70, "Test": 7, "Validation": 7}
    assert dataset.sha256 == data.read(write_forms(table, tmp_path)["fer2013.csv"]).sha256


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_all_unknown_labels_and_usages_of_a_table_are_named_at_once(
    form: str, table: Table, tmp_path: Path
) -> None:
    path, rows = tmp_path / f"faces.{form}", frame(table).astype({"emotion": object})
    rows.loc[[3, 8], "emotion"], rows.loc[50, "emotion"] = "contempt", "hapy"
    for column, rule in (("emotion", "0..6"), ("Usage", "Training, PublicTest")):
        if column == "Usage":
            rows = frame(table)
            rows.loc[3, "Usage"], rows.loc[50, "Usage"] = "contempt", "hapy"
        if form == "csv":
            rows.to_csv(path, index=False)
        else:
            columns = {name: rows[name].astype(str) for name in ("emotion", "Usage")}
            pd.DataFrame({"image": table.jpegs, **columns}).to_parquet(path)
        with pytest.raises(UserError) as caught:
            data.read(path)
        place = "line 5" if form == "csv" else "row 4"
        for name in (rule, f"'contempt' in {place}", "'hapy'"):
            assert name in str(caught.value)
        assert ("happy?" in str(caught.value)) == (column == "emotion")


def test_digits_have_a_known_meaning_in_fer_2013s_own_column_alone(
    table: Table, tmp_path: Path
) -> None:
    digits = [*map(str, table.labels)]
    path = tmp_path / "faces.parquet"
    pd.DataFrame({"image": table.jpegs, "label": digits}).to_parquet(path)
    with pytest.raises(UserError, match=r"must be an emotion's name .*digits"):
        data.read(path)
    frame(table).rename(columns={"emotion": "label"}).to_csv(tmp_path / "faces.csv", index=False)
    with pytest.raises(UserError, match=r"must be an emotion's name .*digits"):
        data.read(tmp_path / "faces.csv")
    features = {"label": {"names": [*"0123456"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    content = pa.table({"image": table.jpegs, "label": table.labels})
    pyarrow.parquet.write_table(content.replace_schema_metadata(metadata), path)
    with pytest.raises(UserError, match="numbers without class names"):
        data.read(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_any_separator_and_unicode_encoding_of_a_csv_file_is_read(
    encoding: str, separator: str, table: Table, tmp_path: Path
) -> None:
    path = tmp_path / "faces.csv"
    frame(table).to_csv(path, index=False, sep=separator, encoding=encoding)
    dataset = data.read(path)
    assert dataset.counts() == {"Training": 70, "PublicTest": 7, "PrivateTest": 7}
    assert dataset.sha256 == data.read(write_forms(table, tmp_path)["fer2013.csv"]).sha256


def test_a_table_that_tells_no_splits_is_reported_as_training(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = frame(table).drop(columns="Usage")
    rows.to_csv(tmp_path / "fer2013.csv", index=False)
    assert data.find(tmp_path / "fer2013.csv").counts() == {"Training": 84}
    assert "all 84 images are for training" in capsys.readouterr().err
    rows.to_csv(tmp_path / "train.csv", index=False)
    data.find(tmp_path / "train.csv")
    assert not capsys.readouterr().err


def test_the_cache_keeps_apart_what_one_file_is_taken_for(table: Table, tmp_path: Path) -> None:
    """Hugging Face's own cache names files by their content, and links to them."""
    blob = tmp_path / "blob"
    frame(table).drop(columns="Usage").to_csv(blob, index=False)
    for name, usage in {"train": "Training", "test": "Test", "other": "Training"}.items():
        (tmp_path / f"{name}.csv").symlink_to(blob)
        assert data.read(tmp_path / f"{name}.csv").counts() == {usage: 84}
