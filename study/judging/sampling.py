"""Samplers against each other on surrogates: how good the best is that each finds."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.random import Generator
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from study.engine.samplers import SAMPLERS, make_sampler
from study.judging.surrogate import Surrogate, fit
from study.pipeline import Only, Settings, Space
from study.spec.space import place, suggest, value_at

TRIALS = 100
SHOWN = (25, 50, 100)
DRAWN = 2000  # settings among which the best of a world is looked for


@dataclass(frozen=True)
class Candidate:
    """A sampler for each seed, and whether it has one rate for all optimizers.

    With `unit` a setting that has a range for each value of another one is a place in 0..1 of
    whichever range applies, so that a sampler without conditions can learn it.
    """

    sampler: Callable[[int], BaseSampler]
    unit: bool = False


CANDIDATES: Mapping[str, Candidate] = {
    "tpe": Candidate(lambda seed: make_sampler("tpe", seed, 0)),
    "random": Candidate(lambda seed: make_sampler("random", seed, 0)),
    "tpe-grouped": Candidate(lambda seed: TPESampler(**SAMPLERS["tpe"], group=True, seed=seed)),
    "tpe-unit": Candidate(lambda seed: make_sampler("tpe", seed, 0), unit=True),
    "gp-unit": Candidate(
        lambda seed: GPSampler(seed=seed, n_startup_trials=10, deterministic_objective=False),
        unit=True,
    ),
}


@dataclass(frozen=True)
class World:
    """A surrogate, and the noise of a score about it: a standard deviation."""

    surrogate: Surrogate
    noise: float
    begin: Sequence[Settings]  # what a search begins with
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
    """Worlds that might be the true one: surrogates of resampled trials."""
    begin = [each for each, given in zip(settings, by_hand, strict=True) if given]
    for _ in range(count):
        drawn = generator.integers(len(scores), size=len(scores))
        surrogate = fit([settings[i] for i in drawn], scores[drawn], space, generator)
        yield World(surrogate, noise, begin, settings[0])


def regrets(world: World, names: Sequence[str], seed: int) -> dict[str, list[float]]:
    """By sampler, points by which the one that looked best is behind the best that anyone found,
    after as many trials as SHOWN has."""
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
    """True and seen scores of the trials of one search."""
    generator = np.random.default_rng(seed)
    space = world.surrogate.space
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize", sampler=candidate.sampler(seed))
    asked = in_places(space) if candidate.unit else space
    truth, seen = [], []
    for number in range(TRIALS):
        if number < len(world.begin):
            study.enqueue_trial(parameters(world.begin[number], space, candidate.unit))
        trial = study.ask()
        settings = suggest(trial, asked, world.base)
        if candidate.unit:
            settings = from_places(settings, space)
        truth.append(float(world.surrogate.score([settings])[0]))
        seen.append(truth[-1] + generator.normal(0, world.noise))
        study.tell(trial, seen[-1])
    return np.array(truth), np.array(seen)


def in_places(space: Space) -> Space:
    """The space with one place in 0..1 for the ranges of a setting."""
    found: dict[str, BaseDistribution | Only] = {}
    for name, kind in space.items():
        if isinstance(kind, Only):
            found[f"{kind.setting}_place"] = FloatDistribution(0.0, 1.0)
        else:
            found[name] = kind
    return found


def from_places(settings: Settings, space: Space) -> dict[str, Any]:
    """Settings drawn from `in_places(space)` as `space` has them."""
    found = {key: value for key, value in settings.items() if not key.endswith("_place")}
    for kind in space.values():
        if isinstance(kind, Only) and kind.applies(found):
            found[kind.setting] = value_at(settings[f"{kind.setting}_place"], kind.distribution)
    return found


def parameters(settings: Settings, space: Space, unit: bool) -> dict[str, Any]:
    """The parameters of a trial with these settings."""
    found: dict[str, Any] = {}
    for name, kind in space.items():
        if not isinstance(kind, Only):
            found[name] = settings[name]
        elif kind.applies(settings):
            value = settings[kind.setting]
            key = f"{kind.setting}_place" if unit else name
            found[key] = place(value, kind.distribution) if unit else value
    return found
