"""Exploring counts and pictures what is in the data, and shows no test image."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer import data
from fer.census import take_census
from fer.config import EMOTIONS
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
    assert re.search(r"identical images of different labels +1 groups", done.out)
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
