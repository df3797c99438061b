"""fer.predict on image files: table, picture, worst mistakes."""

import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from fer import data
from fer.config import EMOTIONS
from fer.pages.gallery import (
    CELL,
    COLUMNS,
    DPI,
    FACE,
    MARGIN,
    RIGHT,
    WRONG,
    describe,
    draw_gallery,
)
from fer.pages.predictions import Predictions
from tests.conftest import Command, Table, frame, write_forms
from tests.test_bad_input import refused

Train = Callable[..., None]


@pytest.fixture
def train(table: Table, command: Command) -> Train:
    """Train `run` on faces.csv, and write test.csv: the pixels of the test images alone."""
    rows = frame(table)
    rows.to_csv("faces.csv", index=False)
    rows[rows.Usage != "Training"][["pixels"]].to_csv("test.csv", index=False)

    def run(*options: object) -> None:
        arguments = ("--data", "faces.csv", "--out", "run", "--epochs", 2, "--lr", 0.002)
        done = command("fer.train", *arguments, *options)
        assert done.code == 0, done

    return run


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def images_of(path: str) -> NDArray[np.uint8]:
    """The pixels of a CSV file, in its order."""
    texts = [row["pixels"].split() for row in rows_of(path)]
    return np.array(texts, np.uint8).reshape(-1, 48, 48)


def faces_in(path: str, count: int) -> list[NDArray[np.uint8]]:
    """The first `count` faces of a picture, as they were before they were enlarged."""
    width, height, size, margin = (round(DPI * x) for x in (*CELL, FACE, MARGIN))
    with Image.open(path) as image:
        picture = np.asarray(image.convert("L"))
        assert image.width == min(COLUMNS, count) * width
    faces = []
    for i in range(count):
        x, bottom = i % COLUMNS * width + margin, (i // COLUMNS + 1) * height - margin
        enlarged = picture[bottom - size : bottom, x : x + size]
        np.testing.assert_array_equal(enlarged[::3], enlarged[2::3])
        faces.append(enlarged[1::3, 1::3])
    return faces


def has_colour(path: str, colour: str) -> bool:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.int64)
    wanted = np.array([round(255 * part) for part in to_rgb(colour)])
    return bool((np.abs(pixels - wanted).max(-1) <= 1).any())


def test_all_rows_of_an_unlabelled_file_are_predicted_in_its_order(
    train: Train, command: Command
) -> None:
    train()
    done = command("fer.predict", "run", "--data", "test.csv", "--table", "table.csv")
    assert done.code == 0, done
    assert "14 without emotions" in done.out
    rows = rows_of("table.csv")
    assert [row["row"] for row in rows] == [str(i) for i in range(1, 15)]
    assert list(rows[0]) == ["row", "predicted", *EMOTIONS]
    # Each is what the same face gets as an image file.
    names = []
    for i, face in enumerate(images_of("test.csv")):
        names.append(f"{i}.png")
        Image.fromarray(face).save(names[-1])
    printed = command("fer.predict", "run", *names).out.splitlines()[1:]
    for row, line in zip(rows, printed, strict=True):
        _, best, *shares = line.split()
        assert row["predicted"] == best
        found = [float(row[name]) for name in EMOTIONS]
        assert sum(found) == pytest.approx(1, abs=1e-5)
        expected = [float(share.rstrip("%")) / 100 for share in shares]
        assert found == pytest.approx(expected, abs=0.0006)
    assert len({tuple(row.values())[2:] for row in rows}) == 14


