"""The verdict on a study, from a search with one seed and after confirmation with new seeds."""

from itertools import combinations
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from study.analysis.answer import answer_of
from study.analysis.chosen import winner_of
from study.analysis.flattery import lead_without_flattery
from study.analysis.worth import expected_best, gain_of_doubling, more_trials
from study.spec.identity import IDENTITY
from study.storage.records import CONFIG, ORIGIN, RESULT
from tests.test_image_noise import Right, mask, searched

SEARCH = {"kind": "search", "seed": 0, "sampler": {"name": "random"}, "pruner": {"name": "none"}}


def a_search(*trials: tuple[float, str, Right | None], sampler: str = "random") -> optuna.Study:
    """Complete trials: score, who put it in, and which validation cases it had right."""
    study = optuna.create_study(direction="maximize")
    startup = {} if sampler == "random" else {"n_startup_trials": 10}
    study.set_user_attr(IDENTITY, {**SEARCH, "sampler": {"name": sampler, **startup}})
    for score, origin, right in trials:
        result: dict[str, Any] = {"score": score, "epoch": 1, "epochs": 1, "best": score}
        result |= {"seconds": 1.0, "right": "" if right is None else mask(right)}
        attributes = {CONFIG: {}, RESULT: result, **({ORIGIN: origin} if origin else {})}
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, value=score, user_attrs=attributes)
        )
    return study


def confirmation(*scores: float, control: float = 0.5, search: str) -> optuna.Study:
    """A confirmation of `search` in which trial 3 reaches `scores` with fresh seeds."""
    study = optuna.create_study(direction="maximize")
    variants = {"hand-tuned": {"lr": 1}, "trial 3": {"lr": 2}}
    definition = {"variants": variants, "seeds": len(scores), "search": search}
    study.set_user_attr(
        IDENTITY, {"kind": "confirm", "space": "confirm", "space_definition": definition}
    )
    for seed, score in enumerate(scores):
        for lr, reached in ((1, control + 0.002 * (seed % 3)), (2, score)):
            values = {"lr": lr, "seed": seed}
            spread: dict[str, BaseDistribution] = dict.fromkeys(values, IntDistribution(0, 99))
            result = {"score": reached, "epoch": 1, "epochs": 1, "seconds": 1.0, "best": reached}
            attributes = {CONFIG: values, RESULT: result}
            study.add_trial(
                create_trial(
                    value=reached, params=values, distributions=spread, user_attrs=attributes
                )
            )
    return study


def test_a_search_leads_and_has_beaten_nothing() -> None:
    study = a_search((0.50, "by hand", None), (0.53, "", None), (0.4, "", None))
    answer = answer_of(study, [study])
    assert answer.words.startswith(
        "Trial 1, the best found by the search, is 3.00 points ahead of the best hand-made "
        "settings (by hand)"
    )
    assert "beat" not in answer.words
    assert answer.words.endswith("Not confirmed.")
    assert (answer.confirmed, answer.low) == (None, None)  # scores alone have no interval
    behind = a_search((0.50, "by hand", None), (0.49, "", None))
    assert "is 1.00 points behind the best hand-made settings" in answer_of(behind, []).words
    assert "found nothing yet" in answer_of(a_search((0.5, "by hand", None)), []).words
    assert "nothing to compare" in answer_of(a_search((0.5, "", None)), []).words


def test_the_best_of_many_equal_settings_is_not_ahead() -> None:
    rng = np.random.default_rng(3)
    raw, gains, above = [], [], 0
    for _ in range(40):
        right = searched(rng, 1000).reshape(-1, 1000)  # 36 runs of equal settings in truth
        found, hand = right[3:].astype(np.float32), right[:3].astype(np.float32)
        lead = lead_without_flattery(found, hand, rng)
        raw.append(100 * (found.mean(1).max() - hand.mean(1).max()))
        gains.append(lead.gain)
        above += lead.low > 0
    assert np.mean(raw) > 1
    assert abs(np.mean(gains)) < 0.25
    assert above <= 2  # 2.5% of 40


