"""fer.explore counts and plots what is in the data, and shows no test images."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from fer import data
from fer.config import EMOTIONS
from fer.pages.augmentations import KINDS, SCALINGS, TOGETHER, oversampled
from fer.pages.census import take_census
from tests.conftest import REAL_DATA, Command, Table, frame, process


@pytest.fixture
def flawed(table: Table) -> Path:
    """The table with a repeated image, one of two labels, a leaked one and two constant ones."""
    rows = frame(table)
    training, test = rows[rows.Usage == "Training"], rows[rows.Usage == "PublicTest"]
    empty = pd.DataFrame(
        {"emotion": [0, 6], "pixels": [" ".join(["9"] * 2304), " ".join(["7"] * 2304)]}
    ).assign(Usage=["Training", "PublicTest"])
    again = training.iloc[[0]]
    other = training.iloc[[1]].assign(emotion=lambda rows: (rows.emotion + 1) % 7)
    leaked = training.iloc[[2]].assign(Usage="PublicTest")
    path = Path("flawed.csv")
    pd.concat([rows, again, other, leaked, empty]).to_csv(path, index=False)
    assert len(test) == 7
    return path


def test_the_census_finds_what_was_put_there(flawed: Path) -> None:
    dataset = data.load(flawed)
    census = take_census(dataset)
    assert census.images == 84 + 5
    assert census.distinct == 84 + 2
    assert census.repeated == {"Training": 2, "PublicTest": 0, "PrivateTest": 0}
    assert census.across == 1
    assert census.shared[("Training", "PublicTest")] == 1
    assert census.shared[("PublicTest", "PrivateTest")] == 0
    assert len(census.constant) == 2
    (group,) = census.conflicting
    assert len(set(dataset.labels[group])) == 2
    assert (dataset.images[group] == dataset.images[group[0]]).all()


def test_the_page_pictures_training_images_alone(flawed: Path, command: Command) -> None:
    done = command("fer.explore", "--data", flawed, "--out", "out")
    assert done.code == 0, done
    assert re.search(r"identical images with different labels +1 groups", done.out)
    assert re.search(r"in Training and PublicTest +1 groups", done.out)
    assert re.search(r"constant images +2", done.out)
    page = Path("out/explore.html").read_text()
    shown = {
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).tobytes()
        for content in re.findall(r"base64,([A-Za-z0-9+/=]+)'", page)
    }
    dataset = data.load(flawed)
    parts = {usage: dataset.part(usage).images.numpy() for usage in dataset.counts()}
    training = {image.tobytes() for image in parts["Training"]}
    assert training <= shown  # there are fewer than 16 of each class
    for usage in ("PublicTest", "PrivateTest"):
        assert not {image.tobytes() for image in parts[usage]} & (shown - training)
    assert all(name in page for name in EMOTIONS)
    assert "http://" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def pictures(page: str, title: str) -> list[NDArray[np.uint8]]:
    """The images under a heading of the page, up to the next."""
    (section,) = re.findall(rf"<h[23]>{re.escape(title)}</h[23]>(.*?)<h[23]>", page, flags=re.S)
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        for content in re.findall(r"base64,([A-Za-z0-9+/=]+)'", section)
    ]


@pytest.fixture
def page(table: Table, command: Command) -> str:
    """The page of the table."""
    frame(table).to_csv("faces.csv", index=False)
    done = command("fer.explore", "--data", "faces.csv", "--out", "out", "--split", "stratified")
    assert done.code == 0, done
    return Path("out/explore.html").read_text()


def test_the_page_shows_what_each_augmentation_does_to_the_same_eight_faces(page: str) -> None:
    before, mirrored, *others = (pictures(page, name) for name in (*KINDS, TOGETHER))
    training = {
        image.tobytes() for image in data.load(Path("faces.csv")).part("Training").images.numpy()
    }
    assert len(before) == 8
    assert {image.tobytes() for image in before} <= training
    flipped = [
        (after == face[:, ::-1]).all() for face, after in zip(before, mirrored, strict=True)
    ]
    same = [(after == face).all() for face, after in zip(before, mirrored, strict=True)]
    assert all(a or b for a, b in zip(flipped, same, strict=True))
    assert any(flipped)
    for row in others:
        assert len(row) == 8
        # One may be turned by nearly nothing, or cut out where it was.
        changed = [(after != face).any() for face, after in zip(before, row, strict=True)]
        assert sum(changed) >= 6
    erased = others[3]
    for face, after in zip(before, erased, strict=True):
        assert set(after[after != face].tolist()) == {128}  # zero, when scaled to [-1, 1]


def test_the_page_shows_each_scaling_with_its_numbers_on_one_axis_of_greys(page: str) -> None:
    unit = data.load(Path("faces.csv")).part("Training").images.numpy() / 255
    before = np.stack(pictures(page, "as they are")) / 255
    assert page.count("--scaling zero-one") == page.count("--scaling minus-one-one") == 1
    for name, (low, high) in zip(SCALINGS, ((0, 1), (-1, 1), (-0.5, 0.5), (0.5, 1)), strict=True):
        scaled = low + unit * (high - low)
        numbers = (scaled.mean(), scaled.std())
        assert (
            f"<td>{name}</td><td>{scaled.min():.3f} to {scaled.max():.3f}</td>"
            + "".join(f"<td>{number:.3f}</td>" for number in numbers)
        ) in page
        seen = np.stack(pictures(page, name)) / 127.5 - 1
        np.testing.assert_allclose(seen, low + before * (high - low), atol=0.005)


def test_the_page_shows_the_ten_views_of_a_face(page: str) -> None:
    seen = pictures(page, "Ten-crop at test time")
    assert len(seen) == 30
    for face, views in zip(
        pictures(page, "as they are")[:3], (seen[:10], seen[10:20], seen[20:]), strict=True
    ):
        padded = np.pad(face, 4, constant_values=128)
        corners = [padded[top : top + 48, left : left + 48] for top in (0, 8) for left in (0, 8)]
        expected = [face, *(view for corner in corners for view in (corner, corner[:, ::-1]))]
        for view, right in zip(views, [*expected, face[:, ::-1]], strict=True):
            np.testing.assert_array_equal(view, right)


def test_oversampling_is_counted_step_by_step_and_pictured_beside_its_originals(
    page: str, command: Command
) -> None:
    done = command("fer.explore", "--data", "faces.csv", "--out", "out", "--split", "stratified")
    training, _ = data.split(data.load(Path("faces.csv")).part("Training"), "stratified")
    assert training.counts()["disgust"] == 8
    for step, images, disgust in (
        ("as they are", 56, 8),
        ("mirrored ones added", 64, 16),
        ("rotated ones added", 80, 32),
    ):
        assert re.search(rf"{step} +{images} training images, {disgust} of disgust", done.out)
        assert f"<td>{step}</td><td>{images}</td><td>{disgust}</td>" in page
    label = training.classes.index("disgust")
    originals = {image.tobytes() for image in training.images[training.labels == label].numpy()}
    shown = pictures(page, "Oversampling disgust")
    assert len(shown) == 16
    for before, mirrored, turned, both in zip(*(shown[i::4] for i in range(4)), strict=True):
        assert before.tobytes() in originals
        np.testing.assert_array_equal(mirrored, before[:, ::-1])
        # Turned about its centre, a pixel there stays.
        np.testing.assert_allclose(turned[23:25, 23:25], before[23:25, 23:25], atol=1)
        np.testing.assert_allclose(both[23:25, 23:25], mirrored[23:25, 23:25], atol=1)


def test_bad_options_are_refused_and_nothing_is_written(flawed: Path) -> None:
    Path("file").write_text("")
    for arguments, words in (
        (("--out", "file"), "--out must be a folder, got the file file"),
        (("--seed", -1), "--seed must be at least 0, got -1"),
        (("--split", "random"), "split"),
    ):
        refused = process("fer.explore", "--data", flawed, *arguments)
        assert refused.code == 2
        assert words in refused.err
        assert not Path("explored").exists()


@pytest.mark.skipif(not REAL_DATA.exists(), reason="FER-2013 is not here")
def test_the_counts_of_fer2013_are_reproduced() -> None:
    dataset = data.load(REAL_DATA)
    census = take_census(dataset)
    counts = dataset.part("Training").counts()
    assert list(counts.values()) == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert census.shared[("Training", "PublicTest")] == 270
    if "PrivateTest" in dataset.counts():
        assert (census.images, census.distinct) == (35_887, 34_034)
        assert (census.across, len(census.conflicting), len(census.constant)) == (557, 57, 13)


@pytest.mark.skipif(not REAL_DATA.exists(), reason="FER-2013 is not here")
def test_the_reports_counts_of_oversampling_are_reproduced() -> None:
    training, _ = data.split(data.load(REAL_DATA).part("Training"), "stratified")
    steps = oversampled(training, seed=0).steps()
    assert list(steps.values()) == [(22_967, 349), (23_316, 698), (24_014, 1_396)]
