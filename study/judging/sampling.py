"""Compare samplers on surrogates by the best settings that each finds."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.random import Generator
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from study.engine.samplers import SAMPLERS, make_sampler
from study.judging.surrogate import Surrogate, fit
from study.pipeline import Only, Settings, Space
from study.spec.space import place, suggest, value_at

TRIALS = 100
SHOWN = (25, 50, 100)
DRAWN = 2000  # random settings to find the best of a world
FALL = 20  # trials after which half are drawn around the hand-made settings
NEAR = 0.15  # standard deviation around a position in a range of 0..1
SWAPPED = 0.2  # probability that a choice is drawn anew


@dataclass(frozen=True)
class Candidate:
    """A sampler for each seed, and whether all optimizers share one learning rate.

    With `unit`, a setting that has a range for each value of another one is a position 0..1 in
    whichever range applies, so that a sampler without conditional parameters can learn it. With
    `by_hand`, a share of the trials is drawn around the best hand-made settings instead; it falls
    as FALL / (FALL + trials so far), from all (a prior as in PriorBand, arXiv 2306.12370).
    """

    sampler: Callable[[int], BaseSampler]
    unit: bool = False
    by_hand: bool = False


CANDIDATES: Mapping[str, Candidate] = {
    "tpe": Candidate(lambda seed: make_sampler("tpe", seed, 0)),
    "random": Candidate(lambda seed: make_sampler("random", seed, 0)),
    "tpe-grouped": Candidate(lambda seed: TPESampler(**SAMPLERS["tpe"], group=True, seed=seed)),
    "tpe-unit": Candidate(lambda seed: make_sampler("tpe", seed, 0), unit=True),
    "tpe-hand": Candidate(lambda seed: make_sampler("tpe", seed, 0), by_hand=True),
    "gp-unit": Candidate(
        lambda seed: GPSampler(seed=seed, n_startup_trials=10, deterministic_objective=False),
        unit=True,
    ),
}


@dataclass(frozen=True)
class World:
    """A surrogate, and the standard deviation of a score around it."""

    surrogate: Surrogate
    noise: float
    begin: Sequence[Settings]  # initial trials of a search
    base: Settings


def worlds(
    settings: Sequence[Settings],
    scores: NDArray[np.float64],
    by_hand: NDArray[np.bool_],
    space: Space,
    noise: float,
    count: int,
    generator: Generator,
) -> Iterator[World]:
    """Yield plausible worlds: surrogates fitted to resampled trials."""
    begin = [each for each, given in zip(settings, by_hand, strict=True) if given]
    for _ in range(count):
        drawn = generator.integers(len(scores), size=len(scores))
        surrogate = fit([settings[i] for i in drawn], scores[drawn], space, generator)
        yield World(surrogate, noise, begin, settings[0])


def regrets(world: World, names: Sequence[str], seed: int) -> dict[str, list[float]]:
    """Return by sampler the regret in points: how far the settings that looked best are behind the
    best found by any sampler, after each number of trials in SHOWN."""
    drawn = optuna.create_study(sampler=make_sampler("random", seed, 1))
    space, base = world.surrogate.space, world.base
    best = world.surrogate.score([suggest(drawn.ask(), space, base) for _ in range(DRAWN)]).max()
    runs = {name: search(world, CANDIDATES[name], seed) for name in names}
    best = max(best, *(truth.max() for truth, _ in runs.values()))
    return {
        name: [float(100 * (best - truth[np.argmax(seen[:count])])) for count in SHOWN]
        for name, (truth, seen) in runs.items()
    }


def search(
    world: World, candidate: Candidate, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return true and observed scores of the trials of one search."""
    generator = np.random.default_rng(seed)
    space = world.surrogate.space
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize", sampler=candidate.sampler(seed))
    asked = in_places(space) if candidate.unit else space
    truth: list[float] = []
    seen: list[float] = []
    for number in range(TRIALS):
        if number < len(world.begin):
            study.enqueue_trial(parameters(world.begin[number], space, candidate.unit))
        elif candidate.by_hand and world.begin and generator.random() < FALL / (FALL + number):
            best = world.begin[int(np.argmax(seen[: len(world.begin)]))]
            study.enqueue_trial(parameters(near(best, space, generator), space, candidate.unit))
        trial = study.ask()
        settings = suggest(trial, asked, world.base)
        if candidate.unit:
            settings = from_places(settings, space)
        truth.append(float(world.surrogate.score([settings])[0]))
        seen.append(truth[-1] + generator.normal(0, world.noise))
        study.tell(trial, seen[-1])
    return np.array(truth), np.array(seen)


def near(settings: Settings, space: Space, generator: Generator) -> dict[str, Any]:
    """Draw settings around others: numbers near theirs, most choices the same."""
    found = dict(settings)
    for name, kind in space.items():
        key, within = (kind.setting, kind.distribution) if isinstance(kind, Only) else (name, kind)
        if isinstance(kind, Only) and not kind.applies(found):
            continue
        if isinstance(within, CategoricalDistribution):
            if generator.random() < SWAPPED:
                found[key] = within.choices[generator.integers(len(within.choices))]
            continue
        at = generator.random()
        if not isinstance(kind, Only) or kind.applies(settings):  # else another choice's range
            at = place(settings[key], within) + NEAR * generator.standard_normal()
        found[key] = value_at(float(np.clip(at, 0, 1)), within)
    return found


def in_places(space: Space) -> Space:
    """Return the space with the conditional ranges of a setting merged into one position 0..1."""
    found: dict[str, BaseDistribution | Only] = {}
    for name, kind in space.items():
        if isinstance(kind, Only):
            found[f"{kind.setting}_place"] = FloatDistribution(0.0, 1.0)
        else:
            found[name] = kind
    return found


def from_places(settings: Settings, space: Space) -> dict[str, Any]:
    """Convert settings drawn from `in_places(space)` to those of `space`."""
    found = {key: value for key, value in settings.items() if not key.endswith("_place")}
    for kind in space.values():
        if isinstance(kind, Only) and kind.applies(found):
            found[kind.setting] = value_at(settings[f"{kind.setting}_place"], kind.distribution)
    return found


def parameters(settings: Settings, space: Space, unit: bool) -> dict[str, Any]:
    """Return the parameters of a trial with these settings."""
    found: dict[str, Any] = {}
    for name, kind in space.items():
        if not isinstance(kind, Only):
            found[name] = settings[name]
        elif kind.applies(settings):
            value = settings[kind.setting]
            key = f"{kind.setting}_place" if unit else name
            found[key] = place(value, kind.distribution) if unit else value
    return found
