"""Draw settings from a search space, and convert spaces to and from JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from study.pipeline import Only, Settings, Space


def suggest(trial: optuna.trial.BaseTrial, space: Space, base: Settings) -> dict[str, Any]:
    """Return all settings of a trial: `base`, updated with what the space varies.

    Unconditional parameters come first, so that a multivariate sampler sees them in every trial.
    """
    settings = dict(base)
    for name, kind in space.items():
        if not isinstance(kind, Only):
            settings[name] = _draw(trial, name, kind)
    for name, kind in space.items():
        if isinstance(kind, Only) and kind.applies(settings):
            settings[kind.setting] = _draw(trial, name, kind.distribution)
    return settings


def _draw(trial: optuna.trial.BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
    raise TypeError(f"unsupported distribution: {distribution}")


def parameters_of(settings: Settings, space: Space, base: Settings) -> dict[str, Any] | None:
    """Return the parameters of a trial with `settings`, or None if they are not in the space.

    Missing settings are taken from `base`.
    """
    whole = {**base, **settings}
    found: dict[str, Any] = {}
    given = set()
    for name, kind in space.items():
        if isinstance(kind, Only):
            if not kind.applies(whole):
                continue
            setting, distribution = kind.setting, kind.distribution
        else:
            setting, distribution = name, kind
        if setting not in whole or not holds(distribution, whole[setting]):
            return None
        found[name] = whole[setting]
        given.add(setting)
    fixed = (key for key in whole if key not in given)
    return found if all(whole[key] == base.get(key) for key in fixed) else None


def settings_of(space: Space) -> set[str]:
    """Return the settings that a space varies."""
    return {kind.setting if isinstance(kind, Only) else name for name, kind in space.items()}


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution contains a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(value, bool) or not isinstance(value, float | int):
        return False
    match distribution:
        case IntDistribution(low=low, high=high, step=step):
            return low <= value <= high and (value - low) % step == 0
        case FloatDistribution(low=low, high=high, step=float_step):
            steps = (value - low) / float_step if float_step else 0.0
            # The tolerance is Optuna's: sums of floats are inexact.
            return low <= value <= high and abs(steps - round(steps)) < 1e-8
    return False


def examples(space: Space, base: Settings, seed: int, count: int = 5) -> list[dict[str, Any]]:
    """Return random settings to measure the speed of trials.

    They include every value of the first numeric choice, such as the batch size.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    numeric = (
        (name, kind.choices)
        for name, kind in space.items()
        if isinstance(kind, CategoricalDistribution)
        and all(type(choice) is int for choice in kind.choices)
    )
    name, choices = next(numeric, ("", ()))
    for choice in choices:
        study.enqueue_trial({name: choice})
    return [suggest(study.ask(), space, base) for _ in choices or range(count)]


def place(value: float, within: BaseDistribution) -> float:
    """Return the position of a number in its range, 0..1, on a log scale for log ranges."""
    assert isinstance(within, FloatDistribution | IntDistribution)
    low, high = float(within.low), float(within.high)
    if within.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0


def value_at(place: float, within: BaseDistribution) -> float:
    """Return the number at a position in its range, 0..1; other positions lie outside."""
    assert isinstance(within, FloatDistribution | IntDistribution)
    low, high = float(within.low), float(within.high)
    if place in (0, 1):  # exactly: rounding could leave the range
        number = high if place else low
    elif within.log:
        number = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        number = low + place * (high - low)
    if isinstance(within, IntDistribution):
        return within.low + within.step * round((number - low) / within.step)
    return number


def describe(space: Space) -> dict[str, Any]:
    """Convert a space to JSON, to store and compare it."""
    return {name: _described(kind) for name, kind in space.items()}


def _described(kind: BaseDistribution | Only) -> Any:
    if isinstance(kind, Only):
        only = {"of": kind.of, "value": kind.value, "setting": kind.setting}
        return {"only": only, **_described(kind.distribution)}
    return json.loads(distribution_to_json(kind))


def described_as(definition: Mapping[str, Any], settings: Settings) -> Space:
    """Restore a space from `describe`; `settings` are those of any trial of the study."""
    space: dict[str, BaseDistribution | Only] = {}
    for name, described in definition.items():
        plain = {key: described[key] for key in ("name", "attributes")}
        distribution = json_to_distribution(json.dumps(plain))
        only = condition_of(name, definition, settings)
        space[name] = Only(**only, distribution=distribution) if only else distribution
    return space


def condition_of(
    parameter: str, definition: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    """Return the condition of a stored parameter as arguments of `Only`; empty without one.

    Formats up to 2 did not store the condition: conditional parameters were called
    VALUE_SETTING.
    """
    described = definition.get(parameter)
    if isinstance(described, dict) and "only" in described:
        return dict(described["only"])
    value, _, setting = parameter.partition("_")
    if parameter in settings or setting not in settings:
        return {}
    choosing = (
        name
        for name, each in definition.items()
        if isinstance(each, dict) and value in each.get("attributes", {}).get("choices", ())
    )
    return {"of": next(choosing, ""), "value": value, "setting": setting}
