"""Pruning rules, scores and samplers replayed on complete curves."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import TrialState, create_trial

from study.judging import rules, sampling, stopping
from study.judging.choosing import pooled_deviation
from study.judging.curves import Curves, curves_of, settings_keys
from study.judging.stopping import judge, ranks, regret, spent_within
from study.judging.surrogate import held_out, places
from study.pipeline import Only
from study.spec.space import describe, described_as, place, value_at
from tests.blobs import Blobs
from tests.conftest import Command

EPOCHS = 10


@pytest.fixture(autouse=True)
def few_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard errors from fewer halves of the trials."""
    monkeypatch.setattr(stopping, "HALVES", 3)


# Two decimals, so that ties are common.
drawn = st.lists(
    st.lists(st.integers(0, 99).map(lambda each: each / 100), min_size=EPOCHS, max_size=EPOCHS),
    min_size=1,
    max_size=25,
)


def made(scores: Sequence[Sequence[float]]) -> Curves:
    trials = [
        create_trial(value=row[-1], intermediate_values=dict(enumerate(row, 1))) for row in scores
    ]
    return curves_of(trials, [])


def replayed(scores: Sequence[Sequence[float]], pruner: BasePruner) -> tuple[list[int], list[int]]:
    """Epochs of each trial with one of Optuna's pruners, and brackets if it has them."""
    study = optuna.create_study(direction="maximize", study_name="replayed", pruner=pruner)
    spent, brackets = [], []
    for row in scores:
        trial = study.ask()
        for epoch, score in enumerate(row, 1):
            trial.report(score, epoch)
            if trial.should_prune() and epoch < len(row):
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, row[-1])
        spent.append(epoch)
        if isinstance(pruner, HyperbandPruner):
            brackets.append(pruner._get_bracket_id(study, study.trials[-1]))
    return spent, brackets


@settings(deadline=None, max_examples=25)
@given(drawn)
def test_optunas_rules_are_replayed_as_optuna_decides(scores: list[list[float]]) -> None:
    curves = made(scores)
    for ours, theirs in [
        (rules.percentile(curves, 0.5), MedianPruner()),
        (rules.percentile(curves, 0.75), PercentilePruner(75)),
        (rules.halving(curves), SuccessiveHalvingPruner(1, 4)),
    ]:
        assert ours.tolist() == replayed(scores, theirs)[0]
    with_brackets, brackets = replayed(scores, HyperbandPruner(1, EPOCHS, 3))
    assert rules.halving(curves, 3, brackets=brackets).tolist() == with_brackets


def bank(count: int, told: float, seed: int = 0, epochs: int = 30) -> Curves:
    """Curves that rise to their end; `told` of the differences between ends shows early on."""
    generator = np.random.default_rng(seed)
    ends = generator.normal(0.5, 0.03, count)
    early = told * ends + (1 - told) * generator.permutation(ends)
    rise = np.linspace(0, 1, epochs)
    scores = (early - 0.2)[:, None] * (1 - rise) + ends[:, None] * rise
    return made((scores + generator.normal(0, 0.003, scores.shape)).tolist())


def test_a_rule_loses_nothing_where_early_epochs_tell_all_and_much_where_they_mislead() -> None:
    chosen = {name: rules.RULES[name] for name in ("none", "median", "screen", "Optuna's halving")}
    honest = judge(bank(60, told=1.0), chosen, orders=10, seed=0)
    for name in ("median", "screen"):
        assert honest[name].mean.regret < 0.5
        assert honest[name].mean.epochs < 0.8
    assert honest["none"].mean.epochs == 1
    assert honest["none"].mean.regret == 0
    # At equal epochs whoever looks at all trials for a while finds more.
    assert honest["screen"].mean.at_quarter < honest["none"].mean.at_quarter
    misled = judge(bank(60, told=0.0), chosen, orders=10, seed=0)
    assert misled["screen"].mean.regret > honest["screen"].mean.regret + 0.5
    assert misled["Optuna's halving"].mean.best_stopped > misled["median"].mean.best_stopped
    again = judge(bank(60, told=0.0), chosen, orders=10, seed=0)
    assert again == misled  # the same orders


def test_a_budget_cuts_an_order_where_its_epochs_end() -> None:
    curves = bank(30, told=1.0)
    whole = rules.none(curves)
    for budget in (0, 29, 30, 95, 30 * 30):
        spent = spent_within(curves, rules.none, budget)
        assert len(spent) == budget // 30
    assert spent_within(curves, rules.none, 10_000).tolist() == whole.tolist()
    assert regret(curves.final, whole, 30) == 0
    assert regret(curves.final, np.array([], dtype=int), 30) == pytest.approx(
        100 * np.ptp(curves.final)
    )


