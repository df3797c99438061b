"""Advice on a search: one sentence each, and only if it applies."""

import json
import re
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.analysis import advice
from study.pipeline import Only
from study.spec.identity import IDENTITY
from study.spec.space import describe
from study.storage.records import CONFIG, RESULT, Result, result_of
from study.storage.studies import SEARCH_CHANGES

LR = FloatDistribution(1e-4, 1e-1, log=True)
SPACE = describe({"lr": LR})


def trial(
    score: float = 0.5,
    ending: str = "complete",
    best_epoch: int = 6,
    curve: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    within: Mapping[str, BaseDistribution] | None = None,
    **params: Any,
) -> FrozenTrial:
    within = dict(within or {"lr": LR})
    params = params or {"lr": 3e-3}
    result = Result(ending, score, best_epoch, len(curve), 1.0, score)
    complete = ending == "complete"
    return create_trial(
        params=params,
        distributions=within,
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=score if complete else None,
        intermediate_values=dict(enumerate(curve, 1)),
        user_attrs={CONFIG: dict(params), RESULT: result.stored()},
    )


def ranked(*trials: FrozenTrial) -> advice.Ranked:
    found = [(each, result) for each in trials if (result := result_of(each)) is not None]
    assert len(found) == len(trials)
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            9e-2,
            "lr 0.09, at the upper end of 0.0001 to 0.1, and 1 of the best 2 .* upwards, .*3.2",
        ),
        (1.1e-4, "at the lower end of 0.0001 to 0.1, .* downwards, for example to 3.2e-06"),
        (3e-3, ""),
    ],
)
def test_a_best_at_the_edge_of_its_range_says_which_way_to_extend_it(
    value: float, said: str
) -> None:
    sentence = advice.edge(ranked(trial(lr=value), trial(lr=3e-3)), "lr", SPACE)
    assert re.search(said, sentence) if said else sentence == ""


def test_an_edge_at_zero_is_none() -> None:
    within = {"dropout": FloatDistribution(0.0, 0.5)}
    none, much = (ranked(trial(within=within, dropout=each)) for each in (0.0, 0.5))
    assert advice.edge(none, "dropout", {}) == ""
    assert "upper end of 0 to 0.5" in advice.edge(much, "dropout", {})


def test_the_largest_of_several_numbers_is_an_edge_and_a_word_is_none() -> None:
    within = {"size": CategoricalDistribution([16, 32, 64]), "kind": CategoricalDistribution("ab")}
    found = ranked(trial(within=within, size=64, kind="a"))
    assert advice.edge(found, "size", {}) == (
        "The best trial has size 64, the largest of the 3 tried: try one above it."
    )
    assert advice.edge(found, "kind", {}) == ""
    assert advice.edge(ranked(trial(within=within, size=32, kind="a")), "size", {}) == ""


def test_a_setting_with_a_range_for_each_choice_is_named_with_its_choice() -> None:
    space = describe({"sgd_lr": Only("optimizer", "sgd", "lr", LR)})
    found = ranked(trial(within={"sgd_lr": LR}, sgd_lr=0.1))
    assert "The best trial has lr (sgd) 0.1" in advice.edge(found, "sgd_lr", space)


def test_the_share_that_diverged_is_reported_with_where_it_lies() -> None:
    fine = [trial() for _ in range(8)]
    gone = [trial(ending="diverged", lr=0.09) for _ in range(2)]
    assert advice.diverged([*fine, *gone], SPACE) == (
        "2 of 10 trials (20%) diverged, 2 of them in the upper third of lr: lower that end."
    )
    everywhere = [trial(ending="diverged", lr=each) for each in (2e-4, 3e-3, 9e-2)]
    assert "cannot be trained" in advice.diverged([*fine, *everywhere], SPACE)
    assert advice.diverged([*fine, gone[0]], SPACE) == ""


def test_trials_that_were_best_at_their_end_were_still_rising() -> None:
    late, early = trial(best_epoch=30), trial(best_epoch=20)
    assert advice.still_rising(ranked(late, late, late, early, early), 30).startswith(
        "3 of the best 5 trials peaked in their last 3 of 30 epochs"
    )
    assert "--epochs 60" in advice.still_rising(ranked(late), 30)
    assert advice.still_rising(ranked(late, late, early, early, early), 30) == ""
    assert advice.still_rising((), 30) == ""


