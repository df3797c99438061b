"""The demo faces are deterministic, imbalanced like FER-2013, and cover all seven classes."""

import numpy as np

from fer.data import demo


def test_demo_faces_are_the_same_every_time() -> None:
    first = demo.demo_faces()
    demo.demo_faces.cache_clear()
    assert demo.demo_faces().sha256 == first.sha256


def test_demo_faces_have_usages_imbalance_and_wrong_labels() -> None:
    faces = demo.demo_faces()
    assert faces.counts() == {"Training": 1200, "PublicTest": 300, "PrivateTest": 300}
    counts = faces.part("Training").counts()
    assert min(counts, key=lambda name: counts[name]) == "disgust"
    assert max(counts, key=lambda name: counts[name]) == "happy"
    assert counts["disgust"] >= 10


def test_drawn_faces_of_one_expression_differ() -> None:
    faces = demo.draw(np.full(20, 3), np.random.default_rng(0))
    assert faces.shape == (20, 48, 48)
    assert len({face.tobytes() for face in faces}) == 20
    assert faces.std() > 20