def test_second_chances_go_to_those_that_would_end_best_and_to_no_more_than_are_due() -> None:
    curves = bank(42, told=1.0)
    spent = rules.screen(curves)
    taken = np.flatnonzero(spent == 30)
    assert len(taken) == 1 + 7  # the control, and one for every six
    best = np.argsort(-curves.running[1:, 2])[:7] + 1
    assert set(taken) == {0, *best}


def test_rank_correlations_lie_in_their_intervals_and_grow_toward_the_end() -> None:
    rows = ranks(bank(60, told=0.3), np.random.default_rng(0))
    assert [row.epoch for row in rows] == sorted({row.epoch for row in rows})
    for row in rows:
        low, middle, high = row.everyone
        assert -1 <= low <= middle <= high <= 1
    assert rows[0].everyone[1] < rows[-1].everyone[1]


def test_settings_are_the_same_though_an_older_version_stored_fewer_of_them() -> None:
    stored = [
        {"lr": 0.1, "epochs": 4, "seed": 0},
        {"lr": 0.1, "epochs": 4, "seed": 1, "later": "its default"},
        {"lr": 0.2, "epochs": 4, "seed": 1, "later": "its default"},
    ]
    trials = [create_trial(value=0.5, user_attrs={"config": each}) for each in stored]
    first, same, other = settings_keys(trials)
    assert first == same != other
    assert settings_keys([]) == []


def test_the_deviation_over_seeds_is_that_within_settings() -> None:
    generator = np.random.default_rng(0)
    groups = [list(generator.normal(level, 0.01, 3)) for level in generator.normal(0.5, 0.1, 400)]
    assert pooled_deviation(groups) == pytest.approx(1.0, rel=0.1)
    assert math.isnan(pooled_deviation([]))


@given(
    low=st.floats(1e-6, 1.0),
    ratio=st.floats(1.5, 1e4),
    where=st.floats(0, 1),
    log=st.booleans(),
)
def test_a_place_in_a_range_and_its_number_are_inverse(
    low: float, ratio: float, where: float, log: bool
) -> None:
    distribution = FloatDistribution(low, low * ratio, log=log)
    assume(distribution.low < distribution.high)
    value = value_at(where, distribution)
    assert place(value, distribution) == pytest.approx(where, abs=1e-6)


def test_the_ends_of_a_range_are_exactly_in_it() -> None:
    rate = FloatDistribution(1e-5, 1e-2, log=True)  # exp(log(0.01)) is above 0.01
    assert (value_at(0.0, rate), value_at(1.0, rate)) == (1e-5, 1e-2)
    assert value_at(1.5, rate) > 1e-2
    assert value_at(0.4, IntDistribution(2, 10, step=4)) == 6


def test_the_space_of_a_study_is_read_back_as_it_was_described() -> None:
    space = {
        **Blobs.space,
        "width": IntDistribution(4, 64, log=True),
        "flip": CategoricalDistribution([True, False]),
    }
    settings = {"rule": "plain", "lr": 0.1, "width": 8, "flip": True}
    described = json.loads(json.dumps(describe(space)))
    assert described_as(described, settings) == space
    for each in described.values():
        each.pop("only", None)
    assert described_as(described, settings) == space  # as format 2 had it


def test_a_rate_has_the_place_in_the_range_of_its_own_optimizer() -> None:
    slow = {"rule": "plain", "lr": 1e-3}
    fast = {"rule": "sign", "lr": 1.0}
    assert places(slow, Blobs.space) == [1.0, 0.0, pytest.approx(0.0)]
    assert places(fast, Blobs.space) == [0.0, 1.0, pytest.approx(1.0)]
    assert isinstance(Blobs.space["sign_lr"], Only)


def with_best_rate(
    count: int, generator: np.random.Generator
) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    """Settings drawn at random, and scores of which a rate of 0.03 has the best."""
    rates = 10 ** generator.uniform(-3, 0, count)
    rules = generator.choice(["plain", "sign"], count)
    settings = [
        {"rule": str(rule), "lr": float(rate)} for rule, rate in zip(rules, rates, strict=True)
    ]
    return settings, 0.5 - 0.1 * np.abs(np.log10(rates) + 1.5)


def test_the_model_tells_held_out_scores_and_finds_no_pattern_in_noise() -> None:
    generator = np.random.default_rng(0)
    found, scores = with_best_rate(80, generator)
    told = held_out(found, scores, Blobs.space, generator)
    assert told.error < 0.5 * told.deviation
    assert told.rank > 0.85
    noise = held_out(found, generator.permutation(scores), Blobs.space, generator)
    assert noise.error > 0.8 * noise.deviation


