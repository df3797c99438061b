"""Verdicts on values and claims: their wording, and their outcome on the stored results."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.analysis.commands import confirm_command
from study.analysis.comparison import confirmed, effect_rows
from study.analysis.effects import Effect, effects
from study.analysis.noise import PRIOR_DF, Blocks, Noise, noise_elsewhere, pooled
from study.analysis.verdicts import ALPHA, Verdict, claim, hochberg, judge
from study.options import DEFAULT_URL
from study.spec.identity import IDENTITY
from study.spec.report import FACTORS
from study.storage.records import kept
from study.storage.studies import load_studies

STORED = Path(__file__).parents[1] / "docs" / "results" / "studies.db"


def effect(label: str, *scores: float, seeds: tuple[int, ...] = ()) -> Effect:
    return Effect(label, seeds or tuple(range(len(scores))), scores)


LOW, HIGH = effect("low", 0.50, 0.51, 0.505), effect("high", 0.60, 0.612, 0.604)
NEAR = effect("near", 0.51, 0.50, 0.512)


def words(found: list[Effect], control: str, *rivals: str) -> dict[str, str]:
    return {label: each.word for label, each in judge(found, control, rivals).items()}


def claimed(found: list[Effect], control: str, *rivals: str) -> tuple[str, str]:
    return claim(found, judge(found, control, rivals), control, rivals)


def test_each_value_is_better_worse_or_not_told_apart() -> None:
    assert words([LOW, HIGH, NEAR], "low") == {"high": "better", "near": "not told apart"}
    assert words([LOW, HIGH, NEAR], "high") == {"low": "worse", "near": "worse"}


def test_a_claim_holds_if_all_rivals_are_worse_and_fails_if_one_is_better() -> None:
    assert claimed([LOW, HIGH], "high")[0] == "holds"
    word, why = claimed([LOW, HIGH, NEAR], "low")
    assert word == "does not hold"
    assert re.fullmatch(r"high is better, \+10\.03 points against low \[\+.*\]", why)
    word, why = claimed([LOW, NEAR], "low")
    assert word == "not told apart at this budget"
    assert re.search(r"near \+0\.23 points .* of \d\.\d points would be detected with 80%", why)


def test_a_claim_is_about_its_rivals_alone() -> None:
    assert claimed([LOW, HIGH, NEAR], "low", "near")[0].startswith("not told apart")
    assert claimed([LOW, HIGH, NEAR], "high", "near")[0] == "holds"
    once = effect("once", 0.49)
    assert claimed([LOW, HIGH, once], "high", "low")[0] == "holds"


def test_one_seed_is_no_verdict() -> None:
    once = effect("once", 0.7)
    assert words([LOW, once], "low") == {"once": "one seed"}
    assert words([once, LOW], "once") == {"low": "one seed"}
    assert claimed([LOW, once], "low") == (
        "no verdict",
        "two seeds of low and of once are needed",
    )
    assert claimed([LOW, HIGH, once], "low")[0] == "does not hold"  # whatever the other gives
    rows = effect_rows([LOW, once], "", "low", judge([LOW, once], "low"))
    assert rows[2][3:5] == ["+20.00", "one seed"]


def test_a_value_that_diverged_is_worse_and_a_control_that_did_ends_all_verdicts() -> None:
    gone = replace(HIGH, diverged=1)
    assert words([LOW, gone], "low") == {"high": "worse"}
    assert claimed([LOW, gone], "low") == ("holds", "every other value diverged")
    assert claimed([LOW, gone, NEAR], "low")[0].startswith("not told apart")
    assert judge([LOW, gone, NEAR], "high") == {}
    assert claimed([LOW, gone, NEAR], "high") == ("no verdict", "high diverged")
    rows = effect_rows([LOW, gone], "", "low", judge([LOW, gone], "low"))
    assert [row[3:5] for row in rows[1:]] == [["", ""], ["1 diverged", "worse"]]
    rows = effect_rows([LOW, gone], "", "high", {})
    assert [row[3] for row in rows[1:]] == ["", "1 diverged"]
    assert effect_rows([LOW], "", "", {})[0] == ["", "score", "seeds", "standard error"]


def test_nothing_is_told_apart_where_all_seeds_differ_alike() -> None:
    found = [effect("a", 0.5, 0.51), effect("b", 0.52, 0.53)]
    assert words(found, "a") == {"b": "not told apart"}
    assert judge(found, "a")["b"].points == "+2.00"
    assert judge(found, "a", elsewhere=Noise(0.1, 8))["b"].word == "better"


def test_a_winner_is_named_and_what_is_left_out_does_not_matter() -> None:
    once, gone = effect("once", 0.45), replace(HIGH, label="gone", diverged=1)

    def said(*found: Effect) -> str:
        return confirmed(found, judge(found, "low"), "low")

    assert said(LOW, HIGH, once, gone).startswith("a real winner: high is better, +10.03 points")
    assert said(LOW, NEAR).startswith("no winner, not told apart at this budget: near +0.23")
    assert said(LOW, effect("bad", 0.40, 0.412, 0.404)).startswith("no winner, low is better")
    assert said(LOW, once, gone) == "no verdict: two seeds of low and of another are needed"
    assert said(replace(LOW, diverged=1), HIGH) == "no verdict: low diverged"


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0.42, 0.48), min_size=3, max_size=6, unique=True),
    st.lists(st.floats(0.42, 0.48), min_size=3, max_size=6, unique=True),
)
def test_two_values_alone_are_compared_by_a_paired_t_test(a: list[float], b: list[float]) -> None:
    count = min(len(a), len(b))
    a, b = a[:count], b[:count]
    verdict = judge([effect("a", *a), effect("b", *b)], "b")["a"]
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    if math.isfinite(verdict.low):
        expected = (100 * interval.low, 100 * interval.high)
        assert (verdict.low, verdict.high) == pytest.approx(expected, abs=1e-6)
    assert verdict.mean == pytest.approx(100 * (sum(a) - sum(b)) / count)


def test_a_missing_run_takes_no_seed_effect_into_a_difference() -> None:
    control = effect("a", 0.40, 0.44, 0.46)
    other = effect("b", 0.47, 0.49, seeds=(1, 2))  # 3 points better where both were trained
    blocks = Blocks([control, other, effect("c", 0.41, 0.45, 0.47)])
    assert blocks.noise.variance == pytest.approx(0, abs=1e-18)
    assert blocks.noise.df == 3  # eight runs, three values, three seeds, and one for the mean
    mean, error = blocks.difference("b", "a")
    assert mean == pytest.approx(3)
    assert error > math.sqrt(2 / 3)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8))
def test_an_interval_excludes_zero_just_where_hochberg_rejects(p_values: list[float]) -> None:
    ordered = sorted(p_values, reverse=True)
    last = next((i for i, p in enumerate(ordered) if p <= ALPHA / (i + 1)), len(ordered))
    rejected = {*ordered[last:]}
    assert {p for p in p_values if p <= hochberg(p_values)} == rejected


def test_variances_are_weighted_by_their_degrees_of_freedom() -> None:
    assert pooled((Noise(1, 2), Noise(4, 4))) == Noise(3, 6)
    assert pooled((Noise(1, 2), Noise())) == Noise(1, 2)
    assert pooled([]) == Noise()


def stored_claim(setting: str) -> tuple[dict[str, Verdict], str, str]:
    studies = load_studies(f"sqlite:///file:{STORED}?mode=ro&uri=true")
    study = next(each for each in studies if kept(each, IDENTITY)["space"] == setting)
    identity, factor = kept(study, IDENTITY), FACTORS[setting]
    found = effects(study, identity)
    noise = noise_elsewhere(studies, identity)
    verdicts = judge(found, factor.control, factor.rivals, noise)
    return verdicts, *claim(found, verdicts, factor.control, factor.rivals)


def test_noise_is_lent_by_other_comparisons_with_the_same_data_and_budget_alone() -> None:
    studies = load_studies(f"sqlite:///file:{STORED}?mode=ro&uri=true")
    identities = {kept(each, IDENTITY)["space"]: kept(each, IDENTITY) for each in studies}
    noise = noise_elsewhere(studies, identities["oversampling"])
    others = ("batch-size", "fc-width", "pooling", "augmentation", "tta", "optimizer")
    alike = [each for each in studies if kept(each, IDENTITY)["space"] in others]
    assert noise == noise_elsewhere(alike, identities["oversampling"])
    assert math.sqrt(noise.variance) == pytest.approx(0.828, abs=5e-4)
    assert noise.df == PRIOR_DF
    assert noise_elsewhere(alike, identities["lr-adam"]) == Noise()  # fewer images and epochs
    assert noise_elsewhere(studies, identities["ablation"]) == Noise()  # it stands alone


def test_that_oversampling_harms_rested_on_a_lucky_variance() -> None:
    verdicts, word, why = stored_claim("oversampling")
    assert (word, verdicts["none"].word) == ("not told apart at this budget", "not told apart")
    assert why.startswith("none +0.95 points against disgust")


def test_the_reports_rate_of_rmsprop_is_worse_than_smaller_ones() -> None:
    verdicts, word, why = stored_claim("lr-rmsprop")
    assert word == "does not hold"
    assert why.startswith("0.0001 is better, +19.94 points against 0.001")
    assert [verdicts[rate].word for rate in ("3e-05", "0.0001", "0.0003")] == ["better"] * 3


def test_the_command_that_confirms_can_be_pasted() -> None:
    assert confirm_command("a b", DEFAULT_URL, None) == "python -m study.confirm --study 'a b'"
    other = confirm_command("x", "sqlite:///o.db", "examples.digits:pipeline", Path("f.csv"))
    assert other.endswith(
        "--study x --storage sqlite:///o.db --pipeline examples.digits:pipeline --data f.csv"
    )