def test_the_picture_shows_the_faces_that_the_seed_draws(train: Train, command: Command) -> None:
    train()
    faces = [face.tobytes() for face in images_of("test.csv")]
    shown = {}
    for name, seed in (("a", 0), ("again", 0), ("b", 1)):
        arguments = ("--data", "test.csv", "--out", f"{name}.png", "--count", 5, "--seed", seed)
        assert command("fer.predict", "run", *arguments).code == 0
        places = [faces.index(face.tobytes()) for face in faces_in(f"{name}.png", 5)]
        assert places == sorted(set(places))
        shown[name] = places
    assert shown["a"] == shown["again"] != shown["b"]
    assert not has_colour("a.png", RIGHT)
    assert not has_colour("a.png", WRONG)
    # There are fewer than asked for.
    assert command("fer.predict", "run", "--data", "test.csv", "--out", "all.png").code == 0
    assert [face.tobytes() for face in faces_in("all.png", 14)] == faces
    for kind, magic in (("PDF", b"%PDF"), ("svg", b"<?xml")):
        out = f"picture.{kind}"
        assert command("fer.predict", "run", "--data", "test.csv", "--out", out).code == 0
        assert Path(out).read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("options", "images"),
    [
        ((), 14),
        (("--split", "stratified"), 14),
        (("--split-seed", 7), 14),
        (("--split", "file-order"), 14),
        (("--subset", 49), 10),
        (("--holdout", 0.2), 12),
        (("--remove", "fear", "sad"), 10),
    ],
)
def test_of_labelled_data_the_runs_validation_images_are_predicted(
    options: Sequence[object], images: int, table: Table, train: Train, command: Command
) -> None:
    train(*options)
    accuracy = float(rows_of("run/metrics.csv")[-1]["accuracy"])  # of the weights kept
    forms = write_forms(table, Path())
    dataset = data.load(Path("faces.csv"))
    training = {face.tobytes() for face in dataset.part("Training").images.numpy()}
    # Any form of the same images will do.
    form = {14: "parquet", 10: "folders", 12: "parquet"}[images] if options else "fer2013.csv"
    source = Path("faces.csv") if "file-order" in options else forms[form]
    arguments = ("--data", source, "--table", "table.csv", "--out", "picture.png")
    done = command("fer.predict", "run", *arguments)
    assert done.code == 0, done
    assert f"{images} of validation, " in done.out
    rows = rows_of("table.csv")
    assert len(rows) == images
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert right / images == pytest.approx(accuracy)
    assert f"{right} ({accuracy:.1%}) correct" in done.out
    assert has_colour("picture.png", WRONG) == (right < images)
    assert {face.tobytes() for face in faces_in("picture.png", images)} <= training


def test_a_run_that_stored_no_seed_of_its_split_had_the_reports(
    train: Train, command: Command
) -> None:
    train()
    arguments = ("fer.predict", "run", "--data", "faces.csv", "--table", "table.csv")
    assert command(*arguments).code == 0
    table = Path("table.csv").read_text()
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    assert settings["data"].pop("split_seed") == 42
    Path("run/config.yaml").write_text(yaml.safe_dump(settings))
    assert command(*arguments).code == 0
    assert Path("table.csv").read_text() == table


def test_the_worst_are_those_whose_emotion_got_the_least_probability_worst_first(
    train: Train, command: Command
) -> None:
    train()
    arguments = ("--data", "faces.csv", "--table", "table.csv", "--out", "worst.png")
    assert command("fer.predict", "run", *arguments, "--worst", "--count", 6).code == 0
    rows = rows_of("table.csv")
    ranked = sorted(range(14), key=lambda i: float(rows[i][rows[i]["true"]]))
    dataset = data.load(Path("faces.csv"))
    _, validation = data.split(dataset.part("Training"), "grouped")
    for place, face in zip(ranked, faces_in("worst.png", 6), strict=False):
        np.testing.assert_array_equal(face, validation.images[place].numpy())
        assert rows[place]["true"] == dataset.classes[validation.labels[place]]


def test_titles_and_bars_tell_right_from_wrong() -> None:
    shares = np.array([[0.2, 0.7, 0.1], [0.2, 0.7, 0.1]], np.float32)
    images = np.zeros((2, 48, 48), np.uint8)
    classes = ("fear", "happy", "sad")
    known = Predictions(images, np.array([1, 2]), shares, classes)
    words, colour, colours = describe(known, 0)
    assert (words, colour, colours[1]) == ("happy → happy 70%", RIGHT, RIGHT)
    words, colour, colours = describe(known, 1)
    assert (words, colour, colours[1:]) == ("sad → happy 70%", WRONG, [WRONG, RIGHT])
    words, colour, _ = describe(Predictions(images, None, shares, classes), 1)
    assert (words, colour) == ("2: happy 70%", "black")