def test_samplers_begin_alike_and_one_that_learns_beats_chance() -> None:
    generator = np.random.default_rng(0)
    found, scores = with_best_rate(60, generator)
    by_hand = np.arange(60) < 2
    parts = (found, scores, by_hand, Blobs.space, 0.001, 2, generator)
    for world in sampling.worlds(*parts):
        searches = {
            name: sampling.search(world, sampling.CANDIDATES[name], 0)
            for name in ("tpe", "random", "tpe-unit", "tpe-hand")
        }
        starts = [truth[:2].tolist() for truth, _ in searches.values()]
        assert starts[0] == starts[1] == starts[2] == starts[3]
        regrets = sampling.regrets(world, ["tpe", "random"], 0)
        assert all(each >= 0 for row in regrets.values() for each in row)
        assert np.mean(searches["tpe"][0][30:]) > np.mean(searches["random"][0][30:])


def test_settings_near_others_lie_in_the_space_and_mostly_have_their_choices() -> None:
    generator = np.random.default_rng(0)
    hand = {"rule": "sign", "lr": 0.5, "decay": 0.0}
    drawn = [sampling.near(hand, Blobs.space, generator) for _ in range(300)]
    assert all(each["decay"] == 0.0 for each in drawn)
    ranges = {"sign": (1e-3, 1.0), "plain": (1e-3, 10.0)}
    assert all(ranges[each["rule"]][0] <= each["lr"] <= ranges[each["rule"]][1] for each in drawn)
    same = [each["lr"] for each in drawn if each["rule"] == "sign"]
    assert 0.8 < len(same) / 300 < 0.98
    assert 0.2 < np.median(same) < 0.9
    sizes = {"n": IntDistribution(2, 10, step=2), "decay": FloatDistribution(0.0, 1.0)}
    for each in (sampling.near({"n": 6, "decay": 0.3}, sizes, generator) for _ in range(50)):
        assert each["n"] in (2, 4, 6, 8, 10)


BANK = Path(__file__).parents[1] / "docs" / "bank" / "bank.db"
BLOBS = ("--pipeline", "tests.blobs:pipeline")


def test_the_command_judges_a_study_and_writes_its_numbers(command: Command) -> None:
    for name, seed in [("a", 0), ("b", 1)]:
        options = ("--study", name, "--seed", seed, "--trials", 12, "--workers", 1)
        random = ("--sampler", "random", "--pruner", "none")
        assert command("study.run", *BLOBS, *options, *random).code == 0
    result = command(
        *("study.judge", "--study", "a", "b", "--orders", 3, "--out", "judged.json"),
        *("--samplers", "tpe", "random", "--worlds", 1),
    )
    assert result.code == 0, result
    assert "Optuna's hyperband" in result.out
    numbers = json.loads(Path("judged.json").read_text())
    assert numbers["curves"] == 22  # what both began with counts once
    assert numbers["rules"]["none"]["mean"]["epochs"] == 1
    assert numbers["score"]["repeated"] == 2
    assert len(numbers["samplers"]["random"]) == 1
    alone = command("study.judge", "--study", "a", "--orders", 2)
    assert "12 complete curves" in alone.out


def test_a_study_of_format_2_is_judged_samplers_and_all(command: Command) -> None:
    result = command(
        *("study.judge", "--storage", f"sqlite:///file:{BANK}?mode=ro&uri=true"),
        *("--study", "bank-default", "bank-default", "--orders", 1),
        *("--samplers", "random", "--worlds", 1),
    )
    assert result.code == 0, result
    assert "points on held-out settings" in result.out
    assert "0.00 points, that of the mean" not in result.out  # a study named twice counts once


def test_the_shipped_bank_is_judged_by_the_documented_command(command: Command) -> None:
    text = (BANK.parents[1] / "search.md").read_text()
    asked = re.search(
        r"^    python -m study\.judge --storage \S+ (--study .*)$", text, re.MULTILINE
    )
    assert asked is not None
    storage = f"sqlite:///file:{BANK}?mode=ro&uri=true"
    line = ("study.judge", "--storage", storage, *asked[1].split(), "--orders", 1)
    result = command(*line)
    assert result.code == 0, result
    assert "121 complete curves of 30 epochs" in result.out


def test_too_few_curves_and_studies_of_other_conditions_are_refused(command: Command) -> None:
    random = ("--sampler", "random", "--pruner", "none", "--workers", 1)
    command("study.run", *BLOBS, "--study", "few", "--trials", 3, *random)
    command("study.run", *BLOBS, "--study", "short", "--trials", 3, "--epochs", 2, *random)
    few = command("study.judge", "--study", "few")
    assert (few.code, few.out) == (2, "")
    assert "need at least 12 complete trials with different settings, got 3" in few.err
    both = command("study.judge", "--study", "few", "short")
    assert both.code == 2
    assert "'few' and 'short' trained under different conditions: epochs was 4" in both.err
    assert command("study.judge", "--study", "none").code == 2
    assert command("study.judge", "--study", "few", "--seed", -1).code == 2
    folder = command("study.judge", "--study", "few", "--out", ".")
    assert folder.code == 2
    assert "--out must be a file" in folder.err
