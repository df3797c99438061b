"""Scores match scikit-learn's, and intervals have the right coverage."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from fer.training import metrics


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_scores_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    confusion = np.zeros((5, 5), dtype=np.int64)
    np.add.at(confusion, (true, predicted), 1)
    assert metrics.accuracy(confusion) == pytest.approx(reference.accuracy_score(true, predicted))
    assert metrics.macro_f1(confusion) == pytest.approx(
        reference.f1_score(true, predicted, average="macro", zero_division=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of classes that are only predicted
        expected = reference.balanced_accuracy_score(true, predicted)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(expected)


def test_the_interval_of_accuracy_is_the_binomial_one() -> None:
    confusion = np.array([[300, 100], [100, 500]])
    score = metrics.bootstrap(confusion, np.random.default_rng(0))["accuracy"]
    assert score.value == 0.8
    half = 1.96 * (0.8 * 0.2 / 1000) ** 0.5
    assert score.low == pytest.approx(0.8 - half, abs=0.004)
    assert score.high == pytest.approx(0.8 + half, abs=0.004)