def test_what_does_not_go_together_is_refused_before_anything_is_read(
    command: Command, own_folder: Path
) -> None:
    Path("folder.png").mkdir()
    picture = ("--data", "test.csv", "--out", "a.png")
    arguments: Sequence[object]
    for arguments, names in (
        ((), ["image file", "--data"]),
        (("a.jpg", *picture), ["not both", "a.jpg", "test.csv"]),
        (("a.jpg", "--table", "a.jpg"), ["--table", "a.jpg"]),
        (("a.jpg", "--out", "a.gif"), ["--out", ".png", "a.gif"]),
        (("a.jpg", "--worst"), ["--worst", "--data"]),
        (("--data", "test.csv"), ["--out", "--table"]),
        (("--data", "test.csv", "--table", "a.csv", "--worst"), ["--worst", "--out"]),
        ((*picture, "--count", 0), ["--count", "from 1 to 200", "0"]),
        ((*picture, "--count", 201), ["--count", "from 1 to 200", "201"]),
        ((*picture, "--seed", -1), ["--seed", "-1"]),
        (("--data", "test.csv", "--out", "a.bmp"), ["--out", ".png", "a.bmp"]),
        (("--data", "test.csv", "--out", "no/a.png"), ["an existing folder", "no"]),
        (("--data", "test.csv", "--table", "no/a.csv"), ["an existing folder", "no"]),
        (("--data", "test.csv", "--out", "folder.png"), ["--out", "folder.png"]),
        (("--data", "test.csv", "--table", "test.csv"), ["--table", "test.csv"]),
        ((*picture, "--table", "./a.png"), ["--table", "a.png"]),
    ):
        # There is no run either, which would be found out later.
        refused(command, own_folder, names, "fer.predict", "run", *arguments)


def test_what_is_wrong_in_the_data_is_named_and_nothing_is_written(
    train: Train, command: Command, own_folder: Path
) -> None:
    train()
    arguments = ("--out", "a.png", "--table", "a.csv")
    head, *lines = Path("test.csv").read_text().splitlines()

    def refuse(name: str, names: Sequence[object], *more: object) -> None:
        refused(
            command, own_folder, names, "fer.predict", "run", "--data", name, *arguments, *more
        )

    for i, (line, names) in enumerate(
        (
            (lines[3].replace(" ", " 256 ", 1).rsplit(" ", 1)[0], ["0..255", "'256'", "line 5"]),
            (lines[3].rsplit(" ", 1)[0], ["2304 pixels (48x48), got 2303", "line 5"]),
            ('""', ["2304 pixels (48x48), got 0", "line 5"]),
        )
    ):
        name = f"bad{i}.csv"
        Path(name).write_text("\n".join([head, *lines[:3], line, *lines[4:]]))
        refuse(name, [*names, name])
    Path("empty.csv").write_text("pixels\n")
    refuse("empty.csv", ["no rows", "empty.csv"])
    Path("twice.csv").write_text(f"pixels, Pixels\n{lines[0]},{lines[1]}\n")
    refuse("twice.csv", ["'pixels' appears twice", "twice.csv"])
    refuse("missing.csv", ["missing.csv"])
    refuse("test.csv", ["--worst needs emotions", "test.csv"], "--worst")


def test_labelled_images_other_than_the_runs_are_refused(
    table: Table, train: Train, command: Command, own_folder: Path
) -> None:
    train()
    # Test images that pass for training ones, for want of a usage.
    rows = frame(table)
    rows[rows.Usage == "PrivateTest"].drop(columns="Usage").to_csv("other.csv", index=False)
    data.load(Path("other.csv"))
    arguments = ("fer.predict", "run", "--data", "other.csv", "--out", "a.png", "--worst")
    refused(command, own_folder, ["the run's data", "other.csv"], *arguments)
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    settings["data"]["split"] = "random"
    Path("run/config.yaml").write_text(yaml.safe_dump(settings))
    arguments = ("fer.predict", "run", "--data", "faces.csv", "--out", "a.png", "--worst")
    refused(command, own_folder, ["split", "'random'"], *arguments)


@pytest.fixture
def photos(train: Train) -> list[NDArray[np.uint8]]:
    """Faces of test.csv: two in `faces`, one deeper, one beside, a broken one and other files."""
    train()
    faces = list(images_of("test.csv")[:4])
    Path("faces/deep").mkdir(parents=True)
    for name, face in zip(
        ("faces/b.PNG", "faces/a.png", "faces/deep/$c.png", "d.png"), faces, strict=True
    ):
        Image.fromarray(face).save(name)
    Path("faces/.hidden.png").write_text("hidden")
    Path("faces/Thumbs.db").write_text("no image")
    Path("bad.jpg").write_text("no image")
    return faces