def test_trials_that_were_best_in_the_first_tenth_overfit_from_there_on() -> None:
    early, late = trial(best_epoch=2), trial(best_epoch=20)
    assert "2 of the best 3 trials" in advice.best_early(ranked(early, early, late), 30)
    assert "first 3 epochs of 30" in advice.best_early(ranked(early, early, late), 30)
    assert advice.best_early(ranked(early, late, late), 30) == ""
    assert advice.best_early(ranked(trial(best_epoch=1)), 4) == ""  # there is no tenth


def test_few_trials_for_a_large_space_are_too_few() -> None:
    space = describe({"lr": LR, "a_x": Only("a", 1, "x", LR), "b_x": Only("a", 2, "x", LR)})
    sentence = advice.too_few([trial()] * 19, space)
    assert (
        "19 trials for a space of 2 settings: the usual minimum is 10 per setting, 20" in sentence
    )
    assert advice.too_few([trial()] * 20, space) == ""


def test_a_batch_size_that_was_tuned_has_its_warning() -> None:
    within = {"batch_size": CategoricalDistribution([16, 32])}
    both = [trial(within=within, batch_size=each) for each in (16, 32)]
    assert "tuned for the score, over 2 sizes" in advice.batch_size(both)
    assert advice.batch_size(both[:1]) == ""
    assert advice.batch_size([trial()]) == ""


def test_duplicates_are_counted_but_not_a_second_chance() -> None:
    same, other = trial(lr=1e-3), trial(lr=2e-3)
    assert advice.duplicates(ranked(same, same, other)).startswith("1 of 3 trials")
    assert advice.duplicates(ranked(trial(lr=1e-3, ending="pruned"), same, other)) == ""
    assert advice.duplicates(ranked(same, other)) == ""


def test_another_sampler_or_pruner_is_named_with_its_first_trial() -> None:
    changes = [{"from_trial": 20, "pruner": {"name": "none"}, "sampler": {"name": "random"}}]
    assert advice.search_changes(changes) == [
        "From trial 20 on, the study has another sampler, random and another pruner, none: "
        "earlier and later trials were chosen or stopped by different rules."
    ]
    assert advice.search_changes([]) == []


def curve(start: float, end: float) -> FrozenTrial:
    return trial(end, curve=(start, start, end, end, end))


def test_pruning_where_the_order_predicts_the_final_one_poorly_is_a_warning() -> None:
    stopped = trial(0.1, "pruned", curve=(0.1, 0.1))
    crossing = [curve(each / 10, 1 - each / 10) for each in range(8)]
    sentence = advice.early_order(ranked(stopped, *crossing))
    assert "stopped at epoch 2 (median of 1)" in sentence
    assert "8 complete ones" in sentence
    assert "correlation -1.00" in sentence
    alike = [curve(each / 20, each / 10) for each in range(8)]
    assert advice.early_order(ranked(stopped, *alike)) == ""
    assert advice.early_order(ranked(*crossing)) == ""  # nothing was stopped
    assert advice.early_order(ranked(stopped, *crossing[1:])) == ""  # too few


def study_of(*trials: FrozenTrial, space: Mapping[str, Any] = SPACE, **attributes: Any) -> Any:
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(
        IDENTITY, {"space_definition": json.loads(json.dumps(space)), "epochs": 10, "seed": 0}
    )
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    study.add_trials(trials)
    return study


def test_a_careful_search_has_nothing_to_be_warned_of() -> None:
    trials = [trial(0.5 + each / 100, lr=1e-3 * (1 + each / 5)) for each in range(12)]
    assert advice.advice(study_of(*trials)) == []


def test_a_careless_one_has_it_all() -> None:
    within = {"lr": LR, "batch_size": CategoricalDistribution([16, 32, 64])}
    space = describe({**within, "depth": IntDistribution(1, 3)})
    trials = [
        trial(0.5 + each / 100, best_epoch=10, within=within, lr=0.1, batch_size=16 << each % 3)
        for each in range(6)
    ]
    trials += [trial(ending="diverged", within=within, lr=0.09, batch_size=16)] * 2
    changes = [{"from_trial": 3, "pruner": {"name": "none"}}]
    said = advice.advice(study_of(*trials, space=space, **{SEARCH_CHANGES: changes}))
    words = (
        "upper end",
        "the largest",
        "diverged",
        "improving",
        "space of 3 settings",
        "The batch size",
    )
    for word in (*words, "same settings", "From trial 3"):
        assert sum(word in sentence for sentence in said) == 1, (word, said)


def test_a_search_without_a_complete_trial_is_advised_as_well() -> None:
    assert len(advice.advice(study_of(trial(ending="pruned")))) == 1  # too few trials
