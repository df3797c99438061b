"""Both splits are stratified; the grouped one keeps duplicates of an image on one side."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer.data import Faces, Split, split
from fer.data.split import draw_subset, twin_groups
from fer.errors import UserError


def faces_of(kinds: list[int], labels: list[int], classes: int) -> Faces:
    """Images told apart by their kind: equal numbers are identical images."""
    images = torch.zeros(len(kinds), 48, 48, dtype=torch.uint8)
    numbers = torch.tensor(kinds)
    images[:, 0, 0], images[:, 0, 1] = numbers % 256, numbers // 256
    return Faces(images, torch.tensor(labels), tuple("abcdefg"[:classes]))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 5), st.integers(30, 200))
def test_grouped_never_has_an_image_on_both_sides(
    draw: st.DataObject, classes: int, count: int
) -> None:
    labels = [i % classes for i in range(count)]
    kinds = draw.draw(st.lists(st.integers(0, 2 * count), min_size=count, max_size=count))
    faces = faces_of(kinds, labels, classes)
    try:
        sides = split(faces, "grouped")
    except UserError:
        return  # too few distinct images of a class
    seen = [{tuple(image[0, :2].tolist()) for image in side.images} for side in sides]
    assert not seen[0] & seen[1]
    assert len(sides[0]) + len(sides[1]) == count


@pytest.mark.parametrize("how", ["grouped", "stratified"])
def test_each_class_is_split_80_to_20(how: str) -> None:
    labels = [0] * 50 + [1] * 100 + [2] * 350
    training, validation = split(faces_of(list(range(500)), labels, 3), how)  # type: ignore[arg-type]
    assert list(training.counts().values()) == [40, 80, 280]
    assert list(validation.counts().values()) == [10, 20, 70]


def test_a_subset_keeps_the_shares_of_the_classes_and_is_always_the_same() -> None:
    faces = faces_of(list(range(500)), [0] * 50 + [1] * 100 + [2] * 350, 3)
    subset = draw_subset(faces, 100)
    assert list(subset.counts().values()) == [10, 20, 70]
    assert torch.equal(subset.images, draw_subset(faces, 100).images)
    assert draw_subset(faces, 500) is faces


@pytest.mark.parametrize("how", ["grouped", "stratified"])
def test_the_seed_of_the_split_decides_its_sides_and_the_reports_is_the_default(
    how: Split,
) -> None:
    faces = faces_of(list(range(500)), [0] * 50 + [1] * 100 + [2] * 350, 3)
    validated = [split(faces, how, 400, *seed)[1].images for seed in ((), (42,), (7,))]
    assert torch.equal(validated[0], validated[1])
    assert not torch.equal(validated[0], validated[2])
    whole = [split(faces, how, 400, seed) for seed in (42, 7)]
    drawn = [
        {image.numpy().tobytes() for side in sides for image in side.images} for sides in whole
    ]
    assert drawn[0] == drawn[1]  # of the same subset


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_named(seed: int) -> None:
    with pytest.raises(UserError, match=f"--split-seed must be from 0 to 4294967295, got {seed}"):
        split(faces_of(list(range(20)), [0, 1] * 10, 2), "stratified", seed=seed)


def test_twin_groups_join_identical_images_alone() -> None:
    group = twin_groups(faces_of([5, 7, 5, 9, 7, 5], [0] * 6, 1))
    assert np.array_equal(group[[0, 2, 5]], [group[0]] * 3)
    assert group[1] == group[4]
    assert len(set(group.tolist())) == 3