def test_good_files_are_predicted_and_bad_ones_named_at_the_end(
    photos: list[NDArray[np.uint8]], command: Command
) -> None:
    done = command("fer.predict", "run", "bad.jpg", "d.png", "missing.png", "faces/a.png")
    assert done.code == 2
    _, *lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == ["d.png", "faces/a.png"]
    first, second = done.err.splitlines()
    assert first.startswith("error: not an image")
    assert first.endswith("bad.jpg")
    assert second == "error: cannot read missing.png: No such file or directory"


def test_with_standard_output_closed_the_table_is_written_and_bad_files_are_named(
    photos: list[NDArray[np.uint8]],
) -> None:
    line = f"{sys.executable} -m fer.predict run bad.jpg d.png --table t.csv >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: not an image")
    assert [row["path"] for row in rows_of("t.csv")] == ["d.png"]


def test_a_folder_is_searched_for_images_and_other_files_are_counted(
    photos: list[NDArray[np.uint8]], command: Command
) -> None:
    done = command("fer.predict", "run", "faces", "d.png", "--table", "t.csv", "--out", "t.png")
    assert done.code == 0, done
    assert done.err == "note: 1 file is skipped, not images; the first is faces/Thumbs.db\n"
    rows = rows_of("t.csv")
    assert list(rows[0]) == ["path", "predicted", *EMOTIONS]
    order = ["faces/a.png", "faces/b.PNG", "faces/deep/$c.png", "d.png"]
    assert [row["path"] for row in rows] == order
    shown = faces_in("t.png", 4)
    for place, index in enumerate((1, 0, 2, 3)):
        np.testing.assert_array_equal(shown[place], photos[index])
    # The same faces as a data file.
    assert command("fer.predict", "run", "--data", "test.csv", "--table", "data.csv").code == 0
    by_row = rows_of("data.csv")
    for row, index in zip(rows, (1, 0, 2, 3), strict=True):
        assert {name: row[name] for name in EMOTIONS} == {
            name: by_row[index][name] for name in EMOTIONS
        }


def test_without_a_good_file_nothing_is_written(
    photos: list[NDArray[np.uint8]], command: Command, own_folder: Path
) -> None:
    Path("empty").mkdir()
    table = ("--table", "t.csv")
    refused(
        command, own_folder, ["not an image", "bad.jpg"], "fer.predict", "run", "bad.jpg", *table
    )
    refused(
        command, own_folder, ["no image files", "empty"], "fer.predict", "run", "empty", *table
    )


@pytest.mark.parametrize("orientation", [1, 6])
def test_of_a_picture_that_is_not_square_the_part_that_was_seen_is_reported_and_shown(
    orientation: int, photos: list[NDArray[np.uint8]], command: Command
) -> None:
    size, place = "192x96", "column 48 and row 0"
    wide = Image.new("L", (192, 96))
    wide.paste(Image.fromarray(photos[0]).resize((96, 96), Image.Resampling.NEAREST), (48, 0))
    turned = wide
    if orientation == 6:  # it is stored lying on its side
        size, place = "96x192", "column 0 and row 48"
        turned = wide.transpose(Image.Transpose.ROTATE_270)
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide.save("wide.png", exif=exif)
    wide.resize((100, 92)).save("nearly.png")
    done = command("fer.predict", "run", "wide.png", "nearly.png", "--out", "seen.png")
    assert done.code == 0, done
    (note,) = done.err.splitlines()
    assert note.startswith(f"note: only the centre 96x96 of {size} pixels are used, from {place}")
    assert note.endswith("wide.png")
    seen = faces_in("seen.png", 2)[0].astype(float)
    middle = turned.crop((48, 0, 144, 96) if orientation == 1 else (0, 48, 96, 144))
    expected = np.asarray(middle.resize((48, 48), Image.Resampling.BILINEAR), float)
    assert np.abs(seen - expected)[1:-1, 1:-1].max() <= 1  # at the rim it sees what is beside


def test_a_name_that_no_font_has_is_shown_all_the_same() -> None:
    shares = np.array([[0.2, 0.7, 0.1]], np.float32)
    images = np.zeros((1, 48, 48), np.uint8)
    found = Predictions(images, None, shares, ("a", "b", "c"), [f"x/{'y' * 30}\udcff$\n$.png"])
    assert describe(found, 0)[0] == f"...{'y' * 14}\\udcff$\\n$.png: b 70%"
    assert draw_gallery(found, np.array([0]), "png").startswith(b"\x89PNG")
