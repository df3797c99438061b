"""Detection of FER-2013 images with changed labels, and of the label order if there is one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.known import OF_EACH, draw
from fer import data
from fer.config import EMOTIONS
from fer.data import known
from tests.conftest import REAL_DATA, Command, Table, frame

ALPHABETICAL = sorted(EMOTIONS)
FER_PLUS = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"]
ORIGINAL = REAL_DATA.with_name("train_original.parquet")

Relabel = Callable[[pd.DataFrame], Any]


def renamed(order: list[str]) -> Relabel:
    """The labels as another order of the emotions has them."""
    places = [order.index(name) for name in EMOTIONS]
    return lambda rows: rows.emotion.map(places.__getitem__)


@pytest.fixture
def known_table(table: Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[pd.DataFrame]:
    """The rows of the table, all of which are known."""
    rows = frame(table)
    rows.to_csv("faces.csv", index=False)
    Path("known.txt").write_text(draw([Path("faces.csv")]))
    monkeypatch.setattr(known, "KNOWN", Path("known.txt"))
    known.known_images.cache_clear()
    yield rows
    known.known_images.cache_clear()


def warning_of(rows: pd.DataFrame, relabel: Relabel) -> str:
    rows.assign(emotion=relabel(rows)).to_csv("other.csv", index=False)
    return data.read(Path("other.csv")).warning


def test_labels_of_fer_2013_are_no_matter(known_table: pd.DataFrame) -> None:
    assert warning_of(known_table, lambda rows: rows.emotion) == ""
    assert warning_of(known_table.iloc[::-1], lambda rows: rows.emotion) == ""


@pytest.mark.parametrize(
    ("order", "wrong", "words"),
    [
        (FER_PLUS, 84, "in FER+'s order (neutral, happy, surprise,"),
        (ALPHABETICAL, 36, "in alphabetical order (angry, disgust, fear, happy, neutral,"),
        (
            [*EMOTIONS[::-1]],
            72,
            "0 neutral, 1 surprise, 2 sad, 3 happy, 4 fear, 5 disgust, 6 angry",
        ),
    ],
)
def test_an_order_is_recognised_from_the_images_that_carry_it(
    order: list[str], wrong: int, words: str, known_table: pd.DataFrame
) -> None:
    found = warning_of(known_table, renamed(order))
    assert f"{wrong} of 84 known FER-2013 images have other labels" in found
    assert f"as if labels were {words}" in found
    assert "here they are 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad" in found


def test_an_order_is_recognised_although_a_tenth_was_relabelled(known_table: pd.DataFrame) -> None:
    noisy = known_table.copy()
    noisy.loc[::12, "emotion"] = 3
    assert "in FER+'s order" in warning_of(noisy, renamed(FER_PLUS))


def test_labels_that_follow_no_order_are_counted_alone(known_table: pd.DataFrame) -> None:
    generator = np.random.default_rng(1)
    found = warning_of(known_table, lambda rows: pd.Series(generator.integers(0, 7, len(rows))))
    assert "of 84 known FER-2013 images have other labels" in found
    assert "as if" not in found
    one = known_table.emotion.to_numpy(copy=True)
    one[0] = 3
    assert warning_of(known_table, lambda rows: one) == (
        "1 of 84 known FER-2013 images has another label than in FER-2013"
    )
    # All of one class merged into another: no order either.
    merged = warning_of(known_table, lambda rows: rows.emotion.replace({1: 0}))
    assert merged.startswith("12 of 84 known")
    assert "as if" not in merged


def test_classes_that_were_left_out_and_closed_up_are_told(known_table: pd.DataFrame) -> None:
    rest = known_table[~known_table.emotion.isin([1, 5])]
    closed = warning_of(rest, lambda rows: rows.emotion.replace({2: 1, 3: 2, 4: 3, 6: 4}))
    assert "as if labels were 0 angry, 1 fear, 2 happy, 3 sad, 4 neutral;" in closed


def test_training_continues_after_the_warning_which_the_cache_keeps(
    known_table: pd.DataFrame, command: Command
) -> None:
    known_table.assign(emotion=renamed(FER_PLUS)(known_table)).to_csv("other.csv", index=False)
    for name in ("decoded", "cached"):
        options = ("--data", "other.csv", "--epochs", 1, "--out", name)
        done = command("fer.train", *options, "--remove", "fear")
        assert done.code == 0, done
        (line,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
        assert "84 of 84 known FER-2013 images have other labels" in line


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("fer.train", ("--out", "run")),
        ("study.run", ("--trials", 1, "--workers", 1)),
        ("study.compare", ("--vary", "seed", "--seeds", 1, "--workers", 1)),
    ],
)
def test_a_command_that_trains_begins_with_the_counts_of_its_classes(
    module: str, options: tuple[object, ...], table: Table, command: Command
) -> None:
    frame(table).to_csv("faces.csv", index=False)
    done = command(module, "--data", "faces.csv", "--epochs", 1, "--subset", 63, *options)
    assert done.code == 0, done
    lines = [line for line in done.out.splitlines() if line.startswith("classes ")]
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "angry 9, disgust 9, fear 9, happy 9, sad 9, surprise 9, neutral 9"
    ]
    assert done.out.index("classes ") < done.out.index("epoch")


def test_the_table_has_some_images_of_each_emotion_and_no_pixels() -> None:
    labels = list(known.known_images().values())
    assert np.bincount(labels).tolist() == pytest.approx([130] * 7, abs=4)
    assert all(len(digest) == known.DIGITS for digest in known.known_images())


@pytest.mark.skipif(
    not (REAL_DATA.exists() and ORIGINAL.exists()), reason="the real images are not here"
)
def test_the_real_images_carry_their_labels_and_make_the_table() -> None:
    assert draw([REAL_DATA, ORIGINAL]) == known.KNOWN.read_text()
    table = known.known_images()
    for path, usages in ((REAL_DATA, ("Training", "PublicTest")), (ORIGINAL, ("Training",))):
        dataset = data.read(path)
        assert dataset.warning == ""
        digests = data.faces.image_digests(dataset.images).astype(f"S{known.DIGITS}")
        is_known = np.isin(digests, list(table))
        in_alphabet = np.array([ALPHABETICAL.index(name) for name in EMOTIONS])
        shown = known.wrong_labels(digests, in_alphabet[dataset.labels])
        assert f"of {is_known.sum()} known" in shown
        assert "in alphabetical order" in shown
        for usage in usages:
            part = dataset.labels[is_known & (dataset.usages == data.USAGES.index(usage))]
            assert np.bincount(part).min() >= min(OF_EACH[usage], 28)