def test_a_better_setting_is_ahead_by_what_it_is_better() -> None:
    rng = np.random.default_rng(4)
    leads = []
    for _ in range(15):
        right = searched(rng, 2000, gain=0.5)
        found, hand = right[1, :1].astype(np.float32), right[2, :1].astype(np.float32)
        leads.append(lead_without_flattery(found, hand, rng))
    assert np.mean([each.gain for each in leads]) == pytest.approx(6, abs=1)
    assert np.mean([each.low > 0 for each in leads]) > 0.9


def test_what_both_have_right_adds_no_noise_and_the_words_have_the_interval() -> None:
    right = searched(np.random.default_rng(4), 1000)[:, 0]
    origins = ["by hand", "by hand", "", "", "", ""]
    trials = ((each.mean(), origin, each) for each, origin in zip(right, origins, strict=True))
    answer = answer_of(a_search(*trials), [])
    assert (answer.low or 0) < (answer.gain or 0) < (answer.high or 0)
    assert f"{answer.gain:+.2f} [{answer.low:+.2f}, {answer.high:+.2f}] (95%" in answer.words
    same = a_search((right[0].mean(), "by hand", right[0]), (right[0].mean(), "", right[0]))
    assert answer_of(same, []).high == 0


def test_only_a_confirmation_says_that_the_control_is_beaten() -> None:
    study = a_search((0.50, "by hand", None), (0.58, "", None))
    real = confirmation(0.56, 0.562, 0.558, 0.561, search=study.study_name)
    other = confirmation(0.4, 0.41, 0.42, 0.4, 0.41, search="another study")
    answer = answer_of(study, [study, other, real])
    assert answer.confirmed is True
    assert answer.words.startswith(
        "Confirmed over 4 fresh seeds: a real winner: trial 3 is better"
    )
    assert answer.short.startswith("beats hand-tuned: +5.8")
    assert answer == answer_of(real, [study, other, real])
    luck = confirmation(0.50, 0.51, 0.49, 0.505, search=study.study_name)
    answer = answer_of(study, [luck])
    assert answer.confirmed is False
    assert answer.words.startswith("Not confirmed over 4 fresh seeds: no winner")
    real.enqueue_trial({"lr": 2, "seed": 4})  # two more seeds were asked for
    real.ask()
    real.enqueue_trial({"lr": 1, "seed": 4})
    answer = answer_of(study, [real])
    assert answer.confirmed is None  # a look before the end
    assert answer.words.startswith("Not confirmed yet, 2 runs to come. So far a real winner")
    assert winner_of(real, []).confirmed is False
    begun = confirmation(0.56, search=study.study_name)
    assert answer_of(study, [begun]).confirmed is None  # one seed confirms nothing


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.data())
def test_the_expected_best_is_that_of_all_choices(
    scores: list[float], data: st.DataObject
) -> None:

    count = data.draw(st.integers(1, len(scores)))
    exact = np.mean([max(each) for each in combinations(scores, count)])
    assert expected_best(np.array(scores), count) == pytest.approx(exact, abs=1e-9)


def test_more_trials_are_worth_what_the_last_doubling_brought() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.4, 0.5, 60)
    text = more_trials(a_search(*((score, "", None) for score in scores)))
    assert "from 30 to 60 random settings" in text
    gain, low, high = gain_of_doubling(100 * scores, np.random.default_rng(0))
    assert f"{gain:.2f} points [{low:.2f}, {high:.2f}]" in text
    assert 0 <= low <= gain <= high


def test_a_sampler_that_learns_does_not_tell_what_more_trials_bring() -> None:
    scores = np.linspace(0.4, 0.5, 60)
    text = more_trials(a_search(*((score, "", None) for score in scores), sampler="tpe"))
    assert "20 trials drawn independently of others (--sampler random); this study has 10" in text
    assert "the best was trial 59 of 60" in text
