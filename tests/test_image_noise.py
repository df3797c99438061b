"""The noise that shared validation images add to a comparison."""

import base64
import math

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from study.analysis import images
from study.analysis.comparison import confirmed
from study.analysis.effects import Effect, effects
from study.analysis.images import with_images
from study.analysis.masks import unpacked
from study.analysis.verdicts import judge
from study.spec.identity import Identity
from study.storage.records import RESULT, Result

SETTINGS, SEEDS = 6, 6
Right = NDArray[np.bool_]


def mask(right: Right) -> str:
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def searched(rng: np.random.Generator, cases: int, gain: float = 0.0) -> Right:
    """Which cases [SETTINGS, SEEDS, cases] are right: a difficulty each, in logits, what a setting
    finds easier or harder than others do, and what a seed does. Setting 1 is `gain` better.

    Two seeds of a setting disagree on a fifth of the cases, as they do on FER-2013.
    """
    difficulty = 0.8 + 2.5 * rng.standard_normal(cases, np.float32)
    own = 1.2 * rng.standard_normal((SETTINGS, 1, cases), np.float32)
    of_seed = 0.02 * rng.standard_normal((SETTINGS, SEEDS, 1), np.float32)
    logits = difficulty + own + of_seed
    logits[1] += gain
    right: Right = rng.random(logits.shape, np.float32) < 1 / (1 + np.exp(-logits))
    return right


def found_in(right: Right, masks: bool = True) -> list[Effect]:
    seeds = tuple(range(1, SEEDS + 1))
    return [
        Effect(
            str(number),
            seeds,
            tuple(each.mean(1).tolist()),
            right=tuple(map(mask, each)) if masks else (),
        )
        for number, each in enumerate(right)
    ]


def winners(cases: int, repeats: int, gain: float = 0.0, masks: bool = True) -> float:
    """Share of confirmations that find a real winner."""
    rng = np.random.default_rng(7)
    found = (found_in(searched(rng, cases, gain), masks) for _ in range(repeats))
    words = [confirmed(each, judge(each, "0"), "0") for each in found]
    return float(np.mean([word.startswith("a real winner") for word in words]))


def test_equal_settings_are_no_real_winners_though_they_share_their_images() -> None:
    repeats = 600
    assert winners(1000, repeats) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / repeats)
    assert winners(1000, repeats, masks=False) > 0.06  # what the seeds alone would say


def test_two_points_are_found_on_all_images_with_six_seeds() -> None:
    gain = 0.17  # in logits
    rng = np.random.default_rng(5)
    gained = [np.subtract(*searched(rng, 5742, gain).mean((1, 2))[1::-1]) for _ in range(30)]
    assert 100 * np.mean(gained) == pytest.approx(2, abs=0.15)
    assert winners(5742, 60, gain) > 0.8


def test_the_variance_is_that_of_two_way_clustering() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = found_in(searched(rng, 1000))[:2]
    gains = 100 * np.array(
        [unpacked(a) - unpacked(b) for a, b in zip(theirs.right, ours.right, strict=True)]
    )
    rest = gains - gains.mean()
    of_images = (rest.sum(0) ** 2).sum() / rest.size**2
    of_cells = (rest**2).sum() / rest.size**2
    assert with_images(2.0, theirs, ours) == pytest.approx(2.0 + of_images - of_cells)
    assert with_images(0.0, theirs, ours) == pytest.approx(of_images)  # no less than either


def test_masks_are_not_compared_where_a_run_lacks_one_or_the_split_follows_the_seed() -> None:
    ours, theirs, *_ = found_in(searched(np.random.default_rng(0), 1000))
    plain = found_in(searched(np.random.default_rng(0), 1000), masks=False)
    assert images.in_words([ours, theirs], {}) == images.COUNTED
    assert images.in_words([ours, plain[1]], {}) == images.SAME_FOR_ALL
    assert images.in_words(plain, {"split_seed": 42}) == images.SAME_FOR_ALL
    assert images.in_words(plain, {"split_seed": "seed"}) == images.OTHERS_PER_SEED
    counted, seeds_alone = judge([ours, theirs], "0")["1"], judge([ours, plain[1]], "0")["1"]
    assert counted.mean == pytest.approx(seeds_alone.mean)
    assert counted.high - counted.low > seeds_alone.high - seeds_alone.low


def test_masks_are_read_from_trials_but_not_where_seeds_have_other_images() -> None:
    study = optuna.create_study()
    values: dict[str, BaseDistribution] = {"x": CategoricalDistribution(["a", "b"])}
    values["seed"] = CategoricalDistribution([1, 2])
    right = searched(np.random.default_rng(0), 100)
    for x, of_value in zip("ab", right, strict=False):
        for seed, each in zip((1, 2), of_value, strict=False):
            score = float(each.mean())
            result = Result("complete", score, 1, 1, 1.0, right=mask(each)).stored()
            parameters = {"x": x, "seed": seed}
            study.add_trial(
                create_trial(
                    value=score,
                    intermediate_values={1: score},
                    params=parameters,
                    distributions=values,
                    user_attrs={RESULT: result},
                )
            )
    identity: Identity = {"space_definition": {"variants": {x: {"x": x} for x in "ab"}}}
    read = effects(study, identity)
    assert images.have_masks(read)
    assert [each.cases for each in read] == [100, 100]  # of 104 bits
    assert unpacked(read[1].right[0])[:100].tolist() == right[1, 0].tolist()
    assert not images.have_masks(effects(study, {**identity, "split_seed": "seed"}))
    assert images.have_masks(effects(study, {**identity, "split_seed": 42}))
