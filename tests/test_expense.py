"""The time that a study took, what pruning saved, and per-class scores."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from study.analysis.expense import expense_of
from study.analysis.per_class import ClassScore, class_scores
from study.storage.records import RESULT, Result

NOON = datetime(2026, 1, 1, 12)


def trial(
    number: int, epochs: int, ending: str = "complete", begin: float = 0, **attributes: Any
) -> FrozenTrial:
    """A trial that trains an epoch in ten seconds, from `begin` seconds after noon on."""
    repeats = attributes.pop("repeats", None)
    result = Result(ending, 0.5, 1, epochs, 10.0 * epochs, 0.5, repeats=repeats)
    made = create_trial(
        state=TrialState.COMPLETE if ending == "complete" else TrialState.PRUNED,
        value=0.5 if ending == "complete" else None,
        intermediate_values={epoch: 0.5 for epoch in range(1, epochs + 1)},
        user_attrs={RESULT: result.stored(), **attributes},
    )
    made.number = number
    made.datetime_start = NOON + timedelta(seconds=begin)
    made.datetime_complete = made.datetime_start + timedelta(seconds=10 * epochs)
    return made


def test_pruned_trials_were_spared_their_last_epochs_at_their_own_pace() -> None:
    spent = expense_of([trial(0, 10), trial(1, 3, "pruned", begin=20)], 10)
    assert (spent.epochs, spent.saved_epochs) == (13, 7)
    assert spent.seconds == 130
    assert spent.saved_seconds == pytest.approx(70)
    assert spent.clock == 100  # the second ran beside the first


def test_a_pause_between_trials_is_not_on_the_clock() -> None:
    assert expense_of([trial(0, 10), trial(1, 10, begin=5000)], 10).clock == 200


def test_what_diverged_or_was_trained_on_later_was_not_saved() -> None:
    first = trial(0, 4, "pruned")
    second = trial(1, 10, continues=0, continues_from=4)
    spent = expense_of([first, second, trial(2, 1, "diverged")], 10)
    assert (spent.epochs, spent.saved_epochs) == (4 + 6 + 1, 0)


def test_a_repeated_result_was_not_trained() -> None:
    spent = expense_of([trial(0, 10), trial(1, 10, repeats=0)], 10)
    assert (spent.epochs, spent.saved_epochs) == (10, 0)


def test_scores_of_classes_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, said = generator.integers(4, size=(2, 200))
    counts = confusion_matrix(truth, said).tolist()
    expected = precision_recall_fscore_support(truth, said)
    found = [[each.precision, each.recall, each.f1, each.cases] for each in class_scores(counts)]
    assert pytest.approx(np.array(expected)) == np.array(found, float).T


def test_a_class_that_never_occurs_has_no_scores() -> None:
    absent, wrong = class_scores([[0, 0, 0], [0, 0, 3], [0, 0, 3]])[:2]
    assert (absent.precision, absent.recall, absent.f1, absent.recall_interval) == (None,) * 4
    assert (wrong.precision, wrong.recall, wrong.f1) == (None, 0.0, 0.0)


def test_the_interval_of_a_small_class_is_wide() -> None:
    low, high = ClassScore(5, 5, 3).recall_interval or (0, 0)
    assert (round(low, 2), round(high, 2)) == (0.23, 0.88)
